"""Rules beside a field: each bound refuses what lies outside, names the flag, and accepts its ends."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrixrl.config import (
    MAX_NUMBER,
    ConfigError,
    HackmatrixConfig,
    MatmulConfig,
    PPOConfig,
    RunConfig,
    Settings,
    may_change_on_resume,
    program_arguments,
    setting,
)
from matrixrl.config.fields import Rules, former_flags, literals, optional_type, rules_of, settings_of

SYSTEMS = (MatmulConfig, HackmatrixConfig)


@dataclass(frozen=True, kw_only=True)
class Example(Settings):
    """One setting for each rule."""

    minimum: int = setting(3, minimum=2)
    range: float = setting(0.5, minimum=0, maximum=1)
    above: float = setting(1.0, above=0, hint=", such as 0.1")
    open: float = setting(0.5, above=0, below=1)
    half_open: float = setting(0.5, above=0, maximum=1)
    most: int = setting(1, maximum=5)
    even: int = setting(2, minimum=2, multiple_of=2)
    third: int = setting(3, minimum=0, multiple_of=3)
    choice: int = setting(1, choices=(1, 2))
    word: Literal["a", "b"] = "a"
    maybe: Literal["a", "b"] | None = None
    count: int = 0
    uncounted: int = setting(0, countable=False)
    optional: int | None = setting(None, minimum=1)
    no_number: bool = setting(True, minimum=5)


@pytest.mark.parametrize(
    ("name", "refused", "text"),
    [
        ("minimum", [1, -5], "must be 2 or more"),
        ("range", [-0.1, 1.1, math.nan, math.inf], "must be from 0 to 1"),
        ("above", [0, -1.0, math.nan], "must be above 0, such as 0.1"),
        ("open", [0, 1, 2.0, math.nan], "must be above 0 and below 1"),
        ("half_open", [0, 1.5], "must be above 0 and at most 1"),
        ("most", [6], "must be at most 5"),
        ("even", [3, 0], "must be 2 or more, and even"),
        ("third", [4], "must be 0 or more, and a multiple of 3"),
        ("choice", [0, 3], "must be 1 or 2"),
        ("word", ["c", ""], "must be one of a, b"),
        ("maybe", ["c"], "must be one of a, b"),
        ("count", [MAX_NUMBER + 1, 10**30], f"must be at most {MAX_NUMBER}"),
        ("minimum", [MAX_NUMBER + 1], f"must be at most {MAX_NUMBER}"),
        ("optional", [0], "must be 1 or more"),
    ],
)
def test_a_value_outside_the_rule_is_refused(name: str, refused: list[Any], text: str) -> None:
    for value in refused:
        with pytest.raises(ConfigError) as error:
            Example(**{name: value})
        assert str(error.value) == f"--{name.replace('_', '-')} {value}: {text}"


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("minimum", [2, MAX_NUMBER]),
        ("range", [0, 1, 0.5]),
        ("above", [1e-300, math.inf]),
        ("half_open", [1]),
        ("most", [5, -7]),
        ("even", [2, 8]),
        ("choice", [1, 2]),
        ("word", ["a", "b"]),
        ("maybe", ["a", None]),
        ("count", [MAX_NUMBER, -3]),
        ("uncounted", [MAX_NUMBER + 1]),
        ("optional", [1, None]),
        ("no_number", [True, False]),
    ],
)
def test_the_ends_of_a_rule_are_allowed(name: str, allowed: list[Any]) -> None:
    for value in allowed:
        assert getattr(Example(**{name: value}), name) == value


@given(st.floats(), st.floats(-10, 10), st.floats(-10, 10))
def test_a_bound_is_described_as_it_is_applied(value: float, low: float, high: float) -> None:
    rules = Rules(minimum=low, maximum=high)
    assert (rules.problem(value, float) == "") == (low <= value <= high)
    rules = Rules(above=low, below=high)
    assert (rules.problem(value, float) == "") == (low < value < high)


@pytest.mark.parametrize("kind", SYSTEMS)
def test_every_default_is_allowed_and_every_number_is_checked(kind: type) -> None:
    kind()
    for name, item, hint in settings_of(kind):
        inner = optional_type(hint) or hint
        rules = rules_of(item)
        if inner is float and name not in ("demonstration.min_density", "demonstration.max_density"):
            assert rules.problem(math.nan, hint), f"{name}: a NaN is accepted"
        if literals(hint):
            assert rules.problem("?", hint), name


@pytest.mark.parametrize("kind", SYSTEMS)
def test_flags_and_their_former_names_are_unique(kind: type) -> None:
    names = [name.rpartition(".")[2] for name, _, _ in settings_of(kind)]
    former = [alias for _, item, _ in settings_of(kind) for alias in rules_of(item).aliases]
    assert len({*names, *former}) == len(names) + len(former)


def test_former_flags_of_booleans_have_their_negation() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Renamed(Settings):
        present: bool = setting(False, aliases=("old_name",))

    globals()["Renamed"] = Renamed
    assert former_flags(Renamed) == {"--old-name": "--present", "--no-old-name": "--no-present"}


def test_the_trainers_share_their_run_settings() -> None:
    shared = {item.name for item in dataclasses.fields(RunConfig)}
    for kind in SYSTEMS:
        assert issubclass(kind, RunConfig)
        own = set(kind.__annotations__) - {"recorded_beside", "preset"}
        assert not own & shared, f"{kind.__name__} declares shared settings again"
    assert {"tracking", "checkpoint", "processes", "seed", "devices", "time", "config"} <= shared


def test_what_may_change_and_what_is_an_argument_stand_beside_the_field() -> None:
    assert may_change_on_resume(MatmulConfig, "tracking.log_interval")
    assert may_change_on_resume(MatmulConfig, "selfplay.num_epochs")
    assert not may_change_on_resume(MatmulConfig, "game.size")
    assert not may_change_on_resume(HackmatrixConfig, "ppo.num_envs")
    arguments = program_arguments(HackmatrixConfig)
    assert {"ppo.learning_rate", "ppo.ent_coef", "ppo.gamma"} <= set(arguments)
    assert not {"ppo.num_envs", "network.hidden_dim", "seed"} & set(arguments)
    assert set(program_arguments(PPOConfig)) == {name.partition(".")[2] for name in arguments}


def test_the_program_takes_every_argument_once() -> None:
    from matrixrl.agents.ppo import PPO
    from matrixrl.systems.ppo import program

    fields = {item.name for item in dataclasses.fields(PPO)}
    assert set(program.OF_LEARNER) <= fields
    assert {*program.COEFFICIENTS, *program.ENDS} == set(program_arguments(PPOConfig))
