"""Runs of the version before the systems became packages: they open, resume, audit, and give the same numbers.

The archive holds two run folders with a checkpoint in the middle. Hashes of parameters hold for the kind of processor
that recorded them; elsewhere the rows are compared with a tolerance.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from matrixrl.tracking.audit import audit
from matrixrl.tracking.events import is_wall_clock
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.summary import summarize

ROOT = Path(__file__).parents[2]
ARCHIVE = ROOT / "tests" / "golden" / "runs_before_0.2.tar.xz"
FLAGS = "--xla_backend_optimization_level=0"
HASHES = {
    "hackmatrix": "aa92544858f1342009b532e6622652044752d8fcfb305d87a530ac43dd3b0c39",
    "matmul": "b9f4a2ec2e112d1fc408fad7913a5e8241427f08b3ffd602b5bbac6bc1297c72",
}
RECORDED_ON = "Intel(R) Xeon(R) Processor @ 2.50GHz"
NEW = {"train/learning_rate"}
"""Metrics that rows did not have then."""


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    for system in HASHES:
        name = json.loads((tmp_path / system / "run.json").read_text())["name"]
        shutil.move(tmp_path / system, tmp_path / name)
    return tmp_path


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")


def rows(folder: Path) -> list[tuple[int, dict[str, Any]]]:
    with JournalReader(folder) as reader:
        return [
            (row.step, {name: value for name, value in row.metrics.items() if not is_wall_clock(name)})
            for row in reader.stream()
        ]


@pytest.mark.parametrize("system", HASHES)
def test_a_run_of_an_earlier_version_opens_and_audits(system: str, runs: Path) -> None:
    folder = runs / f"{system}-half"
    summary = summarize(folder)
    assert (summary.state, summary.system, summary.attempts) == ("finished", system, 1)
    assert summary.last_step > 0
    assert len(rows(folder)) > 0
    result = audit(folder, server=False)
    assert result.agrees, result


@pytest.mark.slow
@pytest.mark.parametrize("system", HASHES)
def test_a_run_of_an_earlier_version_resumes_to_the_same_numbers(system: str, runs: Path) -> None:
    folder = runs / f"{system}-half"
    before = rows(folder)
    done = subprocess.run(
        [
            sys.executable, "-m", "matrixrl.cli.main", system, "train", "--resume-run", folder.name,
            "--runs-dir", str(runs), "--no-wandb", "--console", "quiet", "--json",
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "XLA_FLAGS": FLAGS, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    if processor() == RECORDED_ON:
        assert result["params_sha256"] == HASHES[system]
    after = rows(folder)
    assert [step for step, _ in after] == [step for step, _ in before]
    for (step, now), (_, then) in zip(after, before, strict=True):
        assert now.keys() - NEW == then.keys() - NEW, step
        for name in then:
            assert now[name] == pytest.approx(then[name], rel=1e-3, abs=1e-5), (step, name)
