"""Processor time of lifting schemes from F2 or F3 to the integers.

python benchmarks/bench_lift.py                              # 1,000 schemes of 4x4x4:49 over F2
python benchmarks/bench_lift.py --ring F3 --count 20
python benchmarks/bench_lift.py --file FILE                  # the schemes of a file, such as a pool of a walk

Without a file the schemes are Strassen's of blocks, each of whose seven products multiplies its blocks by another
basis of Strassen's, and all of it in a random basis: dense schemes, no two of them alike. Proofs before and after are
included. Processor time does not count what else the machine does.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path

import numpy as np

from matrixrl.schemes.files import load_schemes
from matrixrl.schemes.known import strassen
from matrixrl.schemes.lift import lift
from matrixrl.schemes.neighbours import product
from matrixrl.schemes.scheme import Ring, Scheme
from matrixrl.schemes.symmetry import change_basis, random_basis


def in_random_basis(scheme: Scheme, rng: np.random.Generator) -> Scheme:
    """Returns a scheme in a random basis."""
    ring = "F2" if scheme.ring == "F2" else "Z"
    return change_basis(scheme, *(random_basis(size, rng, ring) for size in scheme.format))


def composed(ring: Ring, rng: np.random.Generator) -> Scheme:
    """Returns a scheme of 4x4x4 with 49 products."""
    outer, parts = in_random_basis(strassen(), rng).modulo(ring), []
    for r in range(7):
        row = Scheme((2, 2, 2), ring, outer.u[r : r + 1], outer.v[r : r + 1], outer.w[r : r + 1])
        parts.append(product(row, in_random_basis(strassen(), rng).modulo(ring)).factors)
    u, v, w = (np.concatenate(factors) for factors in zip(*parts, strict=True))
    return in_random_basis(Scheme((4, 4, 4), ring, u, v, w), rng)


def main() -> None:
    """Lift and print the processor time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1_000)
    parser.add_argument("--ring", choices=["F2", "F3"], default="F2")
    parser.add_argument("--file", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.file is not None:
        schemes = load_schemes(options.file)[: options.count]
    else:
        rng = np.random.default_rng(options.seed)
        schemes = [composed(options.ring, rng) for _ in range(options.count)]
    seconds, outcomes = [], Counter[str]()
    for scheme in schemes:
        began = time.process_time()
        outcome = lift(scheme, any_basis=True)
        seconds.append(time.process_time() - began)
        outcomes[outcome.status] += 1
    found = ", ".join(f"{number:,} {status}" for status, number in outcomes.items())
    print(
        f"{len(schemes):,} schemes of {schemes[0].problem}:{schemes[0].rank} over {schemes[0].ring}: {found}"
    )
    print(
        f"{sum(seconds):.4g} s of processor time, {1000 * sum(seconds) / len(schemes):.3g} ms each "
        f"(median {1000 * float(np.median(seconds)):.3g}, longest {1000 * max(seconds):.3g} ms)"
    )


if __name__ == "__main__":
    main()
