"""docs/many_machines.md: its study files are read, and its manifest is YAML with what a RayJob needs."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from matrixrl.cli.main import COMMANDS
from matrixrl.cli.study_commands import checked_schema, schema_of
from matrixrl.studies.file import read_study_file
from matrixrl.studies.optuna_study import PRUNERS, SAMPLERS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "many_machines.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_study_files_of_the_page_are_read(tmp_path: Path) -> None:
    texts = blocks("toml")
    assert len(texts) == 2
    for number, text in enumerate(texts):
        path = tmp_path / f"{number}.toml"
        path.write_text(text)
        tunes = "[tune]" in text
        study, schema = read_study_file(
            path, schema_of, tunes=tunes, samplers=tuple(SAMPLERS), pruners=tuple(PRUNERS)
        )
        checked_schema(study, schema, list(study.points) or [{}])
        assert tuple(study.command.split()) in COMMANDS
    for name in (*SAMPLERS, *PRUNERS):
        assert name in texts[1]


def test_the_manifest_has_what_a_ray_job_needs() -> None:
    (text,) = blocks("yaml")
    job = yaml.safe_load(text)
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        for container in pod["containers"]:
            assert {"name", "image", "resources"} <= container.keys()
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes
    (workers,) = cluster["workerGroupSpecs"]
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    assert job["spec"]["entrypoint"].startswith("matrixrl sweep ")
