"""Training with later starts: the positions are part of the checkpoint, and only whole games count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from matrixrl.checkpoints.format import flatten
from matrixrl.checkpoints.store import CheckpointStore
from matrixrl.cli.hackmatrix import make_spec, read_config
from matrixrl.config import ConfigError, HackmatrixConfig, as_record, from_record, may_change_on_resume
from matrixrl.envs.hackmatrix.env import HackMatrix
from matrixrl.envs.hackmatrix.equipped import NUM_DRAWS, with_equipment
from matrixrl.envs.hackmatrix.observation import DATA_SIPHONS, OWNED, PACKED_WORDS
from matrixrl.envs.hackmatrix.rules import ACTION_SIPHON, FIRST_PROGRAM_ACTION, Program
from matrixrl.systems.hackmatrix.spec import SPEC
from matrixrl.systems.hackmatrix.task import equipment, group_of, hackmatrix_task, learner_rewards
from matrixrl.systems.ppo.trainer import PPOState, PPOTrainer
from tests.jitted import jitted
from tests.systems.test_ppo import SETTINGS, QuickProgram, assert_same_state

LATER = [*SETTINGS, "--later-starts", "0.8", "--later-starts-until", "1", "--monolithic"]


def test_settings_are_recorded_and_the_table_has_the_stage_of_the_start() -> None:
    config = read_config(LATER)
    record = as_record(config)
    assert record["starts"] == {
        "later_starts": 0.8, "later_starts_until": 1.0, "equipped_starts": 0.0, "equipped_starts_until": 0.8,
    }  # fmt: skip
    assert from_record(HackmatrixConfig, record) == config
    # An earlier run has no such entry and continues without later starts.
    del record["starts"]
    assert from_record(HackmatrixConfig, record).starts.later_starts == 0
    assert not may_change_on_resume(HackmatrixConfig, "starts.later_starts")
    assert make_spec(read_config(SETTINGS)) == SPEC
    spec = make_spec(config)
    assert list(spec.episode_columns) == [*SPEC.episode_columns, "Start Stage"]
    task = hackmatrix_task(config)
    assert list(spec.episode_columns)[2:] == list(task.columns)
    assert "start_stage" in task.table_values
    assert "whole" in task.table_values


def test_equipped_starts_are_recorded_and_the_table_has_them() -> None:
    config = read_config([*SETTINGS, "--equipped-starts", "0.5"])
    assert from_record(HackmatrixConfig, as_record(config)) == config
    assert not may_change_on_resume(HackmatrixConfig, "starts.equipped_starts")
    task = hackmatrix_task(config)
    assert list(make_spec(config).episode_columns) == [*SPEC.episode_columns, "Equipped"]
    assert list(make_spec(config).episode_columns)[2:] == list(task.columns)
    assert (task.counted, "equipped" in task.table_values) == ("whole", True)
    both = read_config([*LATER, "--equipped-starts", "0.5"])
    assert list(make_spec(both).episode_columns)[2:] == list(hackmatrix_task(both).columns)


def test_without_later_starts_nothing_changes() -> None:
    task = hackmatrix_task(read_config(SETTINGS))
    assert task.counted is None
    assert "start_stage" not in task.episode_values


def test_groups_do_not_depend_on_the_number_of_devices() -> None:
    assert group_of(read_config(["--preset", "tuned"])) == 128 // 8
    assert group_of(read_config(["--num-envs", "6", "--num-steps", "8", "--num-minibatches", "2"])) in (3, 6)


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--later-starts", "1.5"], ["--later-starts 1.5", "from 0"]),
        (["--later-starts-until", "0"], ["--later-starts-until 0", "above 0"]),
        (["--equipped-starts", "2"], ["--equipped-starts 2", "from 0"]),
        (["--equipped-starts-until", "0"], ["--equipped-starts-until 0", "above 0"]),
        (["--exploration", "-1"], ["--exploration -1"]),
        (["--program-exploration", "-1"], ["--program-exploration -1"]),
        (
            ["--algorithm", "alphazero", "--program-exploration", "9"],
            ["--program-exploration 9", "alphazero"],
        ),
        (["--equipment-reward", "-2"], ["--equipment-reward -2"]),
        (["--equipment-reward-until", "0"], ["--equipment-reward-until 0", "above 0"]),
        (["--algorithm", "alphazero", "--equipment-reward", "2"], ["--equipment-reward 2", "alphazero"]),
        (["--undo-cost", "-1"], ["--undo-cost -1"]),
        (["--algorithm", "alphazero", "--undo-cost", "1"], ["--undo-cost 1", "alphazero"]),
        (["--max-reward", "0"], ["--max-reward 0", "above 0"]),
        (["--algorithm", "alphazero", "--exploration", "0.1"], ["--exploration 0.1", "alphazero"]),
        (["--algorithm", "alphazero", "--max-reward", "9"], ["--max-reward 9", "alphazero"]),
        (["--later-starts", "0.5", "--auto-tune"], ["--auto-tune and --later-starts 0.5"]),
    ],
)
def test_impossible_settings_are_refused(flags: list[str], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        read_config(flags)
    assert all(part in str(refused.value) for part in parts)


def test_equipment_is_worth_its_programs_and_half_its_siphons() -> None:
    game = HackMatrix(packed=True)
    _, states = jitted(game.reset_batch)(jax.random.split(jax.random.key(0), 32))
    draws = jax.random.uniform(jax.random.key(1), (32, NUM_DRAWS))
    games = jitted(with_equipment)(states, draws)
    worth = jitted(equipment)(jitted(jax.vmap(game.observation))(games))
    programs = [int(owned).bit_count() for owned in games.owned]
    siphons = np.asarray(games.player.data_siphons)
    assert min(programs) == 0 < max(programs)
    assert len(set(siphons.tolist())) > 2
    np.testing.assert_array_equal(worth, programs + siphons / 2)


def test_the_reward_for_equipment_fades_and_the_cost_of_undo_stays() -> None:
    flags = ["--equipment-reward", "4", "--equipment-reward-until", "0.5", "--undo-cost", "1.5"]
    assert learner_rewards(read_config(SETTINGS)) is None
    rewards = hackmatrix_task(read_config([*SETTINGS, *flags])).shaping
    assert rewards is not None
    before, after = np.zeros((2, 3, PACKED_WORDS), np.uint32)
    before[:, DATA_SIPHONS], before[:, OWNED] = 2, 0b1000_0001
    after[:, DATA_SIPHONS], after[:, OWNED] = (1, 3, 1), (0b1100_0001, 0b1000_0001, 0b1000_0000)
    actions = jnp.array([ACTION_SIPHON, 0, FIRST_PROGRAM_ACTION + Program.UNDO])
    gained = np.array([1 - 0.5, 0.5, -1 - 0.5])
    for progress, weight in ((0, 4), (0.25, 2), (0.5, 0), (0.75, 0)):
        paid = rewards(jnp.float32(progress))(before, actions, after)
        np.testing.assert_allclose(paid, weight * gained - [0, 0, 1.5])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_positions_are_resumed_to_the_same_bits_and_only_whole_games_count(tmp_path: Path) -> None:
    config = read_config([*LATER, "--equipped-starts", "0.5", "--equipped-starts-until", "1"])
    program = QuickProgram(config, hackmatrix_task(config))
    trainer, key = PPOTrainer(config, program), jax.random.key(config.seed)

    def start() -> Any:
        """A new run whose lanes have kept a position each: their own start, as if in stage 5."""
        state = program.init(key)
        counted = state.rollout.env_state
        started = counted.game.game
        kept = started.kept
        bare = started.game._replace(history=started.game.history._replace(words=()))
        games = jax.tree.map(lambda all_, now: all_.at[:, 2].set(now), kept.games, bare)
        games = games._replace(stage=games.stage.at[:, 2].set(5))
        shown = kept.observations.at[:, 2].set(state.rollout.observation)
        kept = kept._replace(filled=kept.filled.at[:, 2].set(True), games=games, observations=shown)
        counted = counted._replace(game=counted.game._replace(game=started._replace(kept=kept)))
        return state._replace(rollout=state.rollout._replace(env_state=counted))

    def advance(state: Any, first: int, count: int) -> tuple[Any, Any]:
        return program.advance(state, key, jnp.int32(first), jnp.int32(count))

    whole, results = advance(start(), 0, 8)
    half, _ = advance(start(), 0, 3)
    store = CheckpointStore(tmp_path, {"run": "r", "config": as_record(config)})
    store.begin()
    store.start(trainer.snapshot(PPOState(half, trainer.init().progress), 3))
    store.collect(None)
    checkpoint, _ = store.newest()
    store.close()
    assert checkpoint is not None
    assert "rollout/env_state/game/game/kept/filled" in flatten(half)
    resumed, _ = advance(checkpoint.restore(program.template), 3, 5)
    progress = trainer.init().progress
    assert_same_state(PPOState(whole, progress), PPOState(resumed, progress))

    # Means are over whole games only; the table has all.
    results = jax.device_get(results)
    ended, stages = results.ended[:8], results.table["start_stage"][:8]
    assert {1, 5} <= set(np.unique(stages[ended]).tolist())
    equipped = results.table["equipped"][:8] > 0
    assert 0 < equipped[ended].mean() < 1
    for update in range(8):
        counted = ended[update] & (stages[update] == 1) & ~equipped[update]
        np.testing.assert_array_equal(trainer._counted(results, update), counted)
        returns = results.table["return"][update][counted].sum()
        assert results.sums["return"][update] == pytest.approx(returns, rel=1e-4, abs=1e-4)
        assert results.sums["whole"][update] == counted.sum()
