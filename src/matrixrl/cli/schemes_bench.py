"""``matrixrl schemes bench``: a scheme against the platform's matrix product."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from matrixrl.cli.progress import complain, working
from matrixrl.cli.schemes_export import load_correct, require_seconds
from matrixrl.cli.schemes_plot import save_ratio_plot
from matrixrl.schemes.cheaper import is_rational
from matrixrl.schemes.programs import MODULI
from matrixrl.schemes.scheme import Scheme, SchemeError
from matrixrl.tracking.numbers import duration, significant
from matrixrl.user_files import display_path

PINNING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""Variables that make OpenBLAS run another kernel than the processor's; an unfair rival."""

MAX_SIZE = 32_768
"""Largest side of a matrix."""


@dataclass(frozen=True)
class SchemesBenchCommand:
    """Measure a scheme against NumPy's matrix product on square matrices; exit status 1 if the
    scheme is wrong.
    """

    file: Annotated[Path, tyro.conf.Positional]
    """Scheme file, file of solutions, or run folder (its best scheme)."""

    number: int = 1
    """Index of the scheme in a file that holds several, from 1."""

    sizes: tuple[int, ...] = (256, 512, 1024, 2048, 4096, 8192)
    """Sides of the matrices. Sizes for which time or memory does not suffice are left out."""

    levels: tuple[int, ...] = (1, 2, 3)
    """Numbers of recursive levels."""

    threads: Literal["both", "one", "all"] = "both"
    """Threads of BLAS: one, all, or first one and then all."""

    dtype: Literal["float64", "float32"] = "float64"
    """Type of the entries."""

    repeats: int = 5
    """Number of measurements of each product, in turns, of which the median counts; three where
    one takes more than two seconds.
    """

    seconds: float = 60.0
    """Time limit in seconds of the whole measurement: a size that would exceed it is left out."""

    numpy: bool = False
    """Form sums with NumPy even if a C compiler is available."""

    png: Path | None = None
    """PNG file for a plot of the speed-up by size, with the crossover."""

    seed: int = 0
    """Seed of the matrices."""

    json: bool = False
    """Print one JSON object as the last line of output."""

    def __post_init__(self) -> None:
        require_seconds(self.seconds)
        _require_numbers("--sizes", self.sizes, MAX_SIZE)
        _require_numbers("--levels", self.levels, 10)
        if self.repeats < 1:
            raise SchemeError(f"--repeats {self.repeats}: must be 1 or more")


def _require_numbers(flag: str, values: Sequence[int], largest: int) -> None:
    if not values or not all(1 <= value <= largest for value in values):
        given = " ".join(map(str, values))
        raise SchemeError(f"{flag} {given}".strip() + f": want whole numbers between 1 and {largest:,}")


def run_command(command: SchemesBenchCommand) -> int:
    """Runs the command; returns the exit status."""
    try:
        return _bench(command)
    except SchemeError as error:
        complain(str(error))
        return 2


def _bench(command: SchemesBenchCommand) -> int:
    loaded = load_correct(command.file, command.number)
    if loaded is None:
        return 1
    scheme, path = loaded
    if scheme.ring in MODULI or not is_rational(scheme):
        what = (
            f"holds modulo {MODULI[scheme.ring]} only"
            if scheme.ring in MODULI
            else "has complex coefficients"
        )
        raise SchemeError(
            f"{display_path(path)}: {what}; floating-point products need a scheme over the integers or rationals"
        )
    if command.png is not None and command.png.is_dir():
        raise SchemeError(f"--png {display_path(command.png)}: is a folder; name a file")
    what = f"measuring {scheme.format} in {scheme.rank} multiplications"
    lines = _measure(command, scheme, what)
    start = next(line for line in lines if line["kind"] == "start")
    results = [line for line in lines if line["kind"] == "result"]
    skipped = [line for line in lines if line["kind"] == "skipped"]
    record = summarise(results) | {
        "file": str(path),
        "format": list(scheme.format),
        "rank": scheme.rank,
        "additions": start["additions"],
        "dtype": command.dtype,
        "kernel": start["kernel"],
        "blas": start["blas"],
        "way": start["way"],
        "skipped": [{key: line[key] for key in ("size", "reason")} for line in skipped],
        "measurements": [{key: line[key] for key in line if key != "kind"} for line in results],
    }
    _report(command, scheme, start, results, skipped, record)
    if command.png is not None and results:
        title = f"{scheme.format} in {scheme.rank} multiplications, {command.dtype}, {_kernel(start)}"
        save_ratio_plot(results, title, command.png)
        print(f"plot: {display_path(command.png)}")
    if command.json:
        print(json.dumps(record))
    return 0


def _measure(command: SchemesBenchCommand, scheme: Scheme, what: str) -> list[dict[str, Any]]:
    """Runs the measuring process; returns its results."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = {"one": [1], "all": [cores], "both": sorted({1, cores})}[command.threads]
    job = {
        "scheme": scheme.to_record(),
        "sizes": sorted(set(command.sizes)),
        "levels": sorted(set(command.levels)),
        "threads": threads,
        "dtype": command.dtype,
        "repeats": command.repeats,
        "seconds": command.seconds,
        "compiled": not command.numpy,
        "reduce_seconds": 2.0,
        "seed": command.seed,
    }
    environment = {name: value for name, value in os.environ.items() if name not in PINNING}
    # Threads of the sums that wait actively would take processors from those of BLAS.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    lines: list[dict[str, Any]] = []
    done, total = 0, len(job["sizes"]) * len(threads) * len(job["levels"])
    with working(what) as status, _process(environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            process.stdin.write(json.dumps(job))
            process.stdin.close()
            for text in process.stdout:
                line = json.loads(text)
                lines.append(line)
                if line["kind"] == "result":
                    done += 1
                    status.progress(f"size {line['size']:,}", done, total, "measurements")
            complaint = process.stderr.read().strip().splitlines()
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0 or not lines:
        reason = complaint[-1] if complaint else f"exit status {process.returncode}"
        raise SchemeError(f"the measurement failed: {reason}; smaller --sizes need less memory")
    return lines


def _process(environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "matrixrl.cli.schemes_bench_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def summarise(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns, for the smallest number of threads, the best number of levels of each size.

    Args:
      results: rows of the worker.

    Returns:
      `sizes`; `seconds` and `errors` of `blas` and `scheme`, `levels` and `ratio` (above 1 where
      the scheme is quicker) by size; `crossover`, the smallest size from which on the scheme is
      quicker, None if there is none; `crossovers`, the same by number of threads.
    """
    summary: dict[str, Any] = {
        "sizes": [],
        "levels": [],
        "seconds": {"blas": [], "scheme": []},
        "errors": {"blas": [], "scheme": []},
        "ratio": [],
        "threads": min((row["threads"] for row in results), default=None),
    }
    for row in best_rows(results, summary["threads"]):
        summary["sizes"].append(row["size"])
        summary["levels"].append(row["levels"])
        for side in ("blas", "scheme"):
            summary["seconds"][side].append(row[f"{side}_seconds"])
            summary["errors"][side].append(row[f"{side}_error"])
        summary["ratio"].append(ratio(row))
    counts = sorted({row["threads"] for row in results})
    crossovers = {str(count): crossover(best_rows(results, count)) for count in counts}
    return summary | {
        "crossover": crossovers.get(str(summary["threads"])),
        "crossovers": crossovers,
    }


def ratio(row: dict[str, Any]) -> float:
    """Returns the time of BLAS divided by that of the scheme."""
    return row["blas_seconds"] / row["scheme_seconds"]


def best_rows(results: Sequence[dict[str, Any]], threads: int | None) -> list[dict[str, Any]]:
    """Returns the quickest number of levels for each size, sorted by size."""
    rows = [row for row in results if row["threads"] == threads]
    sizes = sorted({row["size"] for row in rows})
    return [max((row for row in rows if row["size"] == size), key=ratio) for size in sizes]


def crossover(rows: Sequence[dict[str, Any]]) -> int | None:
    """Returns the smallest size from which on the scheme is quicker at all measured sizes."""
    found = None
    for row in reversed(rows):
        if ratio(row) <= 1:
            break
        found = row["size"]
    return found


def _report(
    command: SchemesBenchCommand,
    scheme: Scheme,
    start: dict[str, Any],
    results: Sequence[dict[str, Any]],
    skipped: Sequence[dict[str, Any]],
    record: dict[str, Any],
) -> None:
    print(
        f"{scheme.format} in {scheme.rank} multiplications and {start['additions']} additions, {command.dtype}, "
        f"against {_kernel(start)}"
    )
    way = "sums in C, BLAS at the leaves" if start["way"] == "compiled" else "sums in NumPy"
    reason = f" ({start['reason']})" if start["reason"] else ""
    print(f"{way}{reason}; load of the machine {start['load']:.1f}")
    print("ratios above 1: the scheme is quicker, by the clock and in processor time")
    header = (
        *("size", "threads", "levels", "BLAS", "scheme", "ratio"),
        *("processor time", "error BLAS", "error scheme"),
    )
    rows = [header]
    for row in results:
        rows.append(
            (
                f"{row['size']:,}",
                str(row["threads"]),
                str(row["levels"]),
                f"{significant(row['blas_seconds'])} s",
                f"{significant(row['scheme_seconds'])} s",
                f"{ratio(row):.3f}",
                f"{row['blas_processor_seconds'] / row['scheme_processor_seconds']:.3f}",
                f"{row['blas_error']:.1e}",
                f"{row['scheme_error']:.1e}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    for row in rows:
        print("  ".join(f"{value:>{width}}" for value, width in zip(row, widths, strict=True)))
    for line in skipped:
        why = (
            f"would take more than --seconds {significant(command.seconds)}"
            if line["reason"] == "time"
            else f"needs {significant(line['bytes'] / 2**30)} GiB of memory"
        )
        print(f"size {line['size']:,} left out: {why}")
    for threads, size in record["crossovers"].items():
        words = _plural(int(threads), "thread")
        found = f"quicker from size {size:,} on" if size else "not quicker at the largest size measured"
        print(f"{words}: the scheme is {found}")
    if not results:
        print(f"nothing was measured in {duration(command.seconds)}")


def _kernel(start: dict[str, Any]) -> str:
    blas = start["blas"] or "an unknown BLAS"
    return f"{blas} ({start['kernel']} kernel)" if start["kernel"] else blas


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"
