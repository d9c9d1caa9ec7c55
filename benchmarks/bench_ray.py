"""What a Ray cluster of this machine reaches: flips on one and two nodes, and what the head takes.

    nice -n 5 python benchmarks/bench_ray.py --flips 64000000    # two one-core nodes against one
    nice -n 5 python benchmarks/bench_ray.py --hub 5             # seconds for each row of the table
    nice -n 5 python benchmarks/bench_ray.py --trials 40         # trials of 5 s in two worker processes

The hub is measured from its own side: each simulated node is a thread that sends the same journal over and over, as a node sends the journal of a run
that grows, and waits for each confirmation. Nodes and hub share the cores here, so that a head of its own takes more.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_studies import TINY_STUDY

from matrixrl.config import TrackingConfig
from matrixrl.studies.ray_cluster import connect
from matrixrl.studies.ray_node import Hub, HubStore
from matrixrl.studies.store import PART_BYTES
from matrixrl.tracking.copy import copy_run
from matrixrl.tracking.events import ScalarRow
from matrixrl.tracking.journal import JOURNAL_FILE
from matrixrl.tracking.run import open_run

PUSH_SECONDS = 5.0
"""Interval at which a node sends a run."""

TRIAL = f"""{TINY_STUDY}
total_timesteps = 1000000000
time = "5s"
"""


def flips_per_second(nodes: int, flips: int, flips_per_round: int, folder: Path) -> dict[str, Any]:
    """Walks with a budget of flips on nodes with one core each."""
    from ray.cluster_utils import Cluster

    options: dict[str, Any] = {
        "num_cpus": 1,
        "object_store_memory": 80 * 2**20,
        "include_dashboard": False,
    }
    cluster = Cluster(initialize_head=True, head_node_args=options)
    for _ in range(nodes - 1):
        cluster.add_node(**options)
    command = ["matmul", "flip", "--size", "4", "4", "4", "--target-rank", "40", "--flips", str(flips)]
    command += ["--flips-per-round", str(flips_per_round)]
    command += ["--num-walkers", "8", "--on", "ray", "--ray-address", cluster.address, "--console", "quiet"]
    command += ["--runs-dir", str(folder / f"nodes-{nodes}"), "--json"]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "matrixrl", *command], stdout=subprocess.PIPE, text=True, check=True
        )
    finally:
        cluster.shutdown()
    return json.loads(done.stdout.splitlines()[-1])


def compare_nodes(flips: int, flips_per_round: int, folder: Path) -> None:
    """Prints the rate of one node and of two, and that their results are the same."""
    one, two = (flips_per_second(nodes, flips, flips_per_round, folder) for nodes in (1, 2))
    same = all(one[name] == two[name] for name in ("best_rank", "flips", "rounds", "restarts", "pool"))
    for number, found in ((1, one), (2, two)):
        print(f"{number} node(s)   {found['flips_per_second'] / 1e6:.2f} million flips/s")
    print(f"ratio {two['flips_per_second'] / one['flips_per_second']:.2f}, same result: {same}")


def fill_cores(trials: int, folder: Path) -> None:
    """Prints how far the time of a sweep is from the sum of its trials' times divided by two."""
    file = folder / "study.toml"
    file.write_text(TRIAL.replace("SEEDS", ", ".join(map(str, range(trials)))))
    command = ["sweep", str(file), f"--study-dir={folder / 'study'}", "--jobs=2", "--json"]
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "matrixrl", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        text=True,
    )
    wall = time.perf_counter() - began
    seconds = [trial["seconds"] for trial in json.loads(done.stdout.splitlines()[-1])["trials"]]
    print(f"{trials} trials   {wall:.1f} s; sum of their times / 2 is {sum(seconds) / 2:.1f} s")
    print(
        f"over that by {100 * (wall / (sum(seconds) / 2) - 1):.1f} %; over 5 s each by {100 * (wall / (2.5 * trials) - 1):.1f} %"
    )


def journal_of(rows: int, folder: Path) -> bytes:
    """Returns a journal with rows of ten metrics, as a node sends it."""
    config = TrackingConfig(runs_dir=folder, run_name=f"rows-{rows}", console="quiet")
    quiet = contextlib.redirect_stdout(io.StringIO())
    metrics = {f"train/metric_{number}": number / 3 for number in range(10)}
    with quiet, open_run(config, system="ppo", name_prefix="bench", run_config={"seed": 0}) as run:
        for _ in range(0, rows, 1000):
            run.record([ScalarRow(run.clock.tick(), metrics) for _ in range(min(rows, 1000))])
        run.finish()
    mirror = folder / "mirror"
    mirror.mkdir(exist_ok=True)
    return (copy_run(folder / f"rows-{rows}", mirror).directory / JOURNAL_FILE).read_bytes()


def in_threads(number: int, seconds: float, work: Callable[[int], None]) -> float:
    """Calls work over and over in threads; returns the number of calls per second."""
    counts = [0] * number
    began = time.perf_counter()

    def repeat(index: int) -> None:
        while time.perf_counter() - began < seconds:
            work(index)
            counts[index] += 1

    threads = [threading.Thread(target=repeat, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)


def measure_hub(seconds: float, folder: Path) -> None:
    """Prints messages and runs that the hub takes per second, from 1, 8 and 32 simulated nodes."""
    ray = connect(None, 1)
    (folder / "kept").mkdir()
    hub: Any = ray.remote(Hub).options(num_cpus=0, max_concurrency=16).remote(str(folder / "kept"))
    store = HubStore(hub)
    ray.get(hub.take.remote())
    message = {"op": "progress", "step": 1, "values": [0.5], "host": "node"}
    for nodes in (1, 8, 32):
        rate = in_threads(nodes, seconds, lambda index: ray.get(hub.report.remote(index, message)))
        ray.get(hub.take.remote())
        print(f"{nodes:>2} nodes   {rate:,.0f} messages/s", flush=True)
    for rows in (1_000, 20_000):
        content = journal_of(rows, folder)
        parts = [content[at : at + PART_BYTES] for at in range(0, len(content), PART_BYTES)]
        for nodes in (1, 8, 32):
            attempts = [store.begin(f"run-{index}") for index in range(nodes)]

            def push(index: int, attempts: list[int] = attempts, parts: list[bytes] = parts) -> None:
                draft = secrets.token_hex(8)
                for number, part in enumerate(parts):
                    last = number + 1 == len(parts)
                    store.write(f"run-{index}", attempts[index], JOURNAL_FILE, draft, part, last)

            rate = in_threads(nodes, seconds, push)
            print(
                f"{nodes:>2} nodes   journal of {rows:,} rows, {len(content) / 1e6:.2f} MB: {rate:,.1f} confirmed/s, "
                f"{rate * len(content) / 1e6:,.0f} MB/s, {rate * rows:,.0f} rows/s; {rate * PUSH_SECONDS:,.0f} trials at once",
                flush=True,
            )
    ray.shutdown()


def main() -> None:
    """Runs the measurements that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--flips", type=int, help="budget of flips of each search")
    parser.add_argument("--flips-per-round", type=int, default=2_000_000, help="of each walker")
    parser.add_argument("--hub", type=float, help="seconds for each figure of the hub")
    parser.add_argument("--trials", type=int, help="number of trials of 5 s")
    given = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="bench-ray-") as name:
        folder = Path(name)
        if given.flips:
            compare_nodes(given.flips, given.flips_per_round, folder)
        if given.hub:
            measure_hub(given.hub, folder)
        if given.trials:
            fill_cores(given.trials, folder)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
