"""Every setting of the project, once: frozen dataclasses that tyro turns into flags and the journal records.

Standard library only, so that ``--help`` answers without loading JAX. A field's docstring is its help text. Values
are checked when a config is built, before anything compiles; derived numbers are properties.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


class ConfigError(ValueError):
    """A setting is impossible. The message says what was given, what is allowed and what to do."""


def require(condition: bool, message: str) -> None:
    """Raise `ConfigError` with `message` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """How a run is named and where its rows go. The same flags serve every trainer."""

    wandb: bool = False
    """Also send the run to Weights & Biases (offline when there is no key or no network)."""

    project: str | None = None
    """W&B project; by default `rlmm` for matmul and `hackmatrix` for hackmatrix."""

    entity: str | None = None
    """W&B entity; by default WANDB_ENTITY, or the account's own."""

    run_name: str | None = None
    """Name of the run; by default prefix, date and the next free number."""

    run_suffix: str | None = None
    """Appended to the automatic name: `-bignet`."""

    resume_run: str | None = None
    """Continue a run: its name, its id, or `latest`."""

    no_artifact: bool = False
    """Do not send checkpoints and schemes to W&B as artifacts."""

    log_interval: int = 10
    """Updates between two records of the training stream."""

    runs_dir: Path = Path("runs")
    """Folder that holds one folder per run."""

    console: Literal["quiet", "epochs", "episodes", "steps"] = "epochs"
    """What the console shows; `steps` also keeps every move in the journal."""

    record_moves: bool = False
    """Keep every move (action, reward, residual) in the journal."""

    keep_artifacts: int = 3
    """Checkpoints kept on W&B besides the best one; 0 keeps all."""

    backlog_rows: int = 10_000
    """Above this many rows waiting for W&B the live stream is thinned (never the journal)."""

    finish_seconds: float = 60.0
    """How long the end of a run may wait for W&B; the rest is delivered by `matrixrl runs sync`."""

    def __post_init__(self) -> None:
        levels = ("quiet", "epochs", "episodes", "steps")
        require(self.log_interval >= 1, f"--log-interval {self.log_interval}: must be 1 or more")
        require(self.console in levels, f"--console {self.console}: must be one of {', '.join(levels)}")
        require(self.keep_artifacts >= 0, f"--keep-artifacts {self.keep_artifacts}: must be 0 or more")
        require(self.backlog_rows >= 1, f"--backlog-rows {self.backlog_rows}: must be 1 or more")
        require(self.finish_seconds >= 0, f"--finish-seconds {self.finish_seconds}: must be 0 or more")
        require(
            self.resume_run is None or (self.run_name is None and self.run_suffix is None),
            f"--resume-run {self.resume_run} continues a run under its own name: leave out --run-name and --run-suffix",
        )


def as_record(config: Any) -> dict[str, Any]:
    """The config as plain JSON values, nested as the dataclasses are: what the journal and W&B keep."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        if isinstance(value, Path):
            return str(value)
        return value

    return plain(dataclasses.asdict(config))
