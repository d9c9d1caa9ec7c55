"""`matrixrl matmul evaluate RUN`: games without exploration, played with a run's newest good
checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from matrixrl.cli.checkpoints import choose_checkpoint
from matrixrl.cli.parse import parse
from matrixrl.cli.progress import say, working
from matrixrl.cli.resume import recorded_settings
from matrixrl.config import MatmulConfig, require
from matrixrl.tracking.identity import find_run, has_checkpoint
from matrixrl.tracking.numbers import duration, percent, plural
from matrixrl.tracking.status import Status

if TYPE_CHECKING:
    from matrixrl.systems.matmul.evaluation import EvaluationResult


@dataclass(frozen=True, kw_only=True)
class MatmulEvaluateCommand:
    """Play games without exploration, from the standard basis."""

    run: tyro.conf.Positional[str]
    """Name or id of a run, or `latest`."""

    games: int = 64
    """Number of games to play."""

    seed: int = 0
    """Seed of the search."""

    num_simulations: int | None = None
    """Number of simulations per move. Default: the value of the run."""

    runs_dir: Path = Path("runs")
    """Folder that holds one folder per run."""

    json: bool = False
    """Print one JSON object as the last line of output."""

    def __post_init__(self) -> None:
        require(self.games >= 1, f"--games {self.games}: must be 1 or more")
        require(0 <= self.seed < 2**32, f"--seed {self.seed}: must be from 0 to 4294967295")
        require(
            self.num_simulations is None or self.num_simulations >= 1,
            f"--num-simulations {self.num_simulations}: must be 1 or more",
        )


def run(name: str, arguments: Sequence[str]) -> int:
    """Reads the command line, and evaluates."""
    settings = parse(
        MatmulEvaluateCommand,
        arguments,
        prog=f"matrixrl matmul {name}",
        description="Play games without exploration, with the newest good checkpoint of a run.",
    )
    return evaluate_run(settings)


def evaluate_run(settings: MatmulEvaluateCommand) -> int:
    """Evaluates a run, and prints the results. Returns the exit status.

    Raises:
      ConfigError: if there is no such run, or it has no complete checkpoint.
    """
    folder = find_run(
        settings.runs_dir, settings.run, "matmul", flag="evaluate", has_something=has_checkpoint
    )
    with working(f"evaluating {folder.name} over {plural(settings.games, 'game')}") as status:
        return _evaluate(settings, folder, status)


def _evaluate(settings: MatmulEvaluateCommand, folder: Path, status: Status) -> int:
    recorded = recorded_settings(MatmulConfig, folder)

    from matrixrl.devices.compilation_cache import use_compilation_cache
    from matrixrl.systems.matmul.evaluation import evaluate, evaluation_config, restore_params
    from matrixrl.systems.matmul.program import MatmulProgram

    checkpoint = choose_checkpoint("evaluate", folder)
    use_compilation_cache()
    config = evaluation_config(recorded, settings.games, settings.num_simulations)
    program = MatmulProgram(config)
    results = evaluate(program, restore_params(program, checkpoint), settings.games, settings.seed)
    status.close()

    over = "over the integers" if config.game.ring == "Z" else "modulo 2"
    limits = dict(zip(config.game.problems, config.game.move_limits, strict=True))
    for result in results:
        say(
            f"{folder.name} at step {checkpoint.step:,}: {result.problem} {over}, {result.games} games of at "
            f"most {limits[result.problem]} moves, {config.search.num_simulations} simulations per move, "
            f"{duration(result.seconds - result.compile_seconds)} of play, {duration(result.compile_seconds)} of compilation"
        )
        if result.ranks:
            spread = ", ".join(f"{count} of rank {rank}" for rank, count in result.ranks.items())
            share = result.solved / result.games
            say(f"solved {result.solved} of {result.games} ({percent(share)}), proved: {spread}")
        else:
            say(f"solved none of {result.games}; the best game left a residual of {result.least_residual}")
    if settings.json:
        about = {
            "run_name": folder.name,
            "step": checkpoint.step,
            "num_simulations": config.search.num_simulations,
            "seed": settings.seed,
            "seconds": round(results[0].seconds, 3),
        }
        of_formats = [_values(result) for result in results]
        # The results of a single format are at the top level.
        print(
            json.dumps(about | (of_formats[0] if len(config.game.problems) == 1 else {"formats": of_formats}))
        )
    return 0


def _values(result: EvaluationResult) -> dict[str, Any]:
    return {
        "size": result.problem.to_record().get("format"),
        "problem": result.problem.name,
        "games": result.games,
        "solved": result.solved,
        "solved_share": result.solved / result.games,
        "ranks": result.ranks,
        "best_rank": result.best.rank if result.best else None,
        "least_residual": result.least_residual,
    }
