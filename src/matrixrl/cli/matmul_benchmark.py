"""`matrixrl matmul train --benchmark`: what tracking costs this trainer."""

from __future__ import annotations

import dataclasses
import json
import time

from matrixrl.config import MatmulConfig, TrackingConfig, as_record

# A benchmark compares equal lengths of training, so it does not stop at a find, and this is long enough to compare.
MAX_EPOCHS = 3


def benchmark_tracking(config: MatmulConfig) -> int:
    """Train with and without trackers, alternating, on one seed and one compiled program; returns the exit status."""
    from matrixrl.devices.machine import use_compilation_cache
    from matrixrl.tracking.benchmark import as_json, as_table, benchmark
    from matrixrl.tracking.run import open_run
    from matrixrl.training.discoveries import Discoveries
    from matrixrl.training.loop import StopRequest, run_loop
    from matrixrl.training.matmul import MatmulTrainer
    from matrixrl.training.matmul_program import MatmulProgram

    use_compilation_cache()
    selfplay = dataclasses.replace(
        config.selfplay,
        num_epochs=min(config.selfplay.num_epochs, MAX_EPOCHS),
        stop_at_record=False,
        stop_at_rank=None,
    )
    config = dataclasses.replace(config, selfplay=selfplay, benchmark=False)
    program = MatmulProgram(config)

    def train(tracking: TrackingConfig) -> float:
        run = open_run(tracking, system="matmul", name_prefix="benchmark", run_config=as_record(config))
        with run, StopRequest() as stop:
            trainer = MatmulTrainer(config, Discoveries(run.directory, {}), program)
            state = trainer.init()
            began = time.perf_counter()
            run_loop(trainer, state, run, stop)
            return time.perf_counter() - began

    results = benchmark(train, config.tracking)
    print(as_table(results))
    if config.json:
        print(json.dumps(as_json(results)))
    return 0
