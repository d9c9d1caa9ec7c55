"""Agents of a run that trains many at once: names of their metrics, and their grid of settings."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

AGENT = re.compile(r"agent/(\d+)/(.*)")
SETTING = re.compile(r"setting/(\d+)/(.*)")


@dataclass(frozen=True)
class Grid:
    """Agents of a run, from its recorded settings.

    Attributes:
        num_seeds: number of agents of each point.
        points: swept values by name, of each point of the grid; one empty point without a grid.
    """

    num_seeds: int
    points: list[dict[str, str]]

    def point_of(self, agent: int) -> int:
        """Returns the number of the point of an agent."""
        return min(agent // self.num_seeds, len(self.points) - 1)


def grid_of(config: Mapping[str, Any]) -> Grid:
    """Returns the agents that recorded settings describe."""
    names: list[str] = []
    values: list[list[str]] = []
    for text in config.get("sweep") or ():
        name, _, given = str(text).partition("=")
        names.append(name.rpartition(".")[2].replace("-", "_"))
        values.append(given.split(","))
    points = [dict(zip(names, point, strict=True)) for point in itertools.product(*values)]
    return Grid(int(config.get("num_seeds") or 1), points)


def label_of(point: Mapping[str, str]) -> str:
    """Returns the values of a point in words."""
    return ", ".join(f"{name} {value}" for name, value in point.items())
