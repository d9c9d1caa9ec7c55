from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrixrl.config import ConfigError
from matrixrl.tracking.clock import StepClock, Tick, Ticks


@given(st.lists(st.integers(0, 50)))
def test_every_tick_is_one_above_the_last(counts: list[int]) -> None:
    clock = StepClock()
    steps = [tick.step for count in counts for tick in clock.advance(count)]
    assert steps == list(range(1, sum(counts) + 1))
    assert clock.step == sum(counts)


def test_the_clock_never_goes_back() -> None:
    clock = StepClock()
    clock.advance(3)
    with pytest.raises(ValueError, match="only moves forward"):
        clock.advance(-1)
    with pytest.raises(ConfigError, match="restore it before the first tick"):
        clock.restore(1)


def test_a_restored_clock_goes_on_where_the_checkpoint_stood() -> None:
    clock = StepClock()
    clock.restore(41)
    assert clock.tick().step == 42
    with pytest.raises(ConfigError, match="damaged"):
        StepClock().restore(-1)


def test_nobody_but_the_clock_makes_ticks() -> None:
    with pytest.raises(TypeError, match="StepClock"):
        Tick(7, 0.0)
    with pytest.raises(TypeError, match="StepClock"):
        Ticks(range(3), 0.0)
    tick = StepClock().tick()
    with pytest.raises(AttributeError):
        tick.step = 9


def test_ticks_of_a_batch_carry_the_time_that_was_passed_in() -> None:
    times = iter([10.0, 20.0])
    clock = StepClock(lambda: next(times))
    first, second = clock.advance(2), clock.advance(1)
    assert [(tick.step, tick.seconds) for tick in [*first, *second]] == [(1, 10.0), (2, 10.0), (3, 20.0)]
    assert [tick.step for tick in first[1:]] == [2]
    assert len(first) == 2
    assert first[-1] == clock_tick(2)
    assert first[0] < first[1]


def clock_tick(step: int) -> Tick:
    clock = StepClock()
    return clock.advance(step)[-1]


def test_now_hands_out_the_tick_where_the_clock_stands() -> None:
    clock = StepClock()
    clock.advance(5)
    assert clock.now().step == 5
    assert clock.tick().step == 6
