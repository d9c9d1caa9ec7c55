"""docs/many_machines.md: its study files are read, and its manifest is YAML with what a RayJob needs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import yaml

from matrixrl.cli.main import COMMANDS
from matrixrl.cli.parse import parse
from matrixrl.cli.study_commands import checked_schema, schema_of
from matrixrl.cli.study_sweep import SweepCommand
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


# Fields of a RayJob and of what it holds that the manifest may use, with their types: those of the API ray.io/v1.
JOB = {
    "entrypoint": str,
    "shutdownAfterJobFinishes": bool,
    "rayClusterSpec": dict,
    "ttlSecondsAfterFinished": int,
}
CLUSTER = {"headGroupSpec": dict, "workerGroupSpecs": list, "rayVersion": str}
HEAD = {"rayStartParams": dict, "template": dict, "serviceType": str}
WORKERS = {
    "groupName": str, "replicas": int, "minReplicas": int, "maxReplicas": int, "rayStartParams": dict, "template": dict,
}  # fmt: skip
POD = {"containers": list, "volumes": list}
CONTAINER = {"name": str, "image": str, "resources": dict, "volumeMounts": list, "env": list}


def check_fields(given: dict[str, Any], known: dict[str, type], needed: set[str]) -> None:
    assert needed <= given.keys() <= known.keys()
    assert {name: type(value) for name, value in given.items()} == {name: known[name] for name in given}


def test_the_manifest_is_a_ray_job() -> None:
    """Checked by hand against the API: its schema is in no package that the tests install."""
    (text,) = blocks("yaml")
    job = yaml.safe_load(text)
    assert job.keys() == {"apiVersion", "kind", "metadata", "spec"}
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", job["metadata"]["name"])
    check_fields(job["spec"], JOB, {"entrypoint", "rayClusterSpec"})
    cluster = job["spec"]["rayClusterSpec"]
    check_fields(cluster, CLUSTER, {"headGroupSpec", "workerGroupSpecs"})
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    check_fields(head, HEAD, {"rayStartParams", "template"})
    check_fields(workers, WORKERS, {"groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"})
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    for group in (head, workers):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        assert group["template"].keys() <= {"metadata", "spec"}
        check_pod(group["template"]["spec"])
    # The head trains nothing, and has the study's folder.
    assert head["rayStartParams"]["num-cpus"] == "0"
    mounts = [mount["mountPath"] for mount in head["template"]["spec"]["containers"][0]["volumeMounts"]]
    assert re.search(rf"--study-dir {mounts[0]}/", job["spec"]["entrypoint"])


def check_pod(pod: dict[str, Any]) -> None:
    check_fields(pod, POD, {"containers"})
    volumes = pod.get("volumes", [])
    assert all(volume.keys() == {"name", "persistentVolumeClaim"} for volume in volumes)
    assert all(volume["persistentVolumeClaim"].keys() == {"claimName"} for volume in volumes)
    for container in pod["containers"]:
        check_fields(container, CONTAINER, {"name", "image", "resources"})
        for amounts in container["resources"].values():
            # Quantities: a whole number of cores as text, and memory with a binary suffix.
            assert re.fullmatch(r"\d+", amounts["cpu"])
            assert re.fullmatch(r"\d+[KMGT]i", amounts["memory"])
        assert container["resources"].keys() == {"requests", "limits"}
        for mount in container.get("volumeMounts", []):
            assert mount.keys() == {"name", "mountPath"}
            assert mount["name"] in {volume["name"] for volume in volumes}


def test_the_entrypoint_of_the_manifest_is_a_command_line() -> None:
    (text,) = blocks("yaml")
    words = shlex.split(yaml.safe_load(text)["spec"]["entrypoint"])
    assert words[:2] == ["matrixrl", "sweep"]
    command = parse(SweepCommand, words[2:], prog="matrixrl sweep", description="")
    assert (command.on, command.ray_address, command.location) == ("ray", "auto", "/study/out")
