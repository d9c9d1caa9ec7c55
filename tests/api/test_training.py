"""`matrixrl.train` in a process of a program: endings, threads, event loops, signals, and what it puts back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import matrixrl
from matrixrl.api.display import progress_html
from matrixrl.cli.main import COMMANDS, Command
from matrixrl.tracking.status import Status, use
from tests.api import short
from tests.cli.descent import STEPS

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def short_trainer(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Makes `matmul train` the trainer that compiles nothing; returns its options."""
    monkeypatch.setitem(
        COMMANDS, ("matmul", "train"), Command("tests.api.short", "DescentConfig", "", own_parser=True)
    )
    yield short.OPTIONS
    short.OPTIONS.clear()


def settings(runs_dir: Path, **given: Any) -> matrixrl.TrainingSettings:
    return matrixrl.matmul(runs_dir=runs_dir, console="quiet", learning_rate=0.1, **given)


def test_a_run_is_trained_and_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = matrixrl.train(settings(tmp_path, run_name="r"))
    assert (run.name, run.status, run.system, run.path) == ("r", "finished", "matmul", tmp_path / "r")
    assert "the end" not in capsys.readouterr().out  # the command's result; ours is the run
    loss = run.scalars("loss")
    assert {name: column.dtype.kind for name, column in loss.items()} == {
        "step": "i",
        "value": "f",
        "time": "f",
    }
    assert np.array_equal(loss["step"], np.arange(1, STEPS + 1))
    assert loss["value"][0] == pytest.approx(0.405)  # x = 0.9
    assert np.array_equal(run.scalars()["loss"]["value"], loss["value"])
    with pytest.raises(matrixrl.ConfigError, match=r"no such metric; did you mean loss\?"):
        run.scalars("losss")
    table = run.episodes()
    assert {len(column) for column in table.values()} == {STEPS // 5}
    assert table["Solved"].dtype == np.bool_
    assert table["Global Episode"].dtype == np.int64
    assert table["Reward"].dtype == np.float64
    import pyarrow

    assert pyarrow.table(table).num_rows == STEPS // 5
    assert run.settings["learning_rate"] == run.settings.learning_rate == 0.1  # pyright: ignore
    assert "<td>finished</td>" in run._repr_html_()
    assert run.__rich__().row_count == 8
    assert matrixrl.open("latest", runs_dir=tmp_path) == run == matrixrl.open(run.path) == matrixrl.open(run)
    with pytest.raises(matrixrl.ConfigError, match=r"open\(\) absent: no run of this name"):
        matrixrl.open("absent", runs_dir=tmp_path)
    with pytest.raises(matrixrl.ConfigError, match="holds no run"):
        matrixrl.Run(tmp_path)


def test_an_interrupt_saves_and_the_run_resumes(tmp_path: Path, short_trainer: dict[str, Any]) -> None:
    before = signal.getsignal(signal.SIGINT)
    short_trainer |= {"signal_at": 7}
    previous = signal.signal(signal.SIGUSR1, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        run = matrixrl.train(settings(tmp_path))
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert run.status == "interrupted"
    assert run.summary.last_step < STEPS
    assert signal.getsignal(signal.SIGINT) == before
    short_trainer.clear()
    for resume in (run, run.name, str(run.path)):
        where: dict[str, Any] = {} if resume is not run.name else {"runs_dir": tmp_path}
        assert matrixrl.train(resume=resume, console="quiet", **where) == run
    assert (run.status, run.summary.attempts, run.summary.last_step) == ("finished", 4, STEPS)


def test_a_request_to_end_the_program_is_passed_on(tmp_path: Path, short_trainer: dict[str, Any]) -> None:
    heard = []
    previous = signal.signal(signal.SIGTERM, lambda *_: heard.append("after"))
    short_trainer |= {"stop_at": 7}
    try:
        assert matrixrl.train(settings(tmp_path)).status == "interrupted"
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert heard == ["after"]


def test_it_works_in_a_thread_and_in_an_event_loop(tmp_path: Path, short_trainer: dict[str, Any]) -> None:
    async def both() -> list[matrixrl.Run]:
        here = matrixrl.train(settings(tmp_path))
        return [here, await asyncio.to_thread(matrixrl.train, settings(tmp_path))]

    assert [run.status for run in asyncio.run(both())] == ["finished", "finished"]

    # A second training waits for nobody, and variables that the program sets meanwhile stay.
    opened, errors = threading.Event(), []
    short_trainer |= {"pause": 0.01}

    def train() -> None:
        opened.set()
        errors.append(matrixrl.train(settings(tmp_path)).status)

    thread = threading.Thread(target=train)
    thread.start()
    try:
        from matrixrl.api import training

        while not training._training.locked() and thread.is_alive():
            time.sleep(0.001)
        os.environ["OF_THE_PROGRAM"] = "1"
        with pytest.raises(matrixrl.ConfigError, match="another training runs in this process"):
            matrixrl.train(settings(tmp_path))
    finally:
        thread.join()
    assert errors == ["finished"]
    assert os.environ.pop("OF_THE_PROGRAM") == "1"


def test_a_failure_is_an_exception(tmp_path: Path, short_trainer: dict[str, Any]) -> None:
    short_trainer |= {"poisoned": [5]}
    with pytest.raises(matrixrl.TrainingError, match=r"loss is nan at step 5.*--resume-run r"):
        matrixrl.train(settings(tmp_path, run_name="r", max_rollbacks=0))
    assert matrixrl.open("r", runs_dir=tmp_path).status == "crashed"
    with pytest.raises(matrixrl.ConfigError, match=r"--run-name r"):
        matrixrl.train(settings(tmp_path, run_name="r"))
    with pytest.raises(matrixrl.ConfigError, match="benchmark=True"):
        matrixrl.train(settings(tmp_path, benchmark=True))
    with pytest.raises(matrixrl.ConfigError, match=r"resume=.*absent: no run of this name"):
        matrixrl.train(resume="absent", runs_dir=tmp_path)


PROGRAM = """
import json, logging, os, signal, sys
import jax
import matrixrl
from matrixrl.cli.main import COMMANDS, Command
COMMANDS["matmul", "train"] = Command("tests.api.short", "DescentConfig", "", own_parser=True)
jax.config.update("jax_enable_x64", True)

def state():
    return {
        "handlers": [str(signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM)],
        "environment": dict(os.environ),
        "jax": {name: str(value) for name, value in jax.config.values.items()},
        "streams": [id(stream) for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "levels": {name: logging.getLogger(name).level for name in ("", "jax", "absl", "wandb")},
    }

before = state()
run = matrixrl.train(matrixrl.matmul(runs_dir=sys.argv[1], console="quiet"))
after = state()
print(json.dumps([{name: after[name] for name in after if after[name] != before[name]}, run.status]))
"""


def test_the_process_is_as_it_was(tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path, "JAX_DEBUG_NANS": "true", "JAX_COMPILATION_CACHE_DIR": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [{}, "finished"]


def test_a_notebook_shows_progress() -> None:
    status = Status(terminal=False, shown=False)
    with use(status):
        status.progress("epoch 3 <self-play>", 5, 20, "games", "best rank 7")
        text, fraction = status.snapshot(100)
        shown = progress_html(text, fraction)
        with status.activity("compiling"):
            assert status.snapshot(100) == ("compiling  0.0 s", None) or status.snapshot(100)[1] is None
    assert 'value="0.2500"' in shown
    assert "epoch 3 &lt;self-play&gt;  5 of 20 games  best rank 7" in shown


def test_the_display_follows_the_status_and_is_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    from IPython import display

    from matrixrl.api import display as ours

    shown: list[str] = []
    updated = threading.Event()

    class Handle:
        def update(self, content: Any) -> None:
            shown.append(content.data)
            updated.set()

    monkeypatch.setattr(display, "display", lambda content, display_id: Handle())
    monkeypatch.setattr(ours, "INTERVAL_SECONDS", 0.001)
    with use(Status(terminal=False, shown=False)) as status, ours.notebook_progress(True):
        status.progress("update", 1, 4)
        assert updated.wait(60)
    assert 'value="0.2500"' in "".join(shown)
    assert shown[-1] == ""
    shown.clear()
    with ours.notebook_progress(None):  # this process is no kernel
        pass
    assert shown == []


def test_schemes_arrive_in_order_and_an_error_too(tmp_path: Path, short_trainer: dict[str, Any]) -> None:
    short_trainer |= {"finds": True}
    given = {"runs_dir": tmp_path, "console": "quiet", "learning_rate": 0.1}
    search = matrixrl.discover(**given)
    assert search.run is None
    assert [(found.rank, found.ring) for found in search] == [(8, "Z"), (7, "Z")]
    assert search.run is not None
    assert search.run.status == "finished"
    assert list(search) == []
    # Every solution of the lowest rank so far: Strassen's and Winograd's.
    assert [found.rank for found in matrixrl.discover(**given, every=True)] == [8, 7, 7]
    # A training that is left in the middle is saved, and resumes.
    short_trainer |= {"pause": 0.005}
    for found in matrixrl.discover(**given, run_name="left"):
        assert found.rank == 8
        break
    left = matrixrl.open("left", runs_dir=tmp_path)
    assert left.status == "interrupted"
    assert left.summary.last_step < STEPS
    search = matrixrl.discover(**given)
    next(search)
    with pytest.raises(KeyError, match="enough"):
        search.throw(KeyError("enough"))
    assert search.run is not None
    assert search.run.status == "interrupted"
    short_trainer |= {"pause": 0.0, "poisoned": [15]}
    search = matrixrl.discover(**given, max_rollbacks=0)
    assert next(search).rank == 8
    with pytest.raises(matrixrl.TrainingError, match="loss is nan at step 15"):
        next(search)
