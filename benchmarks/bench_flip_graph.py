"""Measures walks on flip graphs: flips per second, and the processor time until a rank is found.

    python benchmarks/bench_flip_graph.py --rates
    python benchmarks/bench_flip_graph.py --ranks [--only 3x4x4:38:F2] [--seeds 10] [--limit 120]

Times are processor time of one thread, so that other programs on the machine disturb them little. Tables are printed
as they stand in RESULTS.md.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace

from matrixrl.schemes.problem import as_problem, parse_size
from matrixrl.schemes.verify import verify
from matrixrl.search.flip_graph import Pool, WalkSettings, run_round, to_scheme

RATES = [("3x3x3", "F2"), ("3x4x4", "F2"), ("4x4x4", "F2"), ("3x3x3", "Z"), ("3x3x4", "Z"), ("4x4x4", "Z")]

# Format, rank, ring and seconds allowed.
RANKS = [
    ("3x3x3", 23, "F2", 0.2),
    ("3x3x4", 29, "F2", 10),
    ("3x3x3", 23, "Z", 10),
    ("3x3x4", 29, "Z", 10),
    ("3x4x4", 38, "F2", 120),
    ("4x4x4", 49, "Z", 600),
    ("3x4x5", 47, "Z", 600),
]


def rate(size: str, ring: str, flips: int) -> None:
    """Prints the flips per second of a walk at low ranks."""
    problem = as_problem(parse_size(size))
    settings = WalkSettings(ring=ring)  # pyright: ignore[reportArgumentType]
    pool = Pool.standard(problem, settings.ring)
    run_round(pool, settings, seed=0, round=0, num_walkers=1, flips_per_walker=2_000_000)
    rates = []
    for number in range(1, 6):
        done = run_round(pool, settings, seed=0, round=number, num_walkers=1, flips_per_walker=flips)
        rates.append(done.flips / done.processor_seconds / 1e6)
    low, high = min(rates), max(rates)
    print(
        f"| {size} | {ring} | {pool.best_rank} | {statistics.median(rates):.1f} ({low:.1f} to {high:.1f}) |",
        flush=True,
    )


def find(
    size: str, rank: int, settings: WalkSettings, seed: int, limit: float, flips: int, continued: bool = True
) -> tuple[int, float, int]:
    """Walks with one walker from the standard algorithm until the rank is found.

    Args:
      continued: whether a walk continues in the next round, instead of one from the pool.

    Returns:
      The best rank, processor seconds and flips.
    """
    problem = as_problem(parse_size(size))
    settings = replace(settings, target_rank=rank)
    pool = Pool.standard(problem, settings.ring, settings.pool_size, settings.pool_ranks)
    seconds, made, number, walkers = 0.0, 0, 0, ()
    while (pool.best_rank or rank) > rank and seconds < limit:
        done = run_round(
            pool, settings, seed=seed, round=number, num_walkers=1, flips_per_walker=flips, walkers=walkers
        )
        seconds, made, number = seconds + done.processor_seconds, made + done.flips, number + 1
        walkers = done.walkers if continued else ()
    best = pool.best_rank or 0
    assert verify(to_scheme(pool.members(best)[0], problem, settings.ring))
    return best, seconds, made


def ranks(
    size: str,
    rank: int,
    ring: str,
    limit: float,
    seeds: int,
    flips: int,
    changes: dict[str, float | str],
    continued: bool,
) -> None:
    """Prints how many seeds find a rank, and after what processor time."""
    settings = WalkSettings(ring=ring, **changes)  # pyright: ignore[reportArgumentType]
    find(size, 1, settings, 0, 0.001, 1_000)  # loads the compiled code
    tries = [find(size, rank, settings, seed, limit, flips, continued) for seed in range(seeds)]
    times = sorted(seconds for best, seconds, _ in tries if best <= rank)
    within = sum(seconds <= limit for seconds in times)
    text = f"{times[0]:.3g} to {times[-1]:.3g}, median {statistics.median(times):.3g}" if times else ""
    lowest = min(best for best, _, _ in tries)
    print(
        f"| {size}:{rank} | {ring} | {within} of {seeds} within {limit:g} s | {text} | {lowest} |", flush=True
    )


def main() -> None:
    """Runs the measurements that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rates", action="store_true", help="flips per second")
    parser.add_argument("--ranks", action="store_true", help="time until a rank is found")
    parser.add_argument("--only", nargs="*", help="such as 3x4x4:38:F2")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--limit", type=float, help="processor seconds for each seed")
    parser.add_argument("--flips", type=int, default=2_000_000, help="of a walker in each round")
    parser.add_argument(
        "--each-round", action="store_true", help="start from the pool in each round, as before"
    )
    parser.add_argument("--set", nargs="*", default=[], help="settings of walks, such as plus_after=10000")
    args = parser.parse_args()
    parser_of = {"weighting": str, "ring": str}
    changes = {
        name: parser_of.get(name, float if "." in value else int)(value)
        for name, value in (item.split("=") for item in args.set)
    }
    if args.rates:
        print("| format | ring | rank | million flips/s |\n|---|---|---|---|")
        for size, ring in RATES:
            rate(size, ring, 10_000_000)
    if args.ranks:
        print("| scheme | ring | found | processor seconds | lowest rank |\n|---|---|---|---|---|")
        for size, rank, ring, limit in RANKS:
            if not args.only or f"{size}:{rank}:{ring}" in args.only:
                ranks(
                    size,
                    rank,
                    ring,
                    args.limit or limit,
                    args.seeds,
                    args.flips,
                    changes,
                    not args.each_round,
                )


if __name__ == "__main__":
    main()
