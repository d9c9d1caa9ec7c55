"""Settings of a run that every command that makes one has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from matrixrl.config.checkpoint import CheckpointConfig
from matrixrl.config.durations import parse_duration
from matrixrl.config.fields import Settings, group, require, setting
from matrixrl.config.processes import ProcessConfig
from matrixrl.config.tracking import TrackingConfig


@dataclass(frozen=True, kw_only=True)
class TrackedRunConfig(Settings):
    """Settings that every tracked run has, with or without a learner."""

    recorded_beside: ClassVar[tuple[str, ...]] = ()
    """Names of entries in run.json and the journal that a command records beside its settings, in
    addition to devices and versions.
    """

    preset: str = "default"
    """Preset that supplies the other defaults."""

    config: Path | None = setting(None, of_run=True, recorded=False, in_file=False)
    """TOML file with settings, such as `matrixrl runs show RUN --config` prints.
    Flags override the file, and the file overrides the preset.
    """

    seed: int = setting(0, minimum=0, maximum=2**32 - 1)
    """Seed of all random numbers."""

    time: str | None = setting(None, may_change=True)
    """Maximum time of this command, including compilation, such as 50s, 10m or 1h30m.
    The run then stops after its chunk, saves, and can be resumed. Default: no limit.
    """

    tracking: TrackingConfig = group(TrackingConfig)
    checkpoint: CheckpointConfig = group(CheckpointConfig)

    json: bool = setting(False, may_change=True, of_run=True)
    """Print one JSON object as the last line of output."""

    @property
    def time_seconds(self) -> float | None:
        """Maximum time of the command in seconds; None for no limit."""
        return None if self.time is None else parse_duration(self.time)

    def check(self) -> None:
        """Checks the time limit.

        Raises:
          ConfigError: if it is not a duration.
        """
        if self.time is not None:
            parse_duration(self.time)


@dataclass(frozen=True, kw_only=True)
class RunConfig(TrackedRunConfig):
    """Settings that every trainer has. A trainer's own config derives from it."""

    processes: ProcessConfig = group(ProcessConfig, in_file=False)

    devices: int | None = setting(None, minimum=1, hint="; leave it out for all", may_change=True)
    """Number of devices to shard the training over. Default: all that fit."""

    benchmark: bool = False
    """Measure the cost of tracking.
    Short runs alternate between tracking and none, on one seed.
    """

    def check(self) -> None:
        """Checks the settings of the command against one another."""
        super().check()
        require(
            self.time is None or not self.benchmark,
            f"--time {self.time}: --benchmark compares runs of one length; leave one of them out",
        )
