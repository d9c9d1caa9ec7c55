"""Runs of many agents for `matrixrl runs`: who they are, and the means over them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from matrixrl.cli.runs_common import number, table
from matrixrl.tracking.agents import AGENT, SETTING, grid_of, label_of
from matrixrl.tracking.identity import read_run_file
from matrixrl.tracking.journal_reader import JournalReader


def last_aggregates(reader: JournalReader) -> dict[str, Any]:
    """Returns the last value of every metric of the stream that is not of a single agent, with the
    number of agents as `agents`; empty for a run of one agent.
    """
    found: dict[str, Any] = {}
    agents: set[int] = set()
    last = range(max(1, reader.last_id() - 200), reader.last_id() + 1)
    for _, _, metrics in reader.rows_where(last, "instr(metrics, ?)", ('"agent/',)):
        agents = {int(match[1]) for name in metrics if (match := AGENT.fullmatch(name))}
        found |= {name: value for name, value in metrics.items() if not AGENT.fullmatch(name)}
    return {**found, "agents": len(agents)} if agents else {}


def agents_lines(reader: JournalReader, directory: Path, metrics: Iterable[str]) -> list[str]:
    """Returns a table of mean, interquartile mean and 95 % interval over the agents of a run, and
    over the seeds of each point of its grid; empty for a run of one agent.
    """
    last = last_aggregates(reader)
    if not last:
        return []
    grid = grid_of((read_run_file(directory) or {}).get("config") or {})
    head = ["metric", "mean", "IQM", "95 % interval of the mean", "agents"]
    points = sorted({int(match[1]) for name in last if (match := SETTING.fullmatch(name))})
    rows: list[list[str]] = []
    for metric in metrics:
        if metric not in last:
            continue
        rows.append([metric, *_values(last, metric), f"all {last['agents']:,}"])
        for point in points:
            known = grid.points[point] if point < len(grid.points) else {}
            of_point = _values(last, f"setting/{point}/{metric}")
            rows.append(["", *of_point, label_of(known) or f"point {point}"])
    if not rows:
        return []
    title = "means over agents, in the last recorded row"
    return ["", title, *table(head, rows, right=(1, 2))]


def _values(last: Mapping[str, Any], metric: str) -> list[str]:
    low, high = last.get(f"{metric}_low"), last.get(f"{metric}_high")
    interval = "-" if low is None or high is None else f"{number(low)} to {number(high)}"
    return [number(last.get(metric)), number(last.get(f"{metric}_iqm")), interval]
