"""`matrixrl matmul bench`: speed of search and learning on this machine, and of their parts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from matrixrl.cli.parse import parse
from matrixrl.cli.progress import working
from matrixrl.config import (
    DemonstrationConfig,
    GameConfig,
    MatmulConfig,
    NetworkConfig,
    OptimizerConfig,
    SearchConfig,
    SelfPlayConfig,
    TrackingConfig,
    require,
    size_name,
)
from matrixrl.tracking.numbers import duration, significant

if TYPE_CHECKING:
    # `--help` answers without JAX.
    from matrixrl.systems.matmul.speed import Speed


@dataclass(frozen=True, kw_only=True)
class MatmulBenchCommand:
    """Settings of the measurement."""

    size: tuple[int, int, int] = (2, 2, 2)
    """Format n m p."""

    ring: Literal["Z", "F2"] = "Z"
    """Ring of the game's coefficients."""

    num_candidates: int = 16
    """Number of actions sampled at each node (K)."""

    batch_size: int = 128
    """Number of games searched in parallel, and of positions per weight update."""

    num_simulations: int = 200
    """Number of simulations per move."""

    width: int = 256
    """Number of units per layer of the torso."""

    num_blocks: int = 2
    """Number of residual blocks."""

    head_width: int = 128
    """Number of units in the policy head."""

    policy: Literal["auto", "transform", "tokens"] = "auto"
    """Type of policy: by transforms, or by a perceptron over tokens."""

    no_rank_profile: bool = False
    """Omit the rank profile from the network's input. Use with --policy tokens."""

    algorithm: Literal["gumbel", "puct"] = "gumbel"
    """Search algorithm."""

    repeats: int = 5
    """Number of timed calls of each part, after one that compiles."""

    seed: int = 0
    """Seed of all random numbers."""

    json: bool = False
    """Print one JSON object as the last line of output."""

    def __post_init__(self) -> None:
        require(self.repeats >= 1, f"--repeats {self.repeats}: must be 1 or more")
        require(self.batch_size >= 1, f"--batch-size {self.batch_size}: must be 1 or more")

    @property
    def config(self) -> MatmulConfig:
        """Trainer settings of the measurement."""
        return MatmulConfig(
            seed=self.seed,
            game=GameConfig(size=self.size, ring=self.ring),
            network=NetworkConfig(
                width=self.width,
                num_blocks=self.num_blocks,
                head_width=self.head_width,
                policy=self.policy,
                rank_profile=not self.no_rank_profile,
            ),
            search=SearchConfig(
                num_simulations=self.num_simulations,
                num_candidates=self.num_candidates,
                algorithm=self.algorithm,
            ),
            demonstration=DemonstrationConfig(),
            selfplay=SelfPlayConfig(
                episodes_per_epoch=self.batch_size,
                parallel_games=self.batch_size,
                replay_size=max(self.batch_size, 16),
                replay_fraction=0.0,
            ),
            optimizer=OptimizerConfig(batch_size=self.batch_size),
            tracking=TrackingConfig(log_interval=10),
        )


def run(name: str, arguments: Sequence[str]) -> int:
    """Measures and prints; returns the exit status."""
    del name
    settings = parse(
        MatmulBenchCommand,
        arguments,
        prog="matrixrl matmul bench",
        description="Measure the speed of search and learning, part by part.",
    )
    config = settings.config
    title = f"{size_name(settings.size)} over {settings.ring}, batch {settings.batch_size:,}"
    with working(f"measuring {title}: the programs are compiled first, without the cache"):
        from matrixrl.systems.matmul.speed import measure_speed

        # The persistent compilation cache stays off here: compile_seconds is measured cold.
        speed = measure_speed(config, settings.repeats)
    rows = _rows(settings, speed)
    left, right = (max(len(row[column]) for row in rows) for column in (0, 1))
    print(title)
    for what, figure in rows:
        print(f"  {what:<{left}}  {figure:>{right}}")
    if settings.json:
        print(json.dumps(_values(settings, speed)))
    return 0


def _values(settings: MatmulBenchCommand, speed: Speed) -> dict[str, Any]:
    """Returns the measurements as JSON values."""
    search, simulations = speed.search, settings.num_simulations
    return {
        "simulations_per_second": speed.simulations_per_second,
        "simulations_per_second_spread": [
            settings.batch_size * simulations / search.slowest,
            settings.batch_size * simulations / search.fastest,
        ],
        "compile_seconds": search.compile_seconds - search.median,
        "samples_per_second": speed.samples_per_second,
        "learn_compile_seconds": speed.learn.compile_seconds - speed.learn.median,
        "random_steps_per_second": speed.random_steps_per_second,
        "milliseconds_per_simulation": 1e3 * search.median / simulations,
        "parts_milliseconds": {name: 1e3 * seconds for name, seconds in speed.parts.items()},
        "settings": dataclasses.asdict(settings),
    }


def _rows(settings: MatmulBenchCommand, speed: Speed) -> list[tuple[str, str]]:
    """Returns the measurements for people: what was measured, and the figure with its unit."""
    values = _values(settings, speed)
    simulation = values["milliseconds_per_simulation"]
    parts = values["parts_milliseconds"]
    features, torso, expand, game = (
        parts[name] for name in ("features", "features_and_torso", "expand", "game")
    )
    return [
        (
            f"search, K={settings.num_candidates}, {settings.num_simulations:,} simulations",
            f"{significant(speed.simulations_per_second)} sims/s",
        ),
        ("one simulation of the batch", f"{significant(simulation)} ms"),
        ("  features (rank profile)", f"{significant(features)} ms"),
        ("  torso and value", f"{significant(torso - features)} ms"),
        ("  policy head, drawing, merging", f"{significant(expand - torso)} ms"),
        ("  game", f"{significant(game)} ms"),
        ("  tree (the rest)", f"{significant(simulation - expand - game)} ms"),
        ("learning", f"{significant(speed.samples_per_second)} samples/s"),
        ("game alone, random play", f"{significant(speed.random_steps_per_second)} steps/s"),
        ("compiling the search", duration(values["compile_seconds"])),
        ("compiling the weight update", duration(values["learn_compile_seconds"])),
    ]
