"""Process that measures for ``matrixrl schemes bench``: a JSON job on standard input, a JSON line
per result on standard output.

It is a process of its own because BLAS reads its environment when it is loaded: the command takes
away the variables that pin an old kernel, for this process alone.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from threadpoolctl import threadpool_info, threadpool_limits

from matrixrl.cli.schemes_native import NativeError, NativeMultiply, NumpyMultiply, compile_plan
from matrixrl.schemes.export import make_plan
from matrixrl.schemes.scheme import Scheme

_SAMPLE = 24  # rows and columns of C that are computed in higher precision
_MEMORY_SHARE = 0.6  # of the available memory that a size may use
_QUICK = 2.0  # seconds of a product above which it is repeated three times at most

Multiply = Callable[[np.ndarray, np.ndarray, np.ndarray], object]


def main() -> int:
    """Measures what the job on standard input asks for; returns the exit status."""
    job = json.load(sys.stdin)
    began = time.monotonic()
    dtype = np.dtype(job["dtype"])
    np.matmul(np.ones((64, 64), dtype), np.ones((64, 64), dtype))  # loads BLAS completely
    blas = _blas()
    plan = make_plan(Scheme.from_record(job["scheme"]), seconds=job["reduce_seconds"])
    with tempfile.TemporaryDirectory(prefix="matrixrl-bench-") as folder:
        runner: NativeMultiply | NumpyMultiply = NumpyMultiply(plan, dtype)
        reason = "asked for"
        if job["compiled"]:
            try:
                runner, reason = compile_plan(plan, Path(folder), dtype, blas.get("filepath")), ""
            except NativeError as error:
                reason = str(error)
        way = "compiled" if isinstance(runner, NativeMultiply) else "numpy"
        _emit(
            {
                "kind": "start",
                "way": way,
                "reason": reason,
                "additions": plan.num_additions,
                "kernel": blas.get("architecture"),
                "blas": " ".join(str(blas[key]) for key in ("internal_api", "version") if blas.get(key)),
                "load": psutil.getloadavg()[0],
            }
        )
        _measure_sizes(job, runner, dtype, began)
    return 0


def _measure_sizes(
    job: dict[str, Any], runner: NativeMultiply | NumpyMultiply, dtype: np.dtype, began: float
) -> None:
    """Measures size by size, while time and memory last."""
    rng = np.random.default_rng(job["seed"])
    spent, previous = 0.0, 0
    for size in job["sizes"]:
        needed = 3 * size * size * dtype.itemsize + max(
            runner.bytes_needed(size, levels) for levels in job["levels"]
        )
        if needed > _MEMORY_SHARE * psutil.virtual_memory().available:
            _emit({"kind": "skipped", "size": size, "reason": "memory", "bytes": needed})
            continue
        expected = spent * (size / previous) ** 3 if previous else 0.0
        if time.monotonic() - began + expected > job["seconds"]:
            _emit({"kind": "skipped", "size": size, "reason": "time", "seconds": expected})
            continue
        started = time.monotonic()
        a, b = (rng.uniform(-1, 1, (size, size)).astype(dtype) for _ in range(2))
        c = np.empty((size, size), dtype)
        for threads in job["threads"]:
            with threadpool_limits(threads):
                _measure_size(job, runner, a, b, c, threads)
        spent, previous = time.monotonic() - started, size


def _measure_size(
    job: dict[str, Any],
    runner: NativeMultiply | NumpyMultiply,
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    threads: int,
) -> None:
    """Measures BLAS and all levels, in turns, so that other load meets both."""
    size = len(a)
    runs: dict[int, Multiply] = {0: lambda a, b, c: np.matmul(a, b, out=c)}
    errors: dict[int, float] = {}
    seconds: dict[int, list[float]] = {}
    processor: dict[int, list[float]] = {}
    for levels in job["levels"]:
        runs[levels] = runner.prepare(size, levels)
    for levels, multiply in runs.items():  # the first call of each is not measured
        multiply(a, b, c)
        errors[levels] = _error(a, b, c)
        seconds[levels], processor[levels] = [], []
    repeats = job["repeats"]
    for repeat in range(repeats):
        for levels, multiply in runs.items():
            start, used = time.perf_counter(), time.process_time()
            multiply(a, b, c)
            processor[levels].append(time.process_time() - used)
            seconds[levels].append(time.perf_counter() - start)
        if repeat >= 2 and statistics.median(seconds[0]) > _QUICK:
            break
    for levels in job["levels"]:
        _emit(
            {
                "kind": "result",
                "size": size,
                "threads": threads,
                "levels": levels,
                "blas_seconds": statistics.median(seconds[0]),
                "scheme_seconds": statistics.median(seconds[levels]),
                "blas_processor_seconds": statistics.median(processor[0]),
                "scheme_processor_seconds": statistics.median(processor[levels]),
                "blas_range": [min(seconds[0]), max(seconds[0])],
                "scheme_range": [min(seconds[levels]), max(seconds[levels])],
                "blas_error": errors[0],
                "scheme_error": errors[levels],
                "repeats": len(seconds[0]),
                "load": psutil.getloadavg()[0],
            }
        )


def _error(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
    """Returns the relative error, in the Frobenius norm, of a sample of rows and columns."""
    rng = np.random.default_rng(0)
    rows, columns = (rng.choice(len(a), min(_SAMPLE, len(a)), replace=False) for _ in range(2))
    exact = a[rows].astype(np.longdouble) @ b[:, columns].astype(np.longdouble)
    difference = c[np.ix_(rows, columns)] - exact
    return float(np.sqrt((difference**2).sum() / (exact**2).sum()))


def _blas() -> dict[str, Any]:
    """Returns threadpoolctl's description of the BLAS that NumPy uses."""
    found = [info for info in threadpool_info() if info.get("user_api") == "blas"]
    return found[0] if found else {}


def _emit(values: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
