"""What the training commands do, with programs that are compiled already."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from matrixrl.config import as_record
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.run import Run, open_run
from matrixrl.tracking.spec import SystemSpec
from matrixrl.training.checkpointing import CheckpointManager
from matrixrl.training.loop import StopRequest, run_loop


def train_run(
    system: SystemSpec | str,
    config: Any,
    make_trainer: Callable[[Run], Any],
    more: Mapping[str, Any] | None = None,
) -> tuple[Any, Any]:
    """Trains the run that the config names, from its beginning or its newest checkpoint.

    Args:
      more: recorded beside the settings.

    Returns:
      The last state, and the trainer.
    """
    record = {**as_record(config), **(more or {})}
    with (
        StopRequest() as stop,
        open_run(config.tracking, system=system, name_prefix="t", run_config=record) as run,
    ):
        manager = CheckpointManager(config.checkpoint, run, record)
        trainer = make_trainer(run)
        try:
            checkpoint = manager.resume()
            state = trainer.resume(checkpoint) if run.resumed else trainer.init()
            state, _ = run_loop(trainer, state, run, stop, manager)
        finally:
            manager.wait()
            manager.close()
    return state, trainer


def assert_offline_rows(run_dir: Path, steps: Sequence[int]) -> list[dict[str, Any]]:
    """Checks that the offline file of W&B has the rows of the stream, each with episodes; returns what was sent."""
    from matrixrl.tracking.sinks.wandb_client import fragments, offline_rows

    (file,) = fragments(run_dir)
    rows = {row.step: row.values for row in offline_rows(file)}
    with JournalReader(run_dir) as reader:
        recorded = {row.step: row.metrics for row in reader.stream()}
    assert list(rows) == list(recorded) == list(steps)
    for step, metrics in recorded.items():
        sent = {
            name: value for name, value in rows[step].items() if not name.startswith(("_", "episode_history"))
        }
        assert sent == pytest.approx(metrics)
        assert any(name.startswith("episode_history") for name in rows[step])
    return list(rows.values())
