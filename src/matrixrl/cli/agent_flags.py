"""Flags that every command has which plays with a trained agent: of any environment, or of
HackMatrix.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from matrixrl.config import require

Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff]


@dataclass(frozen=True, kw_only=True)
class AgentFlags:
    """Which agent plays, and with which chance."""

    seed: int = 0
    """Seed of episodes and actions.
    The same seed gives the same episodes, for any number of them.
    """

    step: int | None = None
    """Step of the checkpoint to play. Default: the newest complete checkpoint."""

    best: bool = False
    """Play the checkpoint with the best mean return of its chunk."""

    runs_dir: Path = Path("runs")
    """Folder that holds one folder per run."""

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**32, f"--seed {self.seed}: must be from 0 to 4294967295")
        check_choice(self.step, self.best)


@dataclass(frozen=True, kw_only=True)
class EvaluateFlags(AgentFlags):
    """Flags of `evaluate`."""

    policy: Literal["both", "greedy", "sampled"] = "both"
    """Action selection.
    `greedy` plays the most probable action; `sampled` samples from the policy, as in training.
    """

    json: bool = False
    """Print one JSON object as the last line of output."""


@dataclass(frozen=True, kw_only=True)
class WatchFlags(AgentFlags):
    """Flags of `watch`."""

    greedy: Flag = False
    """Play the most probable action. Default: sample actions from the policy, as in training."""

    gif: Path | None = None
    """File to which the episode is saved as an animated GIF, up to the last step shown."""

    def check_times(self, delay: float, max_steps: int | None) -> None:
        """Refuses impossible values of `--delay` and `--max-steps`, whose defaults differ.

        Raises:
          ConfigError: if one is out of range.
        """
        require(0 <= delay <= 60, f"--delay {delay}: must be from 0 to 60 seconds")
        require(
            max_steps is None or 1 <= max_steps < 2**31,
            f"--max-steps {max_steps}: must be from 1 to 2147483647",
        )


def check_choice(step: int | None, best: bool) -> None:
    """Refuses impossible values of `--step` and `--best`.

    Raises:
      ConfigError: if `--step` is negative or given together with `--best`.
    """
    require(step is None or step >= 0, f"--step {step}: must be 0 or more")
    require(step is None or not best, f"--step {step} and --best exclude one another: leave one out")


def check_time_limit(time_limit: int | None) -> None:
    """Refuses impossible values of `--time-limit`.

    Raises:
      ConfigError: if it is out of range.
    """
    require(
        time_limit is None or 1 <= time_limit < 2**31,
        f"--time-limit {time_limit}: must be from 1 to 2147483647",
    )


def check_writable(flag: str, path: Path) -> None:
    """Refuses a file that cannot be written before an episode is played for it.

    Raises:
      ConfigError: if it cannot be written.
    """
    require(not path.is_dir(), f"{flag} {path}: is a folder; name a file in it")
    require(
        path.parent.is_dir(), f"{flag} {path}: there is no folder {path.parent}; make it, or name another"
    )
    require(os.access(path.parent, os.W_OK), f"{flag} {path}: the folder {path.parent} cannot be written")
