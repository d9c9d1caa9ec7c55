"""Many agents in one program are the agents of single runs; their metrics, means and checkpoints."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from matrixrl.cli.main import main
from matrixrl.config import ConfigError
from matrixrl.systems.ppo.agents import START_NUMBER, AgentsProgram, agents_of, config_of
from matrixrl.systems.ppo.agents_trainer import aggregated
from matrixrl.systems.ppo.environment import environment_task
from matrixrl.systems.ppo.program import PPOProgram
from matrixrl.tracking.audit import audit
from matrixrl.tracking.journal_reader import JournalReader
from tests.systems.test_any_environment import SMALL, settings

ENV = "tests.envs.tiny:Masked"
SWEEP = ("learning_rate=0.001,0.02",)


def test_agents_are_every_seed_at_every_point_of_the_grid() -> None:
    config = settings(ENV, seed=5, num_seeds=2, sweep=("ent-coef=0,0.1", "gamma=0.9"))
    agents = agents_of(config)
    assert [(a.number, a.setting, a.seed) for a in agents] == [(0, 0, 5), (1, 0, 6), (2, 1, 5), (3, 1, 6)]
    assert agents[2].values == {"ppo.ent_coef": 0.1, "ppo.gamma": 0.9}
    assert agents[2].label == "seed 5, ent_coef 0.1, gamma 0.9"
    alone = config_of(config, agents[3])
    assert (alone.seed, alone.ppo.ent_coef, alone.ppo.gamma, alone.is_many) == (6, 0.1, 0.9, False)


def test_an_agent_is_that_of_a_run_of_its_own() -> None:
    config = settings(ENV, num_seeds=2, sweep=SWEEP, ppo=dataclasses.replace(SMALL, total_timesteps=800))
    task = environment_task(config)
    program = AgentsProgram(config, task)
    states, updates = program.advance(program.init(), 0, 5)
    alone = config_of(config, program.agents[3])
    single = PPOProgram(alone, task)
    key = jax.random.key(alone.seed)
    state = single.init(jax.random.fold_in(key, START_NUMBER))
    state, expected = single.advance(state, key, jnp.int32(0), jnp.int32(5))
    for found, wanted in zip(jax.tree.leaves(states.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_allclose(found[3], wanted, rtol=1e-3, atol=1e-4)
    assert np.asarray(updates.ended[3]).tolist() == np.asarray(expected.ended).tolist()
    first, other = (jax.tree.leaves(states.params)[0][i] for i in (0, 1))
    assert np.abs(np.asarray(first - other)).max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_seeds": 0}, "--num-seeds 0: must be 1 or more"),
        (
            {"sweep": ("seed=1,2",)},
            "--sweep seed=1,2: must be a setting with its values: one of num_envs, num_steps",
        ),
        ({"sweep": ("num_envs=16,17", "num_steps=9,10")}, "--num-minibatches 2 does not divide"),
        ({"sweep": ("num_envs=1.5",)}, "must be NAME=NUMBER,NUMBER"),
        ({"sweep": ("anneal_lr=yes",)}, "must be true or false"),
        ({"sweep": ("activation=tanh,sine",)}, "must be one of tanh, relu"),
        ({"sweep": ("hidden_dim=8,0",)}, "--hidden-dim 0: must be 1 or more"),
        ({"sweep": ("gamma",)}, "must be NAME=NUMBER,NUMBER"),
        ({"sweep": ("gamma=a,b",)}, "must be NAME=NUMBER,NUMBER"),
        ({"sweep": ("gamma=0.9,2",)}, "--gamma 2.0: must be from 0 to 1"),
        ({"sweep": ("gamma=0.9,0.9",)}, "name each value once"),
        ({"sweep": ("gamma=0.9", "gamma=0.8")}, "name each setting once"),
    ],
)
def test_impossible_grids(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(ENV, **changes)
    assert message in str(caught.value)


def test_means_over_agents() -> None:
    row = aggregated([{"a": value, **({"b": 1.0} if value else {})} for value in (0.0, 1.0, 2.0, 101.0)])
    assert row["a"] == 26.0
    assert row["a_iqm"] == 1.5
    assert row["a_low"] < 26 < row["a_high"]
    assert row["b"] == 1.0  # of the agents that have it
    assert aggregated([{"a": 3.0}]) == {"a": 3.0}


def test_one_run_holds_all_agents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [
        "--num-envs",
        "16",
        "--num-steps",
        "10",
        "--num-minibatches",
        "2",
        "--hidden-dim",
        "8",
        "--num-layers",
        "1",
    ]
    flags += [
        "--no-anneal-lr",
        "--log-interval",
        "5",
        "--console",
        "quiet",
        "--runs-dir",
        str(tmp_path),
        "--json",
    ]
    many = ["--env", ENV, "--num-seeds", "2", "--sweep", *SWEEP]

    def train(*arguments: str) -> dict[str, Any]:
        assert main(["ppo", "train", *arguments]) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    whole = train(*many, *flags, "--total-timesteps", "1600", "--run-name", "whole")
    train(*many, *flags, "--total-timesteps", "800", "--run-name", "halves")
    place = ["--runs-dir", str(tmp_path), "--console", "quiet", "--json"]
    halves = train("--resume-run", "halves", "--total-timesteps", "1600", *place)
    assert whole["params_sha256"] == halves["params_sha256"]
    assert [(a["agent"], a["seed"], a["settings"]) for a in whole["agents"]] == [
        (0, 0, {"learning_rate": 0.001}),
        (1, 1, {"learning_rate": 0.001}),
        (2, 0, {"learning_rate": 0.02}),
        (3, 1, {"learning_rate": 0.02}),
    ]
    assert whole["total_timesteps"] == 4 * 1600
    assert whole["mean_return"] == pytest.approx(np.mean([a["mean_return"] for a in whole["agents"]]))
    assert audit(tmp_path / "halves", server=False).agrees
    with JournalReader(tmp_path / "whole") as reader:
        last = dict(list(reader.stream())[-1].metrics)
        assert list(reader.episode_columns)[:3] == ["Global Episode", "Update", "Agent"]
    assert last["episode/return"] == pytest.approx(
        np.mean([last[f"agent/{number}/episode/return"] for number in range(4)])
    )
    assert last["setting/1/episode/return"] == pytest.approx(
        np.mean([last[f"agent/{number}/episode/return"] for number in (2, 3)])
    )
    assert last["episode/return_low"] < last["episode/return"] < last["episode/return_high"]
    assert "episode/return_iqm" in last
    assert main(["ppo", "evaluate", "whole", "--runs-dir", str(tmp_path), "--episodes", "8", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    words = [line.split() for line in lines]
    assert sum(line[:3] == ["95", "%", "interval"] for line in words) == 3  # all, and each point
    assert [line[-2:] for line in words if line[:1] == ["mean"]][1:] == [
        ["learning_rate", "0.001"],
        ["learning_rate", "0.02"],
    ]
    record = json.loads(lines[-1])
    assert [point["settings"] for point in record["settings"]] == [
        {"learning_rate": 0.001},
        {"learning_rate": 0.02},
    ]
    assert [agent["agent"] for agent in record["agents"]] == [0, 1, 2, 3]
    means = [agent["greedy"]["return"]["mean"] for agent in record["agents"]]
    assert record["greedy"]["return"]["mean"] == pytest.approx(np.mean(means))


def test_orthogonal_matrices_of_agents_are_drawn_one_after_the_other() -> None:
    """Batched QR factorizations of several layers at once deadlock on a CPU with two cores."""

    def factorizations(jaxpr: Any) -> Iterator[Any]:
        for equation in jaxpr.eqns:
            if equation.primitive.name in ("geqrf", "qr", "householder_product"):
                yield equation.invars[0].aval
            for value in equation.params.values():
                inner = getattr(value, "jaxpr", value)
                if hasattr(inner, "eqns"):
                    yield from factorizations(inner)

    config = settings(ENV, num_seeds=2)
    program = AgentsProgram(config, environment_task(config))
    found = list(factorizations(jax.make_jaxpr(program._start)(program.keys).jaxpr))
    assert found
    assert all(matrix.ndim == 2 for matrix in found)
