"""Speed and memory of `matrixrl dashboard` with many runs and with very long ones.

    python benchmarks/bench_dashboard.py [--runs 100 2000] [--rows 1000000] [--trainings 3]

It makes journals in a temporary folder (copies of one finished run, and one run with a long stream
and a long episode table), starts the command itself, and prints the time of each answer and the
memory of the server's process. `--trainings N` trains with PPO N times with a page open in a
browser and N times without, alternating, and compares steps per second and processor time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from matrixrl.config import TrackingConfig
from matrixrl.systems.matmul.spec import SPEC
from matrixrl.tracking.events import EpisodeRow, Event, ScalarRow
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.run import open_run
from tests.dashboard.browser import started_browser

CHUNK = 2_000


def make_run(runs_dir: Path, name: str, rows: int) -> Path:
    """Makes a finished run with `rows` rows of the stream and as many episodes."""
    tracking = TrackingConfig(runs_dir=runs_dir, run_name=name, console="quiet")
    run = open_run(tracking, system=SPEC, name_prefix="x", run_config={"seed": 0, "batch_size": 64})
    rng = random.Random(0)
    done = 0
    while done < rows:
        count = min(CHUNK, rows - done)
        events: list[Event] = []
        for tick in run.clock.advance(count):
            done += 1
            solved = rng.random() < 0.3
            values: dict[str, Any] = {
                "Global Episode": done,
                "Epoch": done // 100,
                "Episode in Epoch": done % 100,
                "Reward": -rng.random() * 20,
                "Residual": 0.0 if solved else float(rng.randint(1, 6)),
                "Rank": rng.randint(7, 12),
                "Steps": rng.randint(7, 12),
                "Solved": solved,
            }
            metrics = {
                "episode/reward": values["Reward"],
                "episode/rank": values["Rank"],
                "pretrain/loss": 3 * math.exp(-done / rows * 5) + rng.random(),
            }
            # One extreme value that thinning must keep.
            if done == rows // 3:
                metrics["pretrain/loss"] = 1_000.0
            events += [ScalarRow(tick, metrics), EpisodeRow(tick, values)]
        run.record(events)
    run.finish("finished")
    return run.directory


def copies(runs_dir: Path, original: Path, count: int) -> None:
    """Copies a finished run under other names, times of files included."""
    for number in range(count):
        copy = runs_dir / f"run-{number:05d}"
        shutil.copytree(original, copy)
        record = json.loads((copy / "run.json").read_text())
        (copy / "run.json").write_text(json.dumps(record | {"name": copy.name}))


class Server:
    """`matrixrl dashboard` on a free port."""

    def __init__(self, runs_dir: Path) -> None:
        command = [sys.executable, "-m", "matrixrl", "dashboard", "--port", "0", "--no-browser"]
        self.process = subprocess.Popen(
            [*command, "--runs-dir", str(runs_dir)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()
        self.address = self.process.stdout.readline().strip()

    def get(self, path: str, **parameters: Any) -> tuple[float, Any]:
        """Returns the seconds of a request and its answer."""
        query = urllib.parse.urlencode(parameters, doseq=True)
        before = time.perf_counter()
        with urllib.request.urlopen(f"{self.address}api/{path}?{query}") as answer:
            content = answer.read()
        return time.perf_counter() - before, json.loads(content)

    def megabytes(self) -> float:
        """Returns the resident memory of the process."""
        return psutil.Process(self.process.pid).memory_info().rss / 1e6

    def close(self) -> None:
        """Ends the process."""
        self.process.terminate()
        self.process.wait()


def bench_list(folder: Path, count: int) -> None:
    """Measures the list of many runs."""
    runs_dir = folder / f"list-{count}"
    original = make_run(folder / "one", f"original-{count}", 200)
    copies(runs_dir, original, count)
    server = Server(runs_dir)
    try:
        first, answer = server.get("runs")
        assert len(answer["runs"]) == count
        again, _ = server.get("runs")
        sparklines, _ = server.get("sparklines", run=[run["key"] for run in answer["runs"][:20]])
        print(
            f"{count:,} runs: first list {first:.2f} s, again {again:.2f} s, 20 sparklines {sparklines:.2f} s, "
            f"server {server.megabytes():.0f} MB"
        )
    finally:
        server.close()


def bench_long(folder: Path, rows: int) -> None:
    """Measures the chart and the episode table of a long run."""
    runs_dir = folder / "long"
    make_run(runs_dir, "long", rows)
    server = Server(runs_dir)
    try:
        names, _ = server.get("runs/long/metrics")
        first, answer = server.get(
            "series", run="long", metric=["episode/reward", "pretrain/loss"], points=1000
        )
        (curve,) = answer["curves"]["pretrain/loss"]
        assert max(curve["high"]) == 1_000.0, "the extreme is lost"
        again, _ = server.get("series", run="long", metric=["episode/reward", "pretrain/loss"], points=1000)
        zoomed, answer = server.get(
            "series",
            run="long",
            metric="pretrain/loss",
            points=1000,
            **{"from": rows // 3 - 500, "to": rows // 3 + 500},
        )
        assert max(answer["curves"]["pretrain/loss"][0]["y"]) == 1_000.0
        print(
            f"chart of {rows:,} points: names {names:.2f} s, first {first:.2f} s, again {1e3 * again:.0f} ms, "
            f"zoomed in {1e3 * zoomed:.0f} ms; server {server.megabytes():.0f} MB"
        )
        cases: dict[str, dict[str, Any]] = {
            "first page": {},
            "sorted by reward": {"sort": "Reward"},
            "descending, page 1,000": {"sort": "Reward", "descending": 1, "start": 50_000},
            "filtered and sorted": {"sort": "Residual", "where": ["Solved:no", "Rank:7..9"]},
            "sorted by rank": {"sort": "Rank"},
        }
        for text, parameters in cases.items():
            loading, _ = server.get("runs/long/episodes", **parameters)
            seconds = sorted(server.get("runs/long/episodes", **parameters)[0] for _ in range(9))
            print(
                f"episode table of {rows:,} rows, {text}: first {loading:.2f} s, then median {1e3 * seconds[4]:.0f} ms, "
                f"slowest {1e3 * seconds[-1]:.0f} ms; server {server.megabytes():.0f} MB"
            )
    finally:
        server.close()


def bench_training(folder: Path, times: int) -> None:
    """Compares training with and without an open page of the run."""
    speeds: dict[bool, list[float]] = {False: [], True: []}
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for number in range(times):
        for is_open in (False, True) if number % 2 == 0 else (True, False):
            runs_dir = folder / f"training-{number}-{is_open}"
            runs_dir.mkdir()
            with contextlib.ExitStack() as stack:
                if is_open:
                    driver = stack.enter_context(started_browser())
                    server = stack.enter_context(serving_process(runs_dir))
                    driver.get(f"{server.address}#/runs/trained/charts")
                command = [sys.executable, "-m", "matrixrl", "ppo", "train", "--env", "gymnax:CartPole-v1"]
                command += ["--runs-dir", str(runs_dir), "--run-name", "trained", "--console", "quiet"]
                command += ["--total-timesteps", "3000000", "--log-interval", "10", "--seed", "0"]
                process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
                while is_open and not (runs_dir / "trained" / "journal.sqlite").exists():
                    time.sleep(0.2)
                if is_open:
                    driver.refresh()
                began = time.monotonic()
                _, status, used = os.wait4(process.pid, 0)  # processor time has less noise than speed
                assert status == 0
                process.returncode = 0
                seconds[is_open].append(used.ru_utime + used.ru_stime)
                if is_open:
                    own = psutil.Process(server.process.pid).cpu_times()
                    share = 100 * (own.user + own.system) / (time.monotonic() - began)
                    print(f"  the server used {share:.1f} % of a core, {server.megabytes():.0f} MB")
                    assert driver.find_elements("css selector", "figure canvas"), "no chart was shown"
            with JournalReader(runs_dir / "trained") as reader:
                found = [row.metrics["train/steps_per_second"] for row in reader.stream()]
            speeds[is_open].append(statistics.median(found[len(found) // 5 :]))
            print(
                f"  {'with' if is_open else 'without'} a page: {speeds[is_open][-1]:,.0f} steps/s, "
                f"{seconds[is_open][-1]:.1f} processor seconds",
                flush=True,
            )
    for unit, values in (("steps/s", speeds), ("processor seconds", seconds)):
        without, with_page = (
            f"{statistics.median(values[is_open]):,.1f} ({min(values[is_open]):,.1f} to {max(values[is_open]):,.1f})"
            for is_open in (False, True)
        )
        print(f"training, {unit}: without a page {without}, with one {with_page}")


@contextlib.contextmanager
def serving_process(runs_dir: Path) -> Iterator[Server]:
    """Yields a server in a process of its own."""
    server = Server(runs_dir)
    try:
        yield server
    finally:
        server.close()


def main() -> None:
    """Measures all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, nargs="*", default=[100, 2_000])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--trainings", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for count in given.runs:
            bench_list(Path(folder), count)
        if given.rows:
            bench_long(Path(folder), given.rows)
        if given.trainings:
            bench_training(Path(folder), given.trainings)


if __name__ == "__main__":
    main()
