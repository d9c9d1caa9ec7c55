"""The master clock of a run: `global_step`, which only moves forward."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import total_ordering
from typing import overload

from matrixrl.config import ConfigError

_ISSUER = object()


@total_ordering
class Tick:
    """One position of the clock. Only a `StepClock` creates ticks: no row is stamped by hand.

    Attributes:
        step: the value of `global_step`; 1 for the first tick of a run.
        seconds: wall-clock time of the call that moved the clock, seconds since the epoch.
    """

    __slots__ = ("seconds", "step")

    step: int
    seconds: float

    def __init__(self, step: int, seconds: float, issuer: object = None) -> None:
        if issuer is not _ISSUER:
            raise TypeError("a Tick comes from StepClock.advance() alone; rows cannot be stamped by hand")
        object.__setattr__(self, "step", step)
        object.__setattr__(self, "seconds", seconds)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Tick does not change; {name} was asked to become {value!r}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tick) and self.step == other.step

    def __lt__(self, other: Tick) -> bool:
        return self.step < other.step

    def __hash__(self) -> int:
        return hash(self.step)

    def __repr__(self) -> str:
        return f"Tick({self.step})"


class Ticks(Sequence[Tick]):
    """The consecutive ticks of one `advance`, created on access, like a `range`."""

    __slots__ = ("_seconds", "_steps")

    def __init__(self, steps: range, seconds: float, issuer: object = None) -> None:
        if issuer is not _ISSUER:
            raise TypeError("Ticks come from StepClock.advance() alone")
        self._steps = steps
        self._seconds = seconds

    def __len__(self) -> int:
        return len(self._steps)

    @overload
    def __getitem__(self, index: int) -> Tick: ...

    @overload
    def __getitem__(self, index: slice) -> Ticks: ...

    def __getitem__(self, index: int | slice) -> Tick | Ticks:
        if isinstance(index, slice):
            return Ticks(self._steps[index], self._seconds, _ISSUER)
        return Tick(self._steps[index], self._seconds, _ISSUER)

    def __iter__(self) -> Iterator[Tick]:
        for step in self._steps:
            yield Tick(step, self._seconds, _ISSUER)

    def __repr__(self) -> str:
        return f"Ticks({self._steps.start}..{self._steps.stop - 1})" if self._steps else "Ticks()"


class StepClock:
    """Counts the steps of a run, as its system defines them; the x-axis of every row.

    Args:
        wall_time: returns seconds since the epoch; tests pass their own.
    """

    def __init__(self, wall_time: Callable[[], float] = time.time) -> None:
        self._step = 0
        self._wall_time = wall_time
        self._used = False

    @property
    def step(self) -> int:
        """The last step handed out (0 before the first): what a checkpoint saves."""
        return self._step

    def advance(self, count: int = 1) -> Ticks:
        """Moves forward by `count` steps and returns their ticks, in order.

        Args:
            count: number of steps, 0 or more. A batch of B live games takes B, so that each move
                has its own tick.

        Raises:
            ValueError: if `count` is negative.
        """
        if count < 0:
            raise ValueError(f"advance({count}): the clock only moves forward; count must be 0 or more")
        first = self._step + 1
        self._step += count
        self._used = self._used or count > 0
        return Ticks(range(first, first + count), self._wall_time(), _ISSUER)

    def tick(self) -> Tick:
        """Moves forward by one step and returns its tick."""
        return self.advance()[0]

    def now(self) -> Tick:
        """Returns the current tick again, for events between two steps, such as a checkpoint."""
        return Tick(self._step, self._wall_time(), _ISSUER)

    def restore(self, saved_step: int) -> None:
        """Sets a clock that has not ticked yet to the `step` that a checkpoint saved.

        Raises:
            ConfigError: if the clock has ticked already, or the saved value is negative.
        """
        if self._used or self._step:
            raise ConfigError(f"the clock stands at {self._step} already; restore it before the first tick")
        if saved_step < 0:
            raise ConfigError(f"a saved clock of {saved_step}: must be 0 or more; the checkpoint is damaged")
        self._step = int(saved_step)
