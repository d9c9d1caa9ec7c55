"""Every setting of the project, once: frozen dataclasses that tyro turns into flags and the journal records.

Standard library only, so that ``--help`` answers without loading JAX. A field's docstring is its help text. Values
are checked when a config is built, before anything compiles; derived numbers are properties.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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

    console: str = "epochs"
    """What the console shows: `quiet`, `epochs`, `episodes` or `steps`."""

    def __post_init__(self) -> None:
        require(self.log_interval >= 1, f"--log-interval {self.log_interval}: must be 1 or more")


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
