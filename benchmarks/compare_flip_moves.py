"""Compares moves of the walks on flip graphs with their absence, with equal processor time for each arm.

    python benchmarks/compare_flip_moves.py --train --agents FOLDER [--minutes 3]
    python benchmarks/compare_flip_moves.py --arms plain exact policy learned --agents FOLDER --minutes 5 --output FILE.jsonl
    python benchmarks/compare_flip_moves.py --arms training training+polish --minutes 5 --output FILE.jsonl
    python benchmarks/compare_flip_moves.py --table FILE.jsonl

Arms of walks: `plain`; `exact`, re-derivation of 4 to 6 products by an exact search; `policy`, re-derivation of 6 to 12
products by a trained agent (`--train` makes one for each format, from demonstrations alone); `learned`, a learned
choice of starts. Arms of trainings: without and with `--flip-polish`. A result is one line of the output, written as
soon as it is known; results that the output holds are not measured again. Walks and trainings end early at the best
known rank. Seeds are the outer loop, so that a comparison that is cut has as many seeds of each arm. Times are
processor time; compilation is left out for walks. A training takes its minutes by the clock, and what the cache on disk
does not hold is compiled in them: run an arm for a minute before, and give each process a core.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from matrixrl.schemes.problem import as_problem, coefficients_of_ring, parse_size
from matrixrl.schemes.scheme import render_json
from matrixrl.schemes.verify import verify
from matrixrl.search.flip_graph import Pool, WalkerState, WalkSettings, run_round, to_scheme
from matrixrl.systems.flip.long_range import ExactMove, LongRangeMove, LongRangeResult, move_stuck_walkers
from matrixrl.whole_files import write_whole

FORMATS = ("3x4x4", "4x4x4", "3x4x5")
WALKS = ("plain", "exact", "policy", "learned")
TRAININGS = ("training", "training+polish")
WALKERS, FLIPS = 4, 1_000_000


def train_agent(size: str, ring: str, folder: Path, minutes: float) -> None:
    """Trains an agent on demonstrations alone: random sums of terms, no game and no known scheme."""
    words = ["matmul", "train", "--preset", "discover", "--size", *size.split("x"), "--ring", ring]
    words += [
        "--num-epochs",
        "0",
        "--pretraining-steps",
        "1000000",
        "--width",
        "128",
        "--max-demonstration-factors",
        "12",
    ]
    words += ["--batch-size", "64", "--time", f"{round(60 * minutes)}s"]
    words += ["--runs-dir", str(folder), "--run-name", f"{size}-{ring}", "--console", "quiet", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "matrixrl.cli.main", *words], capture_output=True, text=True, check=False
    )
    print(size, done.returncode, (done.stdout.splitlines() or done.stderr.splitlines())[-1][:200], flush=True)


def move_of(arm: str, size: str, ring: str, agents: Path | None) -> LongRangeMove | None:
    """Returns the long-range move of an arm; None for the arms without one."""
    if arm == "exact":
        return ExactMove()
    if arm != "policy":
        return None
    from matrixrl.checkpoints.store import CheckpointStore
    from matrixrl.cli.resume import recorded_settings
    from matrixrl.config import MatmulConfig
    from matrixrl.systems.flip.policy import PolicyMove, TrainedPolicy

    assert agents is not None, "--agents FOLDER: the arm `policy` needs trained agents; see --train"
    folder = agents / f"{size}-{ring}"
    checkpoint, _ = CheckpointStore(folder).newest()
    assert checkpoint is not None, f"{folder}: no checkpoint"
    return PolicyMove(
        TrainedPolicy(recorded_settings(MatmulConfig, folder), checkpoint.host_arrays("params/"))
    )


def walk(
    arm: str,
    size: str,
    ring: str,
    seed: int,
    seconds: float,
    move: LongRangeMove | None,
    schemes: Path | None = None,
) -> dict[str, Any]:
    """Walks for a processor time; returns the best rank and when it was found, and keeps a scheme of the best known rank."""
    problem = as_problem(parse_size(size))
    weighting = "learned" if arm == "learned" else "uniform"
    settings = WalkSettings(ring=ring, weighting=weighting, target_rank=1)  # pyright: ignore[reportArgumentType]
    pool = Pool.standard(problem, settings.ring)
    walkers: tuple[WalkerState | None, ...] = ()
    began, number, flips = time.process_time(), 0, 0
    best, found_at = pool.best_rank or 0, 0.0
    tried = changed = shorter = 0
    record = problem.best_known_rank(coefficients_of_ring(ring)) or 0
    while (spent := time.process_time() - began) < seconds and best > record:
        moves = LongRangeResult(walkers)
        if move is not None:
            moves = move_stuck_walkers(move, pool, walkers, 2 * FLIPS, (seed, number))
        tried, changed, shorter = tried + moves.tried, changed + moves.changed, shorter + moves.shorter
        done = run_round(
            pool,
            settings,
            seed=seed,
            round=number,
            num_walkers=WALKERS,
            flips_per_walker=min(FLIPS, 10_000 << min(number, 20)),
            threads=1,
            walkers=moves.walkers,
        )
        walkers, number, flips = done.walkers, number + 1, flips + done.flips
        if (pool.best_rank or best) < best:
            best, found_at = pool.best_rank or best, time.process_time() - began
    scheme = to_scheme(pool.members(best)[0], problem, settings.ring)
    assert verify(scheme)
    if schemes is not None and best <= record:
        schemes.mkdir(parents=True, exist_ok=True)
        write_whole(schemes / f"{size}-{ring}-{best}-{arm}-{seed}.json", render_json(scheme.to_record()))
    return {
        "best": best,
        "found_at": round(found_at, 2),
        "seconds": round(spent, 1),
        "flips": flips,
        "tried": tried,
        "changed": changed,
        "shorter": shorter,
    }


def training(arm: str, size: str, ring: str, seed: int, seconds: float, folder: Path) -> dict[str, Any]:
    """Trains in a process of its own for a time; returns the best rank."""
    words = [
        "matmul",
        "train",
        "--preset",
        "discover",
        "--size",
        *size.split("x"),
        "--ring",
        ring,
        "--step-margin",
        "0",
    ]
    words += ["--width", "128", "--pretraining-steps", "20", "--batch-size", "64", "--parallel-games", "16"]
    words += ["--episodes-per-epoch", "16", "--num-simulations", "8", "--updates-per-epoch", "20"]
    words += ["--flip-polish", "1000000" if arm.endswith("polish") else "0"]
    words += ["--seed", str(seed), "--time", f"{round(seconds)}s"]
    words += ["--runs-dir", str(folder), "--console", "quiet", "--json"]
    began = os.times()
    done = subprocess.run(
        [sys.executable, "-m", "matrixrl.cli.main", *words], capture_output=True, text=True, check=False
    )
    ended = os.times()
    spent = ended.children_user + ended.children_system - began.children_user - began.children_system
    if done.returncode:
        return {"best": None, "error": done.stderr.splitlines()[-1][:300], "seconds": round(spent, 1)}
    result = json.loads(done.stdout.splitlines()[-1])
    return {"best": result["best_rank"], "seconds": round(spent, 1), "epochs": result.get("epochs")}


def measure(args: argparse.Namespace) -> None:
    """Measures what the output does not hold yet."""
    output = Path(args.output)
    rows = read(output)
    known = {(row["arm"], row["size"], row["ring"], row["seed"]) for row in rows}
    seconds = 60 * args.minutes
    moves: dict[tuple[str, str], LongRangeMove | None] = {}
    for seed in range(args.seeds):
        for size in args.sizes:
            for arm in args.arms:
                if (arm, size, args.ring, seed) in known:
                    continue
                if arm in TRAININGS:
                    found = training(arm, size, args.ring, seed, seconds, output.parent / "trainings")
                else:
                    if (arm, size) not in moves:
                        moves[arm, size] = move_of(arm, size, args.ring, args.agents)
                        # Compiles everything.
                        walk(arm, size, args.ring, 0, 0.01, None)
                        if (move := moves[arm, size]) is not None:
                            problem = as_problem(parse_size(size))
                            move.apply(
                                Pool.standard(problem, args.ring).members(problem.standard_rank),
                                problem,
                                (0, 0),
                            )
                    found = walk(
                        arm, size, args.ring, seed, seconds, moves[arm, size], output.parent / "schemes"
                    )
                row = {
                    "arm": arm,
                    "size": size,
                    "ring": args.ring,
                    "seed": seed,
                    "minutes": args.minutes,
                    **found,
                }
                with output.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)


def read(path: Path) -> list[dict[str, Any]]:
    """Returns the results of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(rows: list[dict[str, Any]]) -> str:
    """Returns the results as a table: ranks, time to the best one, and what the moves did."""
    lines = [
        "| format | ring | arm | seeds | ranks | median | best | processor s to it, median | moves: changed of tried, shorter |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    keys = dict.fromkeys((row["size"], row["ring"], row["arm"]) for row in rows)
    for size, ring, arm in sorted(
        keys, key=lambda key: (FORMATS.index(key[0]), key[1], (*WALKS, *TRAININGS).index(key[2]))
    ):
        own = [row for row in rows if (row["size"], row["ring"], row["arm"]) == (size, ring, arm)]
        ranks = sorted(row["best"] for row in own if row["best"] is not None)
        if not ranks:
            lines.append(f"| {size} | {ring} | {arm} | {len(own)} | none | - | - | - | - |")
            continue
        times = [row["found_at"] for row in own if row["best"] == ranks[0] and "found_at" in row]
        tried, changed, shorter = (
            sum(row.get(name, 0) for row in own) for name in ("tried", "changed", "shorter")
        )
        moves = f"{changed:,} of {tried:,}, {shorter:,}" if tried else "-"
        to_best = f"{statistics.median(times):.3g}" if times else "-"
        shown = " ".join(map(str, ranks))
        lines.append(
            f"| {size} | {ring} | {arm} | {len(own)} | {shown} | {statistics.median(ranks):g} | {ranks[0]} | {to_best} | {moves} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Runs the comparisons that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", action="store_true", help="train the agents of the arm `policy`")
    parser.add_argument("--agents", type=Path, help="folder of their runs")
    parser.add_argument("--arms", nargs="*", default=[], choices=(*WALKS, *TRAININGS))
    parser.add_argument("--sizes", nargs="*", default=FORMATS)
    parser.add_argument("--ring", default="F2", choices=("F2", "Z"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=5, help="for each arm, format and seed")
    parser.add_argument("--output", default="flip_moves.jsonl")
    parser.add_argument("--table", help="print the table of a file of results")
    args = parser.parse_args()
    if args.train:
        for size in args.sizes:
            train_agent(size, args.ring, args.agents, args.minutes)
    if args.arms:
        measure(args)
        print(table(read(Path(args.output))))
    if args.table:
        print(table(read(Path(args.table))))


if __name__ == "__main__":
    main()
