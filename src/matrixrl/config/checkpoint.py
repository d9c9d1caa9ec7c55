"""Settings of checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from matrixrl.config.fields import Settings, setting


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig(Settings):
    """Schedule and retention of checkpoints. The same flags serve every trainer."""

    may_change: ClassVar[bool] = True

    save_interval: float = setting(300.0, minimum=0, hint=" seconds")
    """Interval in seconds between two checkpoints.
    0 saves only at the end (and on SIGINT and SIGTERM).
    """

    save_interval_chunks: int | None = setting(None, minimum=1)
    """Number of chunks between two checkpoints, instead of --save-interval.
    A chunk is --log-interval weight updates, or one move of all games.
    """

    keep_last: int = setting(3, minimum=1, hint="; 2 survive a damaged newest one")
    """Number of newest checkpoints to keep."""

    keep_best: int = setting(1, minimum=0)
    """Number of best checkpoints to keep in addition to the newest. 0 keeps the newest only."""

    grace_seconds: float = setting(20.0, above=0, hint=", such as 20")
    """Grace period in seconds after SIGTERM or SIGINT.
    Within it the run finishes its chunk, saves and reports.
    """

    failed_checkpoint: Literal["warn", "stop"] = "warn"
    """Reaction to a checkpoint that cannot be written (for example, the disk is full).
    `warn` continues with a warning; `stop` ends the run.
    """

    max_rollbacks: int = setting(0, minimum=0)
    """Maximum number of automatic rollbacks to the last good checkpoint when training diverges.
    Each rollback lowers the learning rate. 0 disables rollback.
    """

    rollback_learning_rate_factor: float = setting(0.5, above=0, below=1)
    """Factor applied to the learning rate at each rollback."""
