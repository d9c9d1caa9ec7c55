"""`matrixrl matmul|hackmatrix train --benchmark`: what tracking costs a trainer."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from matrixrl.cli.progress import working
from matrixrl.cli.session import Session
from matrixrl.config import TrackingConfig, as_record

if TYPE_CHECKING:
    from matrixrl.tracking.benchmark import Slowdown


def benchmark_tracking(session: Session[Any, Any]) -> int:
    """Trains with and without trackers, alternating, on one seed; returns the exit status.

    Args:
      session: a short training of a fixed length, whose trainers share their compiled programs.
    """
    config = session.config
    what = session.describe(config) if session.describe else "a short run"
    with working(f"measuring what tracking costs: {what}"):
        results = _measure(session)
    from matrixrl.tracking.benchmark import as_json, as_table

    print(as_table(results))
    if config.json:
        print(json.dumps(as_json(results)))
    return 0


def _measure(session: Session[Any, Any]) -> list[Slowdown]:
    from matrixrl.devices.compilation_cache import use_compilation_cache
    from matrixrl.tracking.benchmark import Timing, benchmark, wait_for_start
    from matrixrl.tracking.run import open_run
    from matrixrl.training.loop import StopRequest, run_loop

    use_compilation_cache()
    config = session.config
    if session.prepare is not None:
        session.prepare(config)

    def train(tracking: TrackingConfig) -> Timing:
        opened = time.perf_counter()
        run = open_run(
            tracking,
            system=session.system,
            name_prefix="benchmark",
            run_config=as_record(config),
            episode_columns=session.columns,
        )
        with run, StopRequest() as stop:
            trainer: Any = session.make_trainer(config, run)
            state = trainer.init()
            started = None
            if tracking.wandb and wait_for_start(run.directory):
                started = time.perf_counter() - opened
            began = time.perf_counter()
            run_loop(trainer, state, run, stop)
            return Timing(time.perf_counter() - began, started)

    return benchmark(train, config.tracking)
