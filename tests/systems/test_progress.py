"""The counters of a run survive a checkpoint, which keeps them as JSON."""

from __future__ import annotations

import json

from matrixrl.checkpoints.format import plain
from matrixrl.systems.matmul.state import EvaluationTotals, LossSums, Progress, progress_from_record
from matrixrl.systems.ppo import trainer as ppo

BETWEEN_BATCHES_OF_AN_EVALUATION = Progress(
    phase="evaluate",
    epoch=5,
    loss_sums=LossSums(1.0, 0.5, 0.25, 2.0),
    step_limits=(7, 11),
    best_ranks=(None, 12),
    evaluated=(EvaluationTotals(8.0, 1.0, 7.0, 0.0, 3.0), EvaluationTotals()),
)


def test_progress_comes_back_from_json_as_it_was() -> None:
    record = json.loads(json.dumps(plain(BETWEEN_BATCHES_OF_AN_EVALUATION)))
    assert progress_from_record(record) == BETWEEN_BATCHES_OF_AN_EVALUATION


def test_progress_of_an_earlier_version_is_read() -> None:
    record = json.loads(json.dumps(plain(BETWEEN_BATCHES_OF_AN_EVALUATION)))
    record["evaluated"] = [8.0, 1.0, 7.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert progress_from_record(record) == BETWEEN_BATCHES_OF_AN_EVALUATION
    record["evaluated"] = []
    assert progress_from_record(record).evaluated == ()


def test_progress_of_an_earlier_ppo_run_is_read() -> None:
    now = ppo.PPOProgress(updates=3, maxima={"highest_stage": 2}, streaks={"train/entropy": 1})
    record = json.loads(json.dumps(plain(now)))
    assert ppo.progress_from_record(record) == now
    record["ill_for"], record["highest_stage"] = record.pop("streaks"), 2
    del record["maxima"]
    assert ppo.progress_from_record(record) == now
