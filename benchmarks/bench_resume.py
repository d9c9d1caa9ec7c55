"""What going on costs: a run with a long history, and the first new step of a real one.

    taskset -c 1 python benchmarks/bench_resume.py [--episodes 1000000] [--json] [--no-train]

Each part of the long history runs in a process of its own, so that its peak memory is its own. The real run is
`matrixrl matmul train --preset quick`, stopped by SIGTERM and resumed; its compiled programs are in the cache by then.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from matrixrl.config import TrackingConfig
from matrixrl.systems.matmul.spec import EPISODE_COLUMNS as MATMUL_EPISODE_COLUMNS
from matrixrl.tracking.audit import audit
from matrixrl.tracking.events import EpisodeRow, ScalarRow, TableSnapshot
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.packed import pack_journal, unpack_journal
from matrixrl.tracking.parquet import write_episode_parts
from matrixrl.tracking.run import Run, open_run

EPOCH_EPISODES, EPISODE_STEPS = 1000, 8


def open_it(folder: Path, **settings: Any) -> Run:
    """The run `r`, quiet."""
    config = TrackingConfig(runs_dir=folder, console="quiet", **settings)
    return open_run(config, system="matmul", name_prefix="bench", run_config={})


def write(folder: Path, episodes: int) -> None:
    """A run of so many episodes: a stream row per 100 of them, a mark per 1,000."""
    with open_it(folder, run_name="r") as run:
        for epoch in range(1, episodes // EPOCH_EPISODES + 1):
            write_epoch(run, epoch)


def write_epoch(run: Run, epoch: int) -> None:
    """The rows of one epoch, in one transaction."""
    ticks = run.clock.advance(EPOCH_EPISODES * EPISODE_STEPS)
    rows: list[EpisodeRow | ScalarRow | TableSnapshot] = []
    for index in range(EPOCH_EPISODES):
        tick = ticks[(index + 1) * EPISODE_STEPS - 1]
        number = (epoch - 1) * EPOCH_EPISODES + index + 1
        values = [number, epoch, index + 1, -7.5 - index % 7, 0.0, 7, 8, index % 2 == 0]
        rows.append(EpisodeRow(tick, dict(zip(MATMUL_EPISODE_COLUMNS, values, strict=True))))
        if index % 100 == 99:
            rows.append(ScalarRow(tick, {"episode/reward": -7.5, "episode/count": 100}))
    tick = run.clock.tick()
    run.record([*rows, ScalarRow(tick, {"Epoch": epoch, "epoch_loss": 1 / epoch}), TableSnapshot(tick)])


def resume(folder: Path) -> None:
    """From opening the run to its first new row; the checkpoint lies an epoch behind the journal."""
    with JournalReader(folder / "r") as reader:
        last = reader.last_step()
    with open_it(folder, resume_run="r") as run:
        epoch_steps = EPOCH_EPISODES * EPISODE_STEPS + 1
        run.restore_clock(last - epoch_steps)
        write_epoch(run, last // epoch_steps)  # it is recognised
        run.record([ScalarRow(run.clock.tick(), {"loss": 1.0})])


def resume_without_transcript(folder: Path) -> None:
    """The same on a machine that `console.log` did not come along to: it is written anew."""
    (folder / "r" / "console.log").unlink()
    resume(folder)


def pack(folder: Path) -> None:
    """What the delivery process does before it sends a copy of the journal."""
    with JournalReader(folder / "r") as reader:
        pack_journal(reader, folder / "packed")


def unpack(folder: Path) -> None:
    """What `runs restore` does with it."""
    (folder / "unpacked").mkdir()
    with JournalReader(folder / "r") as reader:
        metadata = pack_journal(reader, folder / "packed")
    unpack_journal(folder / "packed", folder / "unpacked", metadata["sha256"])


def parquet(folder: Path) -> None:
    """The complete episode table as Parquet, from nothing."""
    with JournalReader(folder / "r") as reader:
        write_episode_parts(reader, folder / "parts")


def audited(folder: Path) -> None:
    """`runs audit` of the whole history."""
    report = audit(folder / "r", server=False)
    assert report.agrees, report.gaps


PARTS: dict[str, Callable[[Path], None]] = {
    "resume": resume,
    "resume without console.log": resume_without_transcript,
    "pack the journal": pack,
    "pack and unpack": unpack,
    "episode table as Parquet": parquet,
    "audit": audited,
}


def measure_part(name: str, folder: Path) -> dict[str, float]:
    """Seconds and the growth of peak memory of one part, in this process."""
    import pyarrow.parquet  # noqa: F401 (its size is no cost of the history)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    PARTS[name](folder)
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "grown_mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
    }


def long_history(folder: Path, episodes: int) -> dict[str, Any]:
    """Every part on one history, each in a fresh process and on a fresh copy."""
    began = time.perf_counter()
    write(folder / "whole", episodes)
    results: dict[str, Any] = {"episodes": episodes, "written in seconds": time.perf_counter() - began}
    results["journal_mib"] = (folder / "whole" / "r" / "journal.sqlite").stat().st_size / 2**20
    for name in PARTS:
        shutil.copytree(folder / "whole", folder / "copy")
        command = [sys.executable, __file__, "--part", name, "--folder", str(folder / "copy")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        results[name] = json.loads(done.stdout.splitlines()[-1])
        packed = folder / "copy" / "packed" / "journal.sqlite.gz"
        if packed.exists():
            results["packed_mib"] = packed.stat().st_size / 2**20
        print(name, results[name], flush=True)
        shutil.rmtree(folder / "copy")
    return results


def rows_of(run: Path) -> tuple[int, int]:
    """Attempts, and rows of the newest one; 0, 0 before there are any."""
    try:
        with sqlite3.connect(f"file:{run / 'journal.sqlite'}?mode=ro", uri=True) as connection:
            (attempt,) = connection.execute("SELECT coalesce(max(attempt), 0) FROM attempts").fetchone()
            query = "SELECT (SELECT count(*) FROM stream WHERE attempt = ?1) + (SELECT count(*) FROM moves WHERE attempt = ?1)"
            return attempt, connection.execute(query, (attempt,)).fetchone()[0]
    except sqlite3.Error:
        return 0, 0


def first_step(folder: Path) -> dict[str, float]:
    """Seconds from the command to the first new row, of a fresh run and of one that is resumed; and checkpoints."""
    base = [sys.executable, "-m", "matrixrl.cli.main", "matmul", "train", "--runs-dir", str(folder)]
    begin = [
        "--preset",
        "quick",
        "--no-stop-at-record",
        "--record-moves",
        "--run-name",
        "r",
        "--console",
        "quiet",
    ]
    results = {}
    # The first one fills the cache where that is still empty.
    for attempt, (name, flags) in enumerate(
        {"fresh": begin, "resumed": ["--resume-run", "r"], "resumed again": ["--resume-run", "r"]}.items(), 1
    ):
        began = time.perf_counter()
        process = subprocess.Popen([*base, *flags, "--save-interval", "2"], stdout=subprocess.DEVNULL)
        while (seen := rows_of(folder / "r")) < (attempt, 1):
            assert process.poll() is None, seen
            time.sleep(0.01)
        results[name] = time.perf_counter() - began
        used = psutil.Process(process.pid).cpu_times()
        results[f"{name}, of processor time"] = used.user + used.system
        time.sleep(8.0)
        process.send_signal(signal.SIGTERM)
        process.wait()
    with JournalReader(folder / "r") as reader:
        held = [record.seconds for record in reader.files() if record.kind == "checkpoint" and record.seconds]
        sizes = [record.size_bytes for record in reader.files() if record.kind == "checkpoint"]
    results["checkpoint holds up training, median ms"] = 1e3 * sorted(held)[len(held) // 2]
    results["checkpoint holds up training, max ms"] = 1e3 * max(held)
    results["checkpoint MiB"] = sizes[-1] / 2**20
    results["percent of 300 s, max"] = 100 * max(held) / 300
    return results


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--no-train", action="store_true", help="the long history only")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        print(json.dumps(measure_part(arguments.part, arguments.folder)))
        return
    with tempfile.TemporaryDirectory() as name:
        results: dict[str, Any] = {"cores": os.cpu_count(), "load": os.getloadavg()[0]}
        if not arguments.no_train:
            results["first new row"] = first_step(Path(name))
            print(json.dumps(results["first new row"], indent=2), flush=True)
        results["history"] = long_history(Path(name), arguments.episodes)
        print(json.dumps(results, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
