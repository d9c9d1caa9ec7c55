"""`matrixrl hackmatrix evaluate`: performance of an agent over many complete games."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from matrixrl.cli.agent_flags import EvaluateFlags, check_time_limit
from matrixrl.cli.hackmatrix_agent import TrainedHackmatrixAgent, check_simulations, load_agent
from matrixrl.cli.progress import say, working
from matrixrl.config import HackmatrixConfig, require
from matrixrl.tracking.numbers import duration, percent, plural
from matrixrl.tracking.status import Status, activity

if TYPE_CHECKING:
    from matrixrl.systems.hackmatrix.evaluation import FinishedGames, Interval

MAX_GAMES = 1_000_000
BAR_WIDTH = 20


@dataclass(frozen=True, kw_only=True)
class HackmatrixEvaluateCommand(EvaluateFlags):
    """Evaluate an agent over complete games."""

    run: tyro.conf.Positional[Annotated[str | None, tyro.conf.arg(metavar="RUN")]] = None
    """Name or id of a run, or `latest`; `pretrained` for the agent that is shipped with the
    package; or a file of `export-agent`. Omit it with --agent random.
    """

    agent: Literal["trained", "random"] = "trained"
    """Agent to evaluate: the network of a run, or uniformly random legal actions."""

    games: int = 256
    """Number of games to play, each to its end."""

    policy: Literal["both", "greedy", "sampled", "search"] = "both"
    """Action selection.
    `greedy` plays the most probable action; `sampled` samples from the policy, as in training;
    `search` searches only. With --num-simulations the search plays in addition to the others.
    """

    num_simulations: int = 0
    """Simulations of the tree search for each action, with the game as the model. 0: no search."""

    time_limit: int | None = None
    """Maximum number of steps per game. Longer games are truncated.
    Default: the value of the run, or 1,000.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.games <= MAX_GAMES, f"--games {self.games}: must be from 1 to {MAX_GAMES}")
        check_time_limit(self.time_limit)
        check_simulations(self.num_simulations)
        require(
            self.policy != "search" or self.num_simulations > 0,
            "--policy search: give the number of simulations for each action too, such as --num-simulations 64",
        )
        if self.agent == "trained":
            require(self.run is not None, "evaluate: name a run (or `latest`), or give --agent random")
            return
        require(
            self.num_simulations == 0,
            f"--num-simulations {self.num_simulations}: a search needs the policy and values of a network; leave out "
            "--agent random",
        )
        require(
            self.run is None,
            f"evaluate {self.run} --agent random: the random agent has no run; leave one of the two out",
        )
        require(
            self.step is None and not self.best,
            f"--agent random: it has no checkpoints; leave out {'--best' if self.best else '--step'}",
        )
        require(
            self.policy != "greedy",
            "--policy greedy: to the random agent all legal actions are equally likely; use --policy sampled",
        )


def run_command(command: HackmatrixEvaluateCommand) -> int:
    """Evaluates the agent, and prints the results. Returns the exit status.

    Raises:
      ConfigError: if there is no such run, or it has no playable checkpoint.
    """
    with working(
        f"evaluating {command.run or 'random legal play'} over {plural(command.games, 'game')}"
    ) as status:
        return _evaluate(command, status)


def _evaluate(command: HackmatrixEvaluateCommand, status: Status) -> int:
    agent: TrainedHackmatrixAgent | None = None
    with activity("starting JAX"):
        if command.run is not None:
            agent = load_agent("evaluate", command.run, command.runs_dir, command.step, command.best)

        from matrixrl.devices.compilation_cache import use_compilation_cache
        from matrixrl.systems.hackmatrix.evaluation import evaluate, uniform_policy

        use_compilation_cache()
    limit = command.time_limit or (agent.config if agent else HackmatrixConfig()).time_limit
    began = time.perf_counter()
    results: dict[str, FinishedGames] = {}
    for way in ways_of(command):

        def progress(ended: int, games: int, way: str = way) -> None:
            status.progress(f"{way} play", ended, games, "games")

        if way == "search":
            assert agent is not None
            results[way] = _searched(command, agent, limit, progress)
            continue
        results[way] = evaluate(
            agent.policy if agent else uniform_policy,
            command.games,
            command.seed,
            way == "greedy",
            limit,
            progress=progress,
        )
    seconds = time.perf_counter() - began
    compiling = sum(games.compile_seconds for games in results.values())
    status.close()
    who = agent.where if agent else "random legal play"
    if agent is None:
        results = {"random": results["sampled"]}
    say(
        f"{who}: {plural(command.games, 'game')}, seed {command.seed}, at most {limit:,} steps each, "
        f"{duration(seconds - compiling)} of play, {duration(compiling)} of compilation"
    )
    print(table(results))
    if command.json:
        record = {
            "run_name": agent.name if agent else None,
            "step": agent.step if agent else None,
            "agent": command.agent,
            "games": command.games,
            "seed": command.seed,
            "time_limit": limit,
            "num_simulations": command.num_simulations,
            **{way: games.as_record() for way, games in results.items()},
            "seconds": round(seconds, 3),
        }
        print(json.dumps(record))
    return 0


def ways_of(command: HackmatrixEvaluateCommand) -> tuple[str, ...]:
    """Returns the action selections to evaluate."""
    if command.agent == "random":
        return ("sampled",)
    own = {"both": ("greedy", "sampled"), "search": ()}.get(command.policy, (command.policy,))
    return (*own, *(("search",) if command.num_simulations else ()))


def _searched(
    command: HackmatrixEvaluateCommand,
    agent: TrainedHackmatrixAgent,
    limit: int,
    progress: Callable[[int, int], None],
) -> FinishedGames:
    """Plays the games by search."""
    from matrixrl.systems.hackmatrix.search import evaluate_search

    player = agent.search_player(command.num_simulations)
    return evaluate_search(player, command.games, command.seed, limit, progress=progress)


def table(results: Mapping[str, FinishedGames]) -> str:
    """Formats the results as a table, with a column for each action selection, and below it the
    stages reached.
    """
    from matrixrl.envs.hackmatrix.rules import Outcome

    columns = []
    for games in results.values():
        counts = {
            "died": games.outcome_count(Outcome.DIED),
            "won": games.outcome_count(Outcome.WON),
            "cut off": games.outcome_count(Outcome.PLAYING),
            "stuck": games.outcome_count(Outcome.INVALID_ACTION),
        }
        ends = ", ".join(f"{count:,} {how}" for how, count in counts.items() if count)
        best = f"{games.returns.max():,.2f} in game {games.best_game}"
        columns.append({**_means(games.intervals), "best return": best, "games": ends})
    width = 2 + max(BAR_WIDTH + 8, *(len(text) for column in columns for text in column.values()))
    lines = [f"{'':<15}" + "".join(f"{way:<{width}}" for way in results)]
    lines += [
        f"{name:<15}" + "".join(f"{column[name]:<{width}}" for column in columns) for name in columns[0]
    ]
    top = max(int(games.highest_stages.max()) for games in results.values())
    for stage in range(1, top + 1):
        cells = []
        for games in results.values():
            share = games.stage_counts[stage] / games.count
            cells.append(f"{f'{percent(share):>7} ' + '#' * math.ceil(BAR_WIDTH * share):<{width}}")
        lines.append(f"{f'  in stage {stage}':<15}" + "".join(cells))
    return "\n".join(line.rstrip() for line in lines)


def _means(intervals: Mapping[str, Interval]) -> dict[str, str]:
    """Formats the means of one action selection, by the names of their lines."""

    def spread(interval: Interval) -> str:
        half = interval.high - interval.mean
        return f"{interval.mean:,.2f}" + ("" if math.isnan(half) else f" +- {half:,.2f}")

    won = intervals["win_rate"]
    return {
        "return": spread(intervals["return"]),
        "highest stage": spread(intervals["highest_stage"]),
        "score": spread(intervals["score"]),
        "won": f"{percent(won.mean)} ({percent(won.low)} to {percent(won.high)})",
        "steps": spread(intervals["steps"]),
    }
