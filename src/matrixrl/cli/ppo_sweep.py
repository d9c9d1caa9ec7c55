"""`matrixrl ppo train --sweep` over settings that are not arguments of the compiled program: one
run for each of their combinations, one after the other.

The runs share the start of their names, and each records the sweep that it belongs to beside its
settings (`sweep_group`). Within a run the other swept settings and the seeds share one program.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

from matrixrl.cli.progress import complain
from matrixrl.config import require
from matrixrl.config.environment import EnvironmentRunConfig
from matrixrl.config.tracking import TrackingConfig
from matrixrl.tracking.identity import (
    MAX_NAME_CHARACTERS,
    automatic_name,
    check_name,
    read_run_file,
    run_folders,
    runs_dir_flag,
)
from matrixrl.tracking.numbers import plural, significant
from matrixrl.tracking.status import Status

STOPPED = (130, 143)
"""Exit statuses of a training that a signal stopped."""

TrainOne = Callable[
    [EnvironmentRunConfig, Mapping[str, Any], Callable[[dict[str, Any]], None], float | None], int
]
"""Trains a run with what it records of its sweep, passes its result on, and returns its exit
status. The last argument is the number of seconds that are left of `--time`.
"""


def sweep_group(config: EnvironmentRunConfig) -> str:
    """Returns the common start of the names of a sweep's runs: the given name, or prefix, date and
    the next free number.
    """
    tracking: TrackingConfig = config.tracking
    if tracking.run_name is not None:
        return check_name(tracking.run_name)
    taken = [folder.name for folder in run_folders(tracking.runs_dir)]
    return automatic_name(f"ppo-{config.short_name}", None, taken, date.today())


def run_names(group: str, points: Sequence[Mapping[str, Any]], suffix: str | None) -> list[str]:
    """Returns the names of the runs: the group and the values; numbers where that is too long or
    ambiguous.
    """
    tail = f"-{suffix.removeprefix('-').lower()}" if suffix else ""
    words = [
        "-".join(
            f"{name.rpartition('.')[2].replace('_', '-')}-{_word(value)}" for name, value in point.items()
        )
        for point in points
    ]
    names = [f"{group}-{word}{tail}" for word in words]
    if len(set(names)) < len(names) or max(map(len, names)) > MAX_NAME_CHARACTERS:
        names = [f"{group}-{number}{tail}" for number in range(1, len(points) + 1)]
    return [check_name(name) for name in names]


def _word(value: Any) -> str:
    """Returns a value as part of a folder's name."""
    text = re.sub(r"[^a-z0-9._-]+", "-", str(value).lower()).strip("-.") or "empty"
    return re.sub(r"\.{2,}", ".", text)


def train_sweep(
    config: EnvironmentRunConfig, train_one: TrainOne, clock: Callable[[], float] = time.perf_counter
) -> int:
    """Trains the runs of a sweep one after the other, and prints the results. `--time` is the time
    of all of them together: the run that it ends is saved, and the others are not started.

    Args:
      clock: returns seconds.

    Returns:
      The exit status: that of the signal that stopped the sweep; 1 if a run failed.
    """
    began, limit = clock(), config.time_seconds
    points = list(config.each_run())
    group = sweep_group(config)
    names = run_names(group, [values for values, _ in points], config.tracking.run_suffix)
    runs_dir = config.tracking.runs_dir
    for name in names:
        require(
            not (runs_dir / name).exists(),
            f"--run-name {group}: {runs_dir / name} exists; continue it with --resume-run {name}, or choose another name",
        )
    status = Status(shown=False)
    quiet = config.tracking.console == "quiet"
    if not quiet:
        status.line(f"sweep    {plural(len(points), 'run')}, one after the other: {group}-...")
    results: list[dict[str, Any]] = []
    not_started: list[str] = []
    worst = 0
    for number, (name, (values, one)) in enumerate(zip(names, points, strict=True), 1):
        seconds_left = None if limit is None else limit - (clock() - began)
        if seconds_left is not None and seconds_left <= 0:
            not_started = names[number - 1 :]
            complain(
                f"--time {config.time} is over; {plural(len(not_started), 'run')} not started: {', '.join(not_started)}"
            )
            break
        if not quiet:
            status.line(f"\nrun {number} of {len(points)}: {_in_words(values)}")
        tracking = dataclasses.replace(one.tracking, run_name=name, run_suffix=None)
        about = {"sweep_group": {"name": group, "sweep": list(config.sweep), "settings": dict(values)}}
        code = train_one(
            dataclasses.replace(one, tracking=tracking),
            about,
            lambda result, values=values: results.append(_with_point(result, values)),
            seconds_left,
        )
        if code in STOPPED:
            worst = code
            if not_started := names[number:]:
                complain(
                    f"the sweep stopped; {plural(len(not_started), 'run')} not started: {', '.join(not_started)}"
                )
            break
        worst = worst or code
    answer = {**joined(group, config, results), "not_started": not_started}
    if config.json:
        print(json.dumps(answer))
    elif results:
        print("\n".join(_table(results)))
        compare = ["matrixrl", "runs", "compare", f"{group}-*", *runs_dir_flag(config.tracking.runs_dir)]
        print(f"compare them:\n  {shlex.join(compare)}")
    return worst


def _in_words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in values.items())


def _short(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("ppo."): value for name, value in values.items()}


def _with_point(result: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the result of a run with its point of the sweep, and its agents with the run's
    name.
    """
    own = _short(values)
    agents = result.get("agents") or [
        {
            "agent": 0,
            "seed": result.get("seed"),
            "settings": {},
            "mean_return": result.get("mean_return"),
            "diverged": False,
        }
    ]
    of_run = {"run_name": result["run_name"], "run_id": result["run_id"], "run_dir": result["run_dir"]}
    agents = [{**of_run, **agent, "settings": {**own, **agent["settings"]}} for agent in agents]
    return {**result, "settings": own, "agents": agents}


def joined(group: str, config: EnvironmentRunConfig, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the results of the runs as one JSON object."""
    agents = [agent for result in results for agent in result["agents"]]
    returns = [
        agent["mean_return"] for agent in agents if agent["mean_return"] is not None and not agent["diverged"]
    ]
    seconds = sum(result["seconds"] for result in results)
    steps = sum(result["total_timesteps"] for result in results)
    return {
        "sweep_group": group,
        "sweep": list(config.sweep),
        "runs": [{name: value for name, value in result.items() if name != "agents"} for result in results],
        "agents": agents,
        "total_timesteps": steps,
        "steps_per_second": round(steps / seconds, 1) if seconds else 0.0,
        "mean_return": sum(returns) / len(returns) if returns else None,
        "seconds": round(seconds, 3),
    }


def _table(results: Sequence[Mapping[str, Any]]) -> list[str]:
    from matrixrl.cli.runs_common import table

    rows = []
    for result in results:
        mean = result["mean_return"]
        rows.append(
            [
                result["run_name"],
                str(len(result["agents"])),
                "-" if mean is None else significant(float(mean)),
                f"{result['total_timesteps']:,}",
            ]
        )
    return table(["run", "agents", "mean return", "steps"], rows, right=(1, 2, 3))


def recorded_group(config: EnvironmentRunConfig) -> dict[str, Any]:
    """Returns what a resumed run recorded of its sweep, which its next attempt records too."""
    tracking: TrackingConfig = config.tracking
    if tracking.resume_run is None:
        return {}
    recorded = (read_run_file(tracking.runs_dir / tracking.resume_run) or {}).get("config") or {}
    return {"sweep_group": recorded["sweep_group"]} if "sweep_group" in recorded else {}
