"""Speed of HackMatrix: random legal play with mask, observation and automatic reset.

    taskset -c 1 env XLA_FLAGS=--xla_cpu_multi_thread_eigen=false python benchmarks/bench_hackmatrix.py

`matrixrl.systems.hackmatrix.speed` says what exactly is measured; `matrixrl hackmatrix bench` does one size.
"""

from __future__ import annotations

import argparse
import json

from matrixrl.systems.hackmatrix.speed import measure


def main() -> None:
    """Measure the batch sizes asked for, one JSON line each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num-envs", type=int, nargs="+", default=[64, 256, 1024, 4096])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--final-observation", action="store_true")
    arguments = parser.parse_args()
    for num_envs in arguments.num_envs:
        result = measure(num_envs, arguments.seconds, arguments.final_observation)
        print(json.dumps({key: round(value, 3) for key, value in result.items()}), flush=True)


if __name__ == "__main__":
    main()
