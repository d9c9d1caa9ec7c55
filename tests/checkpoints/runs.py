"""Real processes of a trainer on a tiny setting, and what two runs must have in common."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matrixrl.checkpoints.store import CheckpointStore
from matrixrl.tracking.audit import audit
from matrixrl.tracking.events import is_wall_clock
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.summary import summarize

ROOT = Path(__file__).resolve().parents[2]

# Seed 2 finds one scheme of rank 4 in the first epoch, after which games get three moves; programs compile quickly.
TINY = shlex.split("""
    --preset dev --size 1 1 3 --seed 2 --tighten-step-limit --ring F2 --step-margin 2 --num-epochs 3
    --episodes-per-epoch 6 --parallel-games 4 --updates-per-epoch 7 --log-interval 3 --pretraining-steps 10
    --num-simulations 4 --num-candidates 4 --replay-size 16 --width 8 --head-width 8
    --num-blocks 0 --batch-size 8 --evaluation-interval 2 --evaluation-games 2
    --no-stop-at-record --refinement-rounds 20 --partial-solution-fraction 0.5
""")


SIGNALLED = Path(__file__).with_name("signalled.py")


@dataclass(frozen=True)
class System:
    """A trainer that the tests of faults run with.

    Attributes:
      name: on the command line.
      tiny: flags of a run that takes seconds, after `matrixrl <name> train`.
      same: fields of the JSON result in which two equal runs agree.
      moments: in words, what `signalled.py` is told to send a signal at.
    """

    name: str
    tiny: Sequence[str]
    same: Sequence[str]
    moments: Mapping[str, str]

    def command(self, *arguments: str, moment: str | None = None, number: str = "SIGTERM") -> list[str]:
        """`matrixrl <name> train`; with a moment the process sends itself a signal at it."""
        program = ["-m", "matrixrl.cli.main"] if moment is None else [str(SIGNALLED), moment, number]
        return [sys.executable, *program, self.name, "train", *arguments]


MATMUL = System(
    name="matmul",
    tiny=TINY,
    same=("params_sha256", "global_step", "episodes", "epochs", "best_rank", "ring"),
    moments={
        "compile": "advance:pretrain:1",
        "pre-training": "advance:pretrain:3",
        "self-play": "advance:self-play:3",
        "update": "advance:train:2",
        "evaluation": "advance:evaluate:2",
        "checkpoint": "write:3",
        "last checkpoint": "write:last",
        "finish": "finish:1",
    },
)
HACKMATRIX = System(
    name="hackmatrix",
    # Twenty-five updates in chunks of two, of which the last is not full; long enough to be met in the middle.
    tiny=shlex.split("""
        --preset dev --seed 3 --num-envs 8 --num-steps 64 --num-minibatches 2 --update-epochs 4 --hidden-dim 32
        --total-timesteps 12800 --log-interval 2 --torso mlp --features observation
    """),
    same=("params_sha256", "global_step", "update_step", "episodes", "mean_return", "highest_stage"),
    moments={
        "compile": "advance:chunk:1",
        "update": "advance:chunk:3",
        "checkpoint": "write:2",
        "last checkpoint": "write:last",
        "finish": "finish:1",
    },
)


def environment(cache: Path) -> dict[str, str]:
    """Of a trainer on one thread; compiled programs are kept in `cache`."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
        "OMP_NUM_THREADS": "1",
    }


def run(env: Mapping[str, str], command: Sequence[str], status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    return json.loads(done.stdout.splitlines()[-1])


def recorded_steps(folder: Path) -> int:
    """The last step of a journal that another process may be writing; 0 before there is one."""
    try:
        with sqlite3.connect(f"file:{folder / 'journal.sqlite'}?mode=ro", uri=True) as connection:
            tables = ("stream", "moves")
            return max(
                connection.execute(f"SELECT coalesce(max(step), 0) FROM {t}").fetchone()[0] for t in tables
            )
    except sqlite3.Error:
        return 0


def history(folder: Path) -> dict[str, list[Any]]:
    """Everything that two equal runs have in common, wall-clock values aside."""
    with JournalReader(folder) as reader:
        assert reader.damage == []
        rows: dict[str, list[Any]] = {
            "stream": [
                (r.step, {k: v for k, v in r.metrics.items() if not is_wall_clock(k)})
                for r in reader.stream()
            ],
            "episodes": [(e.step, tuple(e.values)) for e in reader.episodes()],
            "moves": [tuple(m)[0:1] + tuple(m)[2:7] for m in reader.moves()],
            "marks": [(m.step, m.rows) for m in reader.marks()],
            "found": [(n.step, n.text) for n in reader.notes() if n.text.startswith("episode ")],
        }
        artifacts = [f for f in reader.files() if f.kind == "artifact"]
        rows["files"] = [(f.step, f.path, f.sha256) for f in artifacts]
        counts = {
            table: len(reader.ids(table)) for table in ("stream", "episodes", "moves")
        }  # with what was superseded
    rows["counts"] = [counts]
    names = ("scheme.json", "scheme_f2.json", "scheme.txt", "scheme.png")
    rows["bytes"] = [(folder / name).read_bytes() if (folder / name).exists() else None for name in names]
    return rows


def assert_equal_runs(folder: Path, reference: Path) -> None:
    mine, theirs = history(folder), history(reference)
    for table in theirs:
        assert mine[table] == theirs[table], table
    report = audit(folder)
    assert report.gaps == [], report.gaps


def kill_at_first_checkpoint(command: Sequence[str], run_dir: Path, variables: Mapping[str, str]) -> None:
    """Runs a command until its run has a checkpoint, and kills it by SIGKILL."""
    process = subprocess.Popen(
        command, env=variables, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 250
    while CheckpointStore(run_dir).steps() == [] and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors
    assert summarize(run_dir).state == "stale"
