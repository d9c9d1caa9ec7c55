"""`matrixrl hackmatrix bench`: steps per second of random legal play."""

from __future__ import annotations

import json
from dataclasses import dataclass

from matrixrl.cli.progress import say, working
from matrixrl.config import require
from matrixrl.tracking.numbers import duration, plural, significant


@dataclass(frozen=True, kw_only=True)
class HackmatrixBenchCommand:
    """Settings of the measurement."""

    num_envs: int = 256
    """Number of parallel environments."""

    seconds: float = 3.0
    """Duration of the measurement in seconds, after compilation."""

    json: bool = False
    """Print one JSON object as the last line of output."""

    def __post_init__(self) -> None:
        require(1 <= self.num_envs <= 1_048_576, f"--num-envs {self.num_envs}: must be from 1 to 1048576")
        require(self.seconds > 0, f"--seconds {self.seconds}: must be above 0")


def run_command(command: HackmatrixBenchCommand) -> int:
    """Measures and prints; returns the exit status."""
    with working(
        f"measuring HackMatrix at {plural(command.num_envs, 'environment')}: compiled first, without the cache"
    ):
        # The persistent compilation cache stays off here: compile_seconds is measured cold.
        from matrixrl.systems.hackmatrix.speed import measure

        result = measure(command.num_envs, command.seconds)
    say(
        "HackMatrix, random legal play with mask, observation and reset: "
        f"{significant(result['steps_per_second'])} steps/s at {plural(command.num_envs, 'environment')} of "
        f"{result['bytes_per_env']:,.0f} bytes, compiled in {duration(result['compile_seconds'])}"
    )
    if command.json:
        print(json.dumps(result))
    return 0
