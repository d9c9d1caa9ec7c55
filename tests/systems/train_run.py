"""What the training commands do, with programs that are compiled already."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from matrixrl.config import as_record
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
