"""`--benchmark`: the cost of tracking, measured by alternating runs with and without it on the same
seeds (tracking contract, rule 12)."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matrixrl.config import TrackingConfig, require
from matrixrl.tracking.delivery_state import load_states
from matrixrl.tracking.numbers import significant
from matrixrl.tracking.status import activity

LIMIT_PCT = 1.0
MIN_PAIRS = 5
START_SECONDS = 60.0
"""Time that W&B is given to start."""


@dataclass(frozen=True)
class Timing:
    """What one training took.

    Attributes:
        seconds: of its loop, after everything had started.
        start_seconds: until W&B took rows; None without W&B.
    """

    seconds: float
    start_seconds: float | None = None


def wait_for_start(directory: Path, timeout: float = START_SECONDS) -> bool:
    """Waits until the sinks of a run take rows, or it is certain that one will not.

    Returns:
        Whether all of them do.
    """
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        modes = {state.mode for state in load_states(directory).values()}
        if modes and "starting" not in modes:
            return modes <= {"online", "offline"}
        time.sleep(0.02)
    return False


@dataclass(frozen=True)
class Slowdown:
    """What one variant costs against the baseline.

    Attributes:
        variant: such as `wandb`.
        baseline_seconds: median time of the training alone.
        variant_seconds: median time with it.
        slowdowns_pct: one per pair of neighbouring runs, from the training loop after the start.
        start_seconds: median time from the start of the run until W&B takes rows; None where
            nothing starts.
    """

    variant: str
    baseline_seconds: float
    variant_seconds: float
    slowdowns_pct: tuple[float, ...]
    start_seconds: float | None = None

    @property
    def median_pct(self) -> float:
        """The median slowdown in percent; below 0 where the variant happened to be faster."""
        return statistics.median(self.slowdowns_pct)

    @property
    def spread_pct(self) -> tuple[float, float]:
        """The quartiles of the slowdown in percent."""
        low, _, high = statistics.quantiles(self.slowdowns_pct, n=4, method="inclusive")
        return low, high

    @property
    def verdict(self) -> str:
        """`below 1 %`, `above 1 %`, or that the spread is too wide to decide."""
        low, high = self.spread_pct
        if high < LIMIT_PCT:
            return f"below {LIMIT_PCT:g} %"
        if low >= LIMIT_PCT:
            return f"above {LIMIT_PCT:g} %"
        side = "below" if self.median_pct < LIMIT_PCT else "above"
        return f"{side} {LIMIT_PCT:g} % by the median, but the spread reaches across: run more pairs"

    def as_record(self) -> dict[str, Any]:
        """Returns the result as JSON values."""
        low, high = self.spread_pct
        return {
            **dataclasses.asdict(self),
            "slowdowns_pct": list(self.slowdowns_pct),
            "median_pct": self.median_pct,
            "quartiles_pct": [low, high],
            "verdict": self.verdict,
        }


def benchmark(
    train: Callable[[TrackingConfig], Timing | float | None],
    config: TrackingConfig,
    *,
    pairs: int = MIN_PAIRS,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Slowdown]:
    """Runs a short training with and without W&B, alternating, and compares.

    The baseline journals and shows nothing on the console; `console` adds the console as
    configured; `wandb` adds W&B as well (offline, unless WANDB_MODE says otherwise). Every second
    round goes backwards, so that a machine that slows down with time favours nobody. One run comes
    first and is not counted: it compiles.

    Args:
        train: trains with the given tracking and the same seed each time; returns the seconds of
            its training loop (without start-up, compile and finish), with those of W&B's start if
            it waited for it (`wait_for_start`), or None to have the whole call timed.
        config: the tracking settings to compare; runs go to a temporary folder.
        pairs: rounds, at least 5.

    Raises:
        ConfigError: fewer than 5 pairs.
    """
    require(
        pairs >= MIN_PAIRS,
        f"--benchmark with {pairs} pairs: at least {MIN_PAIRS} are needed to see the spread",
    )
    mode = os.environ.get("WANDB_MODE")
    os.environ["WANDB_MODE"] = mode or "offline"
    try:
        with tempfile.TemporaryDirectory(prefix="matrixrl-benchmark-") as folder:
            quiet = dataclasses.replace(
                config,
                runs_dir=Path(folder),
                run_name=None,
                run_suffix=None,
                resume_run=None,
                wandb=False,
                track=(),
                console="quiet",
                record_moves=False,
            )
            variants = {
                "journal": quiet,
                "console": dataclasses.replace(
                    quiet, console=config.console, record_moves=config.record_moves
                ),
                "wandb": dataclasses.replace(
                    quiet, console=config.console, record_moves=config.record_moves, wandb=True
                ),
            }
            starts: dict[str, list[float]] = {name: [] for name in variants}
            results = compare(
                {name: _timed(train, c, clock, starts[name]) for name, c in variants.items()},
                "journal",
                pairs,
            )
            return [
                dataclasses.replace(result, start_seconds=statistics.median(starts[result.variant]))
                if starts[result.variant]
                else result
                for result in results
            ]
    finally:
        if mode is None:
            del os.environ["WANDB_MODE"]
        else:
            os.environ["WANDB_MODE"] = mode


def _timed(
    train: Callable[[TrackingConfig], Timing | float | None],
    config: TrackingConfig,
    clock: Callable[[], float],
    starts: list[float],
) -> Callable[[], float]:
    def call() -> float:
        # What the runs say would bury the table; it is still formatted and written.
        with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
            begun = clock()
            seconds = train(config)
        if isinstance(seconds, Timing):
            if seconds.start_seconds is not None:
                starts.append(seconds.start_seconds)
            return seconds.seconds
        return clock() - begun if seconds is None else seconds

    return call


def compare(runs: Mapping[str, Callable[[], float]], baseline: str, pairs: int) -> list[Slowdown]:
    """Calls every run `pairs` times, alternating, and compares each with the baseline of its round.

    Args:
        runs: by name; each returns the seconds it took.
        baseline: the name that the others are compared with.
    """
    names = list(runs)
    total = 1 + pairs * len(names)

    def timed(name: str, number: int) -> float:
        with activity(f"run {number} of {total}: {name if number > 1 else 'a first one, not counted'}"):
            return runs[name]()

    timed(baseline, 1)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(pairs):
        for name in names if number % 2 == 0 else reversed(names):
            seconds[name].append(timed(name, 2 + sum(map(len, seconds.values()))))
    base = seconds.pop(baseline)
    return [
        Slowdown(
            variant=name,
            baseline_seconds=statistics.median(base),
            variant_seconds=statistics.median(times),
            slowdowns_pct=tuple(100 * (time / alone - 1) for time, alone in zip(times, base, strict=True)),
        )
        for name, times in seconds.items()
    ]


def as_table(results: list[Slowdown]) -> str:
    """Returns the results as lines of text."""
    lines = [f"{'tracker':<10}{'alone':>10}{'with':>10}{'slowdown':>11}   {'quartiles':<20}verdict"]
    for result in results:
        low, high = result.spread_pct
        lines.append(
            f"{result.variant:<10}{result.baseline_seconds:>9.3f}s{result.variant_seconds:>9.3f}s"
            f"{result.median_pct:>+10.2f}%   {f'{low:+.2f}% .. {high:+.2f}%':<20}{result.verdict}"
        )
    lines += [
        f"{result.variant}: ready {significant(result.start_seconds)} s after the run began (not in the slowdown, which is "
        "the cost of rows)"
        for result in results
        if result.start_seconds is not None
    ]
    return "\n".join(lines)


def as_json(results: list[Slowdown]) -> dict[str, Any]:
    """Returns the results as JSON values, by tracker."""
    return {"pairs": len(results[0].slowdowns_pct), "trackers": {r.variant: r.as_record() for r in results}}
