"""The loop: what is recorded before what, when a state is saved, and what a signal does."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from matrixrl.checkpoints import format as checkpoint_format
from matrixrl.checkpoints.format import Snapshot
from matrixrl.checkpoints.store import CheckpointStore
from matrixrl.config import CheckpointConfig, TrackingConfig
from matrixrl.devices.coordinator import SingleCoordinator
from matrixrl.tracking.events import ScalarRow
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.recorder import NullRecorder, Recorder
from matrixrl.tracking.run import Run, open_run
from matrixrl.training.checkpointing import CheckpointError, CheckpointFollower, CheckpointManager
from matrixrl.training.loop import StopRequest, run_loop
from tests.devices.threads import ThreadCoordinator, run_together

CHUNKS = 9


@dataclass(frozen=True)
class Count:
    started: int = 0
    recorded: int = 0


class Counter:
    """Counts to `CHUNKS`; recording lags one chunk behind, except before every third chunk."""

    def __init__(self, stop: StopRequest | None = None, stop_at: int | None = None, size: int = 3) -> None:
        self.saved: list[tuple[int, Count]] = []
        self.stop_after: tuple[int, StopRequest] | None = None
        self._stop, self._stop_at, self._size = stop, stop_at, size

    def finished(self, state: Count) -> bool:
        return state.started == CHUNKS

    def needs_record(self, state: Count) -> bool:
        return state.started % 3 == 0

    def advance(self, state: Count) -> tuple[Count, int]:
        if state.started + 1 == self._stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return replace(state, started=state.started + 1), state.started + 1

    def record(self, state: Count, outcome: int, run: Recorder) -> Count:
        run.record([ScalarRow(run.clock.tick(), {"outcome": outcome})])
        if self.stop_after is not None and outcome == self.stop_after[0]:
            self.stop_after[1].ask("the test")
        return replace(state, recorded=state.recorded + 1)

    def snapshot(self, state: Count, step: int) -> Snapshot:
        self.saved.append((step, state))
        return Snapshot(step, {"x": np.zeros(self._size, np.uint8)}, {"started": state.started})


def new_run(path: Path, **settings: str) -> Run:
    config = TrackingConfig(runs_dir=path, console="quiet", **settings)  # pyright: ignore[reportArgumentType]
    return open_run(config, system="matmul", name_prefix="count", run_config={})


def play(path: Path, trainer: Counter, stop: StopRequest, config: CheckpointConfig) -> tuple[Count, str]:
    with new_run(path, run_name="c") as run:
        manager = CheckpointManager(config, run, {})
        assert manager.resume() is None
        result = run_loop(trainer, Count(), run, stop, manager)
        manager.close()
    return result


def test_a_state_is_saved_only_when_everything_is_recorded(tmp_path: Path) -> None:
    trainer = Counter()
    with StopRequest() as stop:
        state, ending = play(tmp_path, trainer, stop, CheckpointConfig(save_interval_chunks=2))
    assert (state, ending) == (Count(CHUNKS, CHUNKS), "finished")
    assert [step for step, _ in trainer.saved] == [2, 4, 6, 8, 9]
    assert all(step == state.started == state.recorded for step, state in trainer.saved)
    with JournalReader(tmp_path / "c") as reader:
        assert [row.metrics for row in reader.stream()] == [{"outcome": n} for n in range(1, CHUNKS + 1)]
        files = list(reader.files())
    assert [(record.step, record.path) for record in files] == [
        (s, f"checkpoints/{s}") for s in (2, 4, 6, 8, 9)
    ]
    assert all(record.size_bytes > 0 and record.seconds > 0 for record in files)


def test_sigterm_finishes_the_chunk_and_saves(tmp_path: Path) -> None:
    with StopRequest() as stop:
        trainer = Counter(stop, stop_at=5)
        state, ending = play(tmp_path, trainer, stop, CheckpointConfig())
    assert ending == "interrupted"
    assert state == Count(5, 5)
    assert CheckpointStore(tmp_path / "c").steps() == [5]


def test_a_time_limit_finishes_the_chunk_and_saves(tmp_path: Path) -> None:
    class Slow(Counter):
        """The time limit passes during its fifth chunk at the latest."""

        def advance(self, state: Count) -> tuple[Count, int]:
            while state.started == 4 and not stop.requested:
                time.sleep(0.01)
            return super().advance(state)

    with StopRequest(time_limit=0.5) as stop:
        state, ending = play(tmp_path, Slow(), stop, CheckpointConfig())
        assert stop.seconds_left is None  # no grace period
    assert ending == "time limit"
    assert state.started == state.recorded <= 5
    assert CheckpointStore(tmp_path / "c").steps() == [state.recorded]


def test_a_time_limit_that_is_over_starts_no_chunk_and_a_signal_goes_first(tmp_path: Path) -> None:
    with StopRequest(time_limit=0.0) as stop:
        state, ending = play(tmp_path, Counter(), stop, CheckpointConfig())
        assert (state, ending) == (Count(), "time limit")
        stop.ask("a test")
        assert stop.seconds_left is not None
        with new_run(tmp_path, run_name="d") as run:
            assert run_loop(Counter(), Count(), run, stop)[1] == "interrupted"


def test_the_least_number_of_chunks_is_computed_whatever_the_time_but_a_signal_stops_at_once(
    tmp_path: Path,
) -> None:
    with StopRequest(time_limit=0.0) as stop:
        for least in (1, 2):
            state, ending = run_loop(
                Counter(), Count(), NullRecorder("c", "c", tmp_path), stop, min_chunks=least
            )
            assert (state, ending) == (Count(least, least), "time limit")
        stop.ask("the test")
        state, ending = run_loop(Counter(), Count(), NullRecorder("c", "c", tmp_path), stop, min_chunks=1)
        assert (state, ending) == (Count(), "interrupted")


@pytest.mark.parametrize(("signalled", "ending"), [(True, "interrupted"), (False, "time limit")])
def test_processes_agree_on_why_they_stop(signalled: bool, ending: str, tmp_path: Path) -> None:
    # Another process asks to stop, by a signal or by its time limit; this one has neither.
    answers = iter([(True, False), (signalled, False)])

    class Following(SingleCoordinator):
        def agree(self, stop: bool, checkpoint_due: bool) -> tuple[bool, bool]:
            return next(answers)

    with StopRequest() as stop, new_run(tmp_path, run_name="c") as run:
        result = run_loop(Counter(), Count(), run, stop, coordinator=Following())
    assert result == (Count(), ending)


def test_a_finished_training_has_finished_whatever_the_time(tmp_path: Path) -> None:
    with StopRequest(time_limit=0.0) as stop, new_run(tmp_path, run_name="c") as run:
        assert run_loop(Counter(), Count(CHUNKS, CHUNKS), run, stop)[1] == "finished"


def test_a_wakeup_descriptor_that_its_owner_closed_is_not_put_back() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    handler = signal.getsignal(signal.SIGTERM)
    before = signal.set_wakeup_fd(write)
    try:
        with StopRequest(on_expiry=lambda number: None):
            os.close(write)
        assert signal.getsignal(signal.SIGTERM) is handler
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        signal.set_wakeup_fd(before)
        os.close(read)


def test_a_signal_while_recording_starts_no_further_chunk(tmp_path: Path) -> None:
    class Waiting(Counter):
        """Recorded before the next chunk starts; the signal comes while it is."""

        def needs_record(self, state: Count) -> bool:
            return True

        def record(self, state: Count, outcome: int, run: Recorder) -> Count:
            if outcome == 4:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().record(state, outcome, run)

    with StopRequest() as stop:
        state, ending = play(tmp_path, Waiting(), stop, CheckpointConfig())
    assert (state, ending) == (Count(4, 4), "interrupted")
    assert CheckpointStore(tmp_path / "c").steps() == [4]


def test_an_interval_of_zero_saves_at_the_end_only(tmp_path: Path) -> None:
    with StopRequest() as stop:
        play(tmp_path, Counter(), stop, CheckpointConfig(save_interval=0))
    assert CheckpointStore(tmp_path / "c").steps() == [CHUNKS]


def test_a_resumed_run_learns_where_it_stands_and_what_was_passed_over(tmp_path: Path) -> None:
    with StopRequest() as stop:
        play(tmp_path, Counter(), stop, CheckpointConfig(save_interval_chunks=2))
    (tmp_path / "c" / "checkpoints" / "9" / "manifest.json").write_text("[]")
    with new_run(tmp_path, resume_run="c") as run:
        checkpoint = CheckpointManager(CheckpointConfig(), run, {}).resume()
        assert checkpoint is not None
        assert checkpoint.progress == {"started": 8}
        assert run.clock.step == 8
    with JournalReader(tmp_path / "c") as reader:
        warning = next(note.text for note in reader.notes() if note.level == "warning")
    assert "step 9 is damaged" in warning
    assert "resumes from step 8" in warning


def test_a_checkpoint_that_cannot_be_written_is_told_and_training_goes_on(tmp_path: Path) -> None:
    with StopRequest() as stop, new_run(tmp_path, run_name="c") as run:
        manager = CheckpointManager(CheckpointConfig(save_interval_chunks=4), run, {})
        manager.resume()
        trainer = Counter()
        folder = run.directory / "checkpoints"
        folder.rmdir()
        folder.write_text("in the way")
        state, ending = run_loop(trainer, Count(), run, stop, manager)
        manager.close()
    assert (state.recorded, ending) == (CHUNKS, "finished")
    with JournalReader(tmp_path / "c") as reader:
        warnings = [note.text for note in reader.notes() if note.level == "warning"]
    assert len(warnings) == 3  # after chunks 4 and 8, and at the end
    assert all("could not be written" in text and "training continues" in text for text in warnings)


def test_it_stops_instead_where_that_was_asked_for(tmp_path: Path) -> None:
    with StopRequest() as stop, new_run(tmp_path, run_name="c") as run:
        manager = CheckpointManager(
            CheckpointConfig(save_interval_chunks=4, failed_checkpoint="stop"), run, {}
        )
        manager.resume()
        (run.directory / "checkpoints").rmdir()
        (run.directory / "checkpoints").write_text("in the way")
        with pytest.raises(CheckpointError, match="step 4 could not be written"):
            run_loop(Counter(), Count(), run, stop, manager)
        manager.close()


SLEEPER = """
import os, signal, sys, time
from matrixrl.training.loop import StopRequest
def over(number):
    os.write(1, f"over {number.name}\\n".encode())
    os._exit(128 + number)
with StopRequest(float(sys.argv[1]), over) as stop:
    signal.pthread_sigmask(signal.SIG_BLOCK, []) # the main thread is deaf while it is in C code:
    print("ready", flush=True)
    if sys.argv[2] == "deaf":
        import hashlib
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
    while not stop.requested:
        time.sleep(0.01)
print(f"left in time, {stop.seconds_left is not None}", flush=True)
"""


@pytest.mark.parametrize(
    ("grace", "how", "said", "status"),
    [("0.2", "deaf", "over SIGTERM\n", 143), ("30", "listening", "left in time, True\n", 0)],
)
def test_grace_time_ends_a_process_that_cannot_hear_and_no_other(
    grace: str, how: str, said: str, status: int
) -> None:
    command = [sys.executable, "-c", SLEEPER, grace, how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)
        process.terminate()
        assert process.stdout.read() == said
        assert process.wait(30) == status


def test_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with StopRequest(1.0, lambda number: None):
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_signal_is_answered_while_the_main_thread_is_busy() -> None:
    heard: queue.Queue[signal.Signals] = queue.Queue()
    with StopRequest(20.0, lambda number: None, heard.put) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard.get(timeout=30) == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.signal == signal.SIGTERM
    assert heard.empty()  # only the first one


@pytest.mark.parametrize("shared", [True, False])
def test_processes_agree_to_save_and_to_stop(
    shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads stand for two processes; the second is asked to stop while it records its fourth
    chunk, and both stop after the next one.
    """
    written: list[Path] = []

    def write_together(folder: Path, snapshot: Snapshot) -> None:
        # orbax needs real processes: tests/training/test_processes.py has them.
        written.append(folder)

    monkeypatch.setattr(checkpoint_format, "write_together", write_together)

    def train(coordinator: ThreadCoordinator) -> tuple[tuple[Count, str], list[str], list[int]]:
        trainer = Counter()
        if coordinator.is_leader:
            with new_run(tmp_path, run_name="c") as run:
                config = CheckpointConfig(save_interval_chunks=3)
                manager = CheckpointManager(config, run, {}, coordinator, uses_shared_storage=shared)
                manager.resume()
                result = run_loop(trainer, Count(), run, StopRequest(), manager, coordinator)
                manager.close()
        else:
            stop = StopRequest()
            trainer.stop_after = (4, stop)
            run = NullRecorder("matmul", "c", tmp_path / "silent")
            follower = CheckpointFollower(coordinator, tmp_path / "c" if shared else None)
            result = run_loop(trainer, Count(), run, stop, follower, coordinator)
        return result, coordinator.calls, [step for step, _ in trainer.saved]

    (leader, calls, saved), (other, other_calls, other_saved) = run_together(train)
    assert leader == other == (Count(5, 5), "interrupted")
    assert calls == other_calls
    assert saved == other_saved == [3, 5]
    assert CheckpointStore(tmp_path / "c").steps() == [3, 5]
    assert calls.count("gather") == (0 if shared else 2)
    drafts = [tmp_path / "c" / "checkpoints" / f".draft-{step}-together" for step in (3, 3, 5, 5)]
    assert written == (drafts if shared else [])
