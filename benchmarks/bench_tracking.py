"""What tracking costs: appends, start-up, episode tables of a long run, and W&B beside a busy training loop.

    nice -n 5 python benchmarks/bench_tracking.py [--json] [--quick]

Conditions are printed with the figures. Nothing here reaches beyond the machine: W&B writes its offline file.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from matrixrl.config import TrackingConfig
from matrixrl.systems.matmul.spec import EPISODE_COLUMNS as MATMUL_EPISODE_COLUMNS
from matrixrl.tracking.benchmark import as_json, as_table, benchmark
from matrixrl.tracking.events import EpisodeRow, ScalarRow, TableSnapshot
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.parquet import write_episode_parts
from matrixrl.tracking.run import Run, open_run

TEN = {f"train/metric_{number}": 1.0 / (number + 3) for number in range(10)}


def start(folder: Path, **settings: object) -> Run:
    """A quiet run."""
    config = TrackingConfig(runs_dir=folder, console="quiet", **settings)  # pyright: ignore[reportArgumentType]
    return open_run(config, system="matmul", name_prefix="bench", run_config={})


def append(folder: Path, rows: int, pause: float) -> dict[str, float]:
    """Microseconds per `record` of one row of ten scalars, one transaction each."""
    times = []
    with start(folder) as run:
        for _ in range(rows):
            tick = run.clock.tick()
            begun = time.perf_counter()
            run.record([ScalarRow(tick, TEN)])
            times.append(time.perf_counter() - begun)
            if pause:
                time.sleep(pause)
    times.sort()
    return {
        "median_us": 1e6 * times[rows // 2],
        "p99_us": 1e6 * times[rows * 99 // 100],
        "max_us": 1e6 * times[-1],
    }


def start_up(folder: Path) -> dict[str, float]:
    """Seconds from importing tracking to the first row, W&B asked for, in a fresh process; median of five."""
    code = (
        "import sys, time\nbegun = time.perf_counter()\nfrom pathlib import Path\n"
        "from matrixrl.config import TrackingConfig\nfrom matrixrl.tracking.run import open_run\n"
        "from matrixrl.tracking.events import ScalarRow\n"
        "config = TrackingConfig(runs_dir=Path(sys.argv[1]), console='quiet', wandb=True)\n"
        "run = open_run(config, system='matmul', name_prefix='bench', run_config={})\n"
        "run.record([ScalarRow(run.clock.tick(), {'loss': 1.0})])\n"
        "print(time.perf_counter() - begun, flush=True)\nrun.finish(deadline_seconds=0)\n"
    )
    seconds = []
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
        )
        seconds.append(float(done.stdout.split()[0]))
    return {"median_seconds": statistics.median(seconds), "max_seconds": max(seconds)}


def tables(folder: Path, episodes: int, epochs: int) -> dict[str, float]:
    """The cost per epoch of the complete episode table, early and late in a long run."""
    per_epoch = episodes // epochs
    training: list[float] = []
    table: list[float] = []
    parquet: list[float] = []
    with start(folder) as run, JournalReader(run.directory) as reader:
        number = 0
        for epoch in range(1, epochs + 1):
            ticks = run.clock.advance(per_epoch)
            rows = []
            for tick in ticks:
                number += 1
                values = [number, epoch, number % per_epoch, -7.5, 0.0, 7, 8, True]
                rows.append(EpisodeRow(tick, dict(zip(MATMUL_EPISODE_COLUMNS, values, strict=True))))
            run.record(rows)
            tick = run.clock.tick()
            begun = time.perf_counter()
            run.record([ScalarRow(tick, {"Epoch": epoch, "epoch_loss": 0.5}), TableSnapshot(tick)])
            training.append(time.perf_counter() - begun)
            # What the delivery process does for it: the rows that W&B shows, and the Parquet parts.
            begun = time.perf_counter()
            json.dumps(reader.last_episodes(tick.step, 10_000))
            table.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            write_episode_parts(reader, folder / "parts")
            parquet.append(time.perf_counter() - begun)
    late, early = slice(-epochs // 10, None), slice(0, epochs // 10)
    return {
        "episodes": episodes,
        "mark_on_training_thread_ms": 1e3 * statistics.median(training[late]),
        "shown_rows_early_ms": 1e3 * statistics.median(table[early]),
        "shown_rows_late_ms": 1e3 * statistics.median(table[late]),
        "parquet_early_ms": 1e3 * statistics.median(parquet[early]),
        "parquet_late_ms": 1e3 * statistics.median(parquet[late]),
    }


def busy_training(updates: int):
    """A loop that keeps one core busy for 15 ms per update and records each: ten scalars, an epoch's table per 50."""

    def train(config: TrackingConfig) -> float:
        with open_run(config, system="matmul", name_prefix="bench", run_config={}) as run:
            begun = time.perf_counter()
            for update in range(updates):
                value = 0.0
                for number in range(150_000):
                    value += number * 0.5
                run.record([ScalarRow(run.clock.tick(), TEN)])
                if update % 50 == 49:
                    ticks = run.clock.advance(10)
                    first = update // 50 * 10
                    rows = [
                        EpisodeRow(
                            tick,
                            dict(
                                zip(
                                    MATMUL_EPISODE_COLUMNS,
                                    [first + i, 1, i, 0.0, 0.0, 7, 7, True],
                                    strict=True,
                                )
                            ),
                        )
                        for i, tick in enumerate(ticks, start=1)
                    ]
                    tick = run.clock.tick()
                    run.record(
                        [
                            *rows,
                            ScalarRow(tick, {"Epoch": update // 50, "epoch_loss": value}),
                            TableSnapshot(tick),
                        ]
                    )
            return time.perf_counter() - begun

    return train


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    arguments = parser.parse_args()
    os.environ.setdefault("WANDB_MODE", "offline")
    share = 10 if arguments.quick else 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results: dict[str, object] = {
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
            "append_burst": append(folder / "a", 20_000 // share, 0.0),
            "append_every_5_ms": append(folder / "b", 600 // share, 0.005),
            "start_up": start_up(folder / "c"),
            "tables": tables(folder / "d", 100_000 // share, 100),
        }
        print(json.dumps(results, indent=2), flush=True)
        slowdowns = benchmark(busy_training(1000 // share), TrackingConfig(runs_dir=folder / "e"))
        print(as_table(slowdowns))
        if arguments.json:
            print(json.dumps({**results, "slowdown": as_json(slowdowns)}))


if __name__ == "__main__":
    main()
