"""The counters of a run survive a checkpoint, which keeps them as JSON."""

from __future__ import annotations

import json

from matrixrl.checkpoints.format import plain
from matrixrl.training.matmul import Progress, progress_of


def test_progress_comes_back_from_json_as_it_was() -> None:
    between_batches_of_an_evaluation = Progress(
        phase="evaluate",
        epoch=5,
        loss_sums=(1.0, 0.5, 0.25, 2.0),
        step_limits=(7, 11),
        best_ranks=(None, 12),
        evaluated=(8.0, 1.0, 7.0, 0.0, 3.0),
    )
    record = json.loads(json.dumps(plain(between_batches_of_an_evaluation)))
    assert progress_of(record) == between_batches_of_an_evaluation
