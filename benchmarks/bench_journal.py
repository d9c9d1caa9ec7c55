"""How long the readers of a journal take: a run of 1,000,000 rows, and a folder of 2,000 runs.

    nice -n 5 python benchmarks/bench_journal.py [--rows 1000000] [--runs 2000] [--repeats 3] [--keep FOLDER] [--json]

Each command runs in a process of its own; seconds, processor seconds and peak memory are those of the whole process,
start included. On a busy machine the processor seconds are what compares.
Half of the rows belong to the stream and half to the episode table, and `console.log` has the line of each episode.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from matrixrl.config import TrackingConfig
from matrixrl.systems.matmul.spec import EPISODE_COLUMNS as MATMUL_EPISODE_COLUMNS
from matrixrl.tracking.events import EpisodeRow, Event, ScalarRow, TableSnapshot
from matrixrl.tracking.run import open_run

BATCH = 1000
"""Number of rows of each kind per transaction."""


def write_run(runs_dir: Path, name: str, rows: int) -> None:
    """Records a run with the real writer: in turn a stream row and an episode, and an epoch's end per batch."""
    config = TrackingConfig(runs_dir=runs_dir, run_name=name, console="quiet")
    columns = list(MATMUL_EPISODE_COLUMNS)
    with open_run(config, system="matmul", name_prefix="bench", run_config={"seed": 0}) as run:
        number = 0
        for epoch in range(1, -(-rows // (2 * BATCH)) + 1):
            events: list[Event] = []
            count = min(BATCH, (rows - 2 * number + 1) // 2)
            for tick in run.clock.advance(count):
                number += 1
                values = [number, epoch, number % BATCH, -7.0 - number % 9, float(number % 3), 7, 8, True]
                events.append(EpisodeRow(tick, dict(zip(columns, values, strict=True))))
                metrics = {
                    "episode/reward": math.sin(number / 1e5),
                    "episode/residual": float(number % 3),
                    "episode/rank": 7,
                    "episode/count": 1,
                }
                events.append(ScalarRow(tick, metrics))
            run.record(events)
            tick = run.clock.tick()
            loss = math.exp(-epoch / 100)
            run.record([ScalarRow(tick, {"Epoch": epoch, "epoch_loss": loss}), TableSnapshot(tick)])


def measure(command: list[str]) -> tuple[float, float, float]:
    """Returns the seconds, the processor seconds and the peak memory in MB of a command."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if status:
        raise SystemExit(f"{' '.join(command)}: status {os.waitstatus_to_exitcode(status)}")
    scale = 1e6 if sys.platform == "darwin" else 1e3
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / scale


def main() -> None:
    """Prints the median seconds and the peak memory of each command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=2_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="folder for the runs, used again by the next call")
    parser.add_argument("--only", nargs="*", help="names of the commands to measure")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-journal-") as temporary:
        folder = arguments.keep or Path(temporary)
        large, many = folder / f"rows-{arguments.rows}", folder / f"runs-{arguments.runs}"
        if not large.exists():
            write_run(large, "large", arguments.rows)
        if not many.exists():
            for number in range(arguments.runs):
                write_run(many, f"run-{number}", 40)
        out = Path(temporary) / "export"
        matrixrl = [sys.executable, "-m", "matrixrl.cli.main", "runs"]
        own = ["large", "--runs-dir", str(large)]
        commands = {
            "list": [*matrixrl, "list", "--runs-dir", str(many)],
            "list --json": [*matrixrl, "list", "--json", "--runs-dir", str(many)],
            "list of the large run": [*matrixrl, "list", "--runs-dir", str(large)],
            "show": [*matrixrl, "show", *own],
            "show --json": [*matrixrl, "show", "--json", *own],
            "export parquet": [*matrixrl, "export", *own, "--format", "parquet", "--out", str(out)],
            "export csv": [*matrixrl, "export", *own, "--format", "csv", "--out", str(out)],
            "audit": [*matrixrl, "audit", *own],
        }
        results: dict[str, dict[str, float]] = {}
        for name, command in commands.items():
            if arguments.only and name not in arguments.only:
                continue
            taken = [measure(command) for _ in range(arguments.repeats)]
            seconds, processor, peaks = zip(*taken, strict=True)
            results[name] = {
                "median_seconds": round(statistics.median(seconds), 2),
                "min_seconds": round(min(seconds), 2),
                "max_seconds": round(max(seconds), 2),
                "median_processor_seconds": round(statistics.median(processor), 2),
                "peak_mb": round(max(peaks)),
            }
            print(f"{name:<24} {json.dumps(results[name])}", flush=True)
            shutil.rmtree(out, ignore_errors=True)
        size = sum(path.stat().st_size for path in (large / "large").iterdir()) / 1e6
        facts = {"rows": arguments.rows, "runs": arguments.runs, "folder_mb": round(size)}
        print(json.dumps({**facts, "load": os.getloadavg()[0]}))
        if arguments.json:
            print(json.dumps({**facts, "commands": results}))


if __name__ == "__main__":
    main()
