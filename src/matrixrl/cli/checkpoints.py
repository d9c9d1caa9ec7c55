"""Choice of the checkpoint that a command plays with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matrixrl.cli.progress import complain
from matrixrl.config import ConfigError

if TYPE_CHECKING:
    # `--help` answers without JAX.
    from matrixrl.checkpoints.format import Checkpoint


def choose_checkpoint(
    command: str, folder: Path, *, step: int | None = None, best: bool = False
) -> Checkpoint:
    """Returns the checkpoint of a step, the best or the newest one; reports and skips damaged ones.

    Args:
      command: name at the start of the messages.
      folder: of the run.

    Raises:
      ConfigError: if there is none that is complete, or this version cannot read it.
    """
    from matrixrl.checkpoints.store import CheckpointStore

    store = CheckpointStore(folder)
    if step is not None:
        return store.at(step)
    checkpoint, skipped = store.best() if best else store.newest()
    for line in skipped:
        complain(f"{line}: passed over")
    if checkpoint is None:
        raise ConfigError(
            f"{command} {folder.name}: there is no whole checkpoint in {folder}; one is written every --save-interval "
            "seconds of training and at its end"
        )
    return checkpoint
