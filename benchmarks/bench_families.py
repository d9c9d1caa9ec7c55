"""Best rank of each built-in problem found in 10 minutes of one core, beside the public one.

python benchmarks/bench_families.py --out families.jsonl                  # all problems, 10 minutes each
python benchmarks/bench_families.py poly-3x3 complex --limit 60 --out families.jsonl
python benchmarks/bench_families.py --engine flips --out families.jsonl   # walks on flip graphs, not training
python benchmarks/bench_families.py --table families.jsonl                # the table, as Markdown
python benchmarks/bench_families.py skew-4 --out families.jsonl -- --ring Z --preset integers

Each run is `matrixrl matmul train --tensor NAME` in a process of its own that is bound to one core. The limit is
processor time, compilation included, so that other load on the machine does not count; where the system does not
report it, the limit is time on the clock. A run ends earlier when it reaches the public rank. Every rank in the table
belongs to a scheme that is proved again here.

With `--engine flips` one walker walks on flip graphs from the standard algorithm, over F2 and over -1, 0, 1, and what it
finds over F2 is lifted. It ends at the public rank for its coefficients; compilation, once per process, does not count.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matrixrl.schemes.families import problem_named
from matrixrl.schemes.lift import lift as lift_scheme
from matrixrl.schemes.problem import Problem
from matrixrl.schemes.scheme import Scheme, SchemeError
from matrixrl.schemes.verify import verify
from matrixrl.search.flip_graph import Pool, WalkRing, WalkSettings, run_round, to_scheme

NAMES = [
    "poly-2x2", "poly-3x3", "poly-4x4", "poly-2x3", "cyclic-2", "cyclic-3", "cyclic-4", "cyclic-5", "conv-2x3",
    "conv-3x3", "complex", "quaternion", "gram-2x2", "gram-3x2", "symmetric-2x1", "symmetric-3x1", "symmetric-2x2",
    "triangular-2x2", "triangular-3x2", "skew-3", "skew-4", "skew-5",
]  # fmt: skip
SETTINGS = [
    "--preset",
    "discover",
    "--pretraining-steps",
    "300",
    "--num-epochs",
    "100000",
    "--console",
    "quiet",
]
GRACE = 60.0
"""Seconds that a run has to finish its chunk and save."""


def processor_seconds(pid: int) -> float | None:
    """Returns the processor time of a process and its threads; None where the system does not report it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def best_scheme(runs: Path) -> Scheme | None:
    """Returns the best scheme that the run has written so far."""
    for path in runs.glob("*/scheme.json"):
        try:
            return Scheme.load(path)
        except SchemeError:
            return None
    return None


def measure(name: str, limit: float, seed: int, extra: list[str]) -> dict[str, Any]:
    """Trains on one problem until the public rank or the limit."""
    problem = problem_named(name)
    core = sorted(os.sched_getaffinity(0))[0] if hasattr(os, "sched_getaffinity") else None
    best: Scheme | None = None
    found_after: float | None = None
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "matrixrl.cli.main",
            "matmul",
            "train",
            "--tensor",
            name,
            "--no-wandb",
        ]
        process = subprocess.Popen(
            [*command, *SETTINGS, "--seed", str(seed), "--runs-dir", folder, *extra],
            preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
        )
        began, used = time.monotonic(), 0.0
        while process.poll() is None and used < limit:
            time.sleep(0.5)
            reported = processor_seconds(process.pid)
            used = time.monotonic() - began if reported is None else max(used, reported)
            scheme = best_scheme(Path(folder))
            if scheme is not None and (best is None or better(scheme, best)):
                best, found_after = scheme, used
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            status = process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        scheme = best_scheme(Path(folder))
        if scheme is not None and (best is None or better(scheme, best)):
            best, found_after = scheme, used
    if best is not None and not verify(best):
        raise AssertionError(f"{name}: the run wrote a wrong scheme")
    return {
        "problem": name,
        "rank": None if best is None else best.rank,
        "ring": None if best is None else best.ring,
        "is_ternary": best is not None and best.is_ternary,
        "found_after": found_after,
        "seconds": used,
        "limit": limit,
        "seed": seed,
        "status": status,
        "settings": extra,
        **known_ranks(problem),
    }


def measure_walks(
    name: str, ring: WalkRing, limit: float, seed: int, folder: Path | None = None
) -> dict[str, Any]:
    """Walks on the flip graph of one problem until the public rank or the limit; writes the best scheme to a folder."""
    problem = problem_named(name)
    kinds = ("mod2",) if ring == "F2" else ("ternary", "integer")
    public = [rank for kind in kinds if (rank := problem.best_known_rank(kind)) is not None]
    target = min(public, default=1)
    pool = Pool.standard(problem, ring, 100)
    settings = WalkSettings(ring=ring, target_rank=target)
    used, found_after, number = 0.0, 0.0, 0
    best = pool.best_rank
    while used < limit and (best is None or best > target):
        round_ = run_round(
            pool, settings, seed=seed, round=number, num_walkers=1, flips_per_walker=500_000, threads=1
        )
        used, number = used + round_.processor_seconds, number + 1
        if pool.best_rank != best:
            best, found_after = pool.best_rank, used
    assert best is not None
    schemes = [to_scheme(rows, problem, ring) for rows in pool.members(best)]
    scheme = schemes[0]
    if ring == "F2":
        lifted = next((lift.scheme for lift in map(lift_scheme, schemes) if lift.scheme is not None), None)
        scheme = lifted or scheme
    if not verify(scheme):
        raise AssertionError(f"{name}: the walk made a wrong scheme")
    if folder is not None:
        by = f"benchmarks/bench_families.py --engine flips {name} --seed {seed}: walks over {ring}"
        seconds = {"found_in_seconds": float(f"{found_after:.2g}")}
        found = dataclasses.replace(
            scheme, provenance={"source": "matrixrl flip graph", "found_by": by, **seconds}
        )
        suffix = "_mod2" if scheme.ring == "F2" else ""
        found.save(folder / f"{name}_rank{scheme.rank}{suffix}.json")
    return {
        "problem": name,
        "rank": scheme.rank,
        "ring": scheme.ring,
        "is_ternary": scheme.is_ternary,
        "found_after": found_after,
        "seconds": used,
        "limit": limit,
        "seed": seed,
        "status": 0,
        "settings": ["flips", ring],
        **known_ranks(problem),
    }


def better(scheme: Scheme, other: Scheme) -> bool:
    """Returns whether a scheme has a lower rank, or the same rank over the integers instead of F2."""
    return (scheme.rank, scheme.ring == "F2") < (other.rank, other.ring == "F2")


def known_ranks(problem: Problem) -> dict[str, int | None]:
    """Returns the standard rank and the public ranks."""
    kinds = ("rational", "integer", "ternary", "mod2")
    return {"standard": problem.standard_rank, **{kind: problem.best_known_rank(kind) for kind in kinds}}


def table(lines: list[dict[str, Any]]) -> str:
    """Renders the best lines of each problem, over the integers and modulo 2, as a Markdown table."""
    rows = [
        "| problem | standard | public: rationals, integers, modulo 2 | found over the integers | found modulo 2 |",
        "|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(line["problem"] for line in lines):
        own = [line for line in lines if line["problem"] == name and line["rank"] is not None]
        first = next(line for line in lines if line["problem"] == name)
        public = ", ".join(
            "-" if first[kind] is None else str(first[kind]) for kind in ("rational", "integer", "mod2")
        )
        whole = _cell([line for line in own if line["ring"] != "F2"])
        binary = _cell(own)
        rows.append(
            f"| {name} | {first['standard']} | {public} | {whole} | {'the same' if binary == whole else binary} |"
        )
    return "\n".join(rows)


def _cell(lines: list[dict[str, Any]]) -> str:
    """Renders the best of several lines: lowest rank, then coefficients -1, 0, 1, then earliest."""
    if not lines:
        return "-"
    best = min(lines, key=lambda line: (line["rank"], not line["is_ternary"], line["found_after"] or 0.0))
    kind = "" if best["is_ternary"] else ", larger coefficients"
    if best["rank"] == best["standard"]:
        return f"{best['rank']}{kind} (nothing lower in {best['seconds']:.0f} s)"
    flips = best["settings"][:1] == ["flips"]
    by = f"flips over {best['settings'][1]}" if flips else "the agent"
    return f"{best['rank']}{kind} ({by}, {best['found_after']:.2g} s)"


def measurements(options: argparse.Namespace, extra: list[str]) -> Iterator[dict[str, Any]]:
    """Measures the problems one after the other."""
    rings: tuple[WalkRing, WalkRing] = ("Z", "F2")
    if options.engine == "flips":
        for ring in rings:  # compile
            measure_walks("complex", ring, 0.1, 0)
    for name in options.names or NAMES:
        if options.engine == "agent":
            yield measure(name, options.limit, options.seed, extra)
        else:
            for ring in rings:
                yield measure_walks(name, ring, options.limit, options.seed, options.schemes)


def main() -> None:
    """Reads the command line, and measures or prints."""
    arguments, extra = sys.argv[1:], []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, extra = arguments[:at], arguments[at + 1 :]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="problems; all by default")
    parser.add_argument("--engine", choices=["agent", "flips"], default="agent", help="what searches")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds of one core per problem")
    parser.add_argument("--seed", type=int, default=0, help="seed of the runs")
    parser.add_argument("--out", type=Path, help="file to which a line of JSON per problem is added")
    parser.add_argument("--schemes", type=Path, help="folder for the best schemes of walks")
    parser.add_argument("--table", type=Path, help="print the table of such a file, and measure nothing")
    options = parser.parse_args(arguments)
    if options.table is None:
        lines = []
        for line in measurements(options, extra):
            lines.append(line)
            if options.out is not None:
                with options.out.open("a") as file:
                    file.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)
    else:
        lines = [json.loads(line) for line in options.table.read_text().splitlines()]
    print(table(lines))


if __name__ == "__main__":
    main()
