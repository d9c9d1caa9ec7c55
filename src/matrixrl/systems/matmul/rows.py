"""Rows of the journal: conversion of results of games and evaluations to metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from matrixrl.agents.selfplay import Move
from matrixrl.systems.matmul.state import EvaluationTotals
from matrixrl.tracking.events import EpisodeRow


def names_by_format(stem: str, formats: Sequence[str]) -> list[str]:
    """Returns the name of a metric for each format: the stem, with the format appended where there
    are several.
    """
    return [stem] if len(formats) == 1 else [f"{stem}_{name}" for name in formats]


def episode_metrics(rows: list[EpisodeRow]) -> dict[str, float | int]:
    """Returns the stream row of episodes that end together: means, the best, and the count."""

    def column(name: str) -> np.ndarray:
        return np.array([row.values[name] for row in rows], np.float64)

    reward, rank = column("Reward"), column("Rank")
    return {
        "episode/reward": float(reward.mean()),
        "episode/residual": float(column("Residual").mean()),
        "episode/rank": float(rank.mean()),
        "episode/steps": float(column("Steps").mean()),
        "episode/solved": float(column("Solved").mean()),
        "episode/best_reward": float(reward.max()),
        "episode/best_rank": int(rank.min()),
        "episode/count": len(rows),
    }


def add_evaluated(
    before: Sequence[EvaluationTotals], move: Move, playing: int, num_formats: int
) -> tuple[EvaluationTotals, ...]:
    """Adds a finished batch of games to the totals of an evaluation.

    Args:
      before: the totals so far; empty before the first batch.
      move: the last move of the batch, on the host.
      playing: number of games in the batch; lane k played format k modulo `num_formats`.
    """
    totals: list[EvaluationTotals] = []
    for number in range(num_formats):
        lanes = np.arange(number, playing, num_formats)
        old = before[number] if before else EvaluationTotals()
        if len(lanes) == 0:
            totals.append(old)
            continue
        best = int(lanes[move.cost[lanes].argmin()])
        new = EvaluationTotals(
            cost=float(move.cost[best]),
            residual=float(move.residual[best]),
            steps=float(move.num_moves[best]),
            solved=float(move.solved[lanes].sum()) + old.solved,
            played=float(len(lanes)) + old.played,
        )
        assert math.isfinite(new.cost)
        if old.played > 0 and (old.cost, old.residual, old.steps) < (new.cost, new.residual, new.steps):
            new = new._replace(cost=old.cost, residual=old.residual, steps=old.steps)
        totals.append(new)
    return tuple(totals)


def evaluation_metrics(
    evaluated: Sequence[EvaluationTotals], suffixes: Sequence[str], epoch: int
) -> dict[str, float | int]:
    """Returns the row of an evaluation: the best of all its games, which were played without
    exploration.

    Args:
      evaluated: totals over all batches, for each format.
      suffixes: of the metric names of each format.
    """
    row: dict[str, float | int] = {"Epoch": epoch}
    for suffix, totals in zip(suffixes, evaluated, strict=True):
        if totals.played == 0:
            continue  # fewer games than formats
        row |= {
            f"eval/rank{suffix}": round(totals.cost),
            f"eval/residual{suffix}": totals.residual,
            f"eval/steps{suffix}": int(totals.steps),
            f"eval/solved{suffix}": totals.solved / totals.played,
        }
    return row
