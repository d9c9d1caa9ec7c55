"""Presets: each builds, and the reference settings are what the table of the design says."""

from __future__ import annotations

import pytest

from matrixrl import presets
from matrixrl.config import ActorCriticConfig, ConfigError, HackmatrixConfig, as_record, from_record


@pytest.mark.parametrize("name", presets.MATMUL)
def test_every_preset_builds_and_is_recorded_as_json(name: str) -> None:
    import json

    config = presets.matmul(name)
    assert config.preset == name
    assert json.loads(json.dumps(as_record(config)))["game"]["size"] == [2, 2, 2]


@pytest.mark.parametrize(
    ("name", "batch_size", "simulations", "episodes", "pretraining"),
    [("full", 128, 350, 10, 100), ("dev", 16, 50, 3, 10)],
)
def test_reference_presets_have_the_values_of_the_table(
    name: str, batch_size: int, simulations: int, episodes: int, pretraining: int
) -> None:
    config = presets.matmul(name)
    assert config.optimizer.batch_size == batch_size
    assert config.search.num_simulations == simulations
    assert config.selfplay.episodes_per_epoch == episodes
    assert config.demonstration.pretraining_steps == pretraining
    assert config.demonstration.shown == "standard algorithm shown"
    assert config.game.ring == "Z"
    assert config.game.moves == config.game.standard_rank


@pytest.mark.parametrize("name", ["quick", "discover", "integers"])
def test_discovering_presets_are_shown_nothing_and_must_beat_the_standard_algorithm(name: str) -> None:
    config = presets.matmul(name)
    assert config.demonstration.demonstrations == ("synthetic",)
    assert config.demonstration.shown == "nothing shown"
    assert config.game.moves == 7
    assert config.game.ring == ("Z" if name == "integers" else "F2")


def test_dev_records_moves() -> None:
    assert presets.dev().tracking.record_moves
    assert not presets.full().tracking.record_moves


def test_an_unknown_preset_names_those_that_exist() -> None:
    with pytest.raises(ConfigError, match="quick, discover, integers, full, dev"):
        presets.matmul("big")


@pytest.mark.parametrize("name", presets.HACKMATRIX)
def test_every_hackmatrix_preset_builds_and_is_recorded_as_json(name: str) -> None:
    import json

    config = presets.hackmatrix(name)
    assert config.preset == name
    record = json.loads(json.dumps(as_record(config)))
    assert record["ppo"]["num_envs"] == config.ppo.num_envs
    assert from_record(HackmatrixConfig, record) == config
    # Whole batches, and groups of environments that every minibatch takes an equal share of.
    assert config.ppo.num_updates >= 1
    assert config.ppo.batch_size % config.ppo.num_minibatches == 0


def test_the_default_hackmatrix_preset_is_the_reference_setting() -> None:
    separate = HackmatrixConfig(network=ActorCriticConfig(critic="separate"))
    assert presets.hackmatrix("default") == separate
    # A run that did not record the setting has one network for policy and value.
    assert HackmatrixConfig().network.critic == "shared"
    assert presets.hackmatrix("tuned").network.torso in ("mlp", "grid")
    assert presets.hackmatrix("dev").ppo.total_timesteps < 1_000_000


def test_an_unknown_hackmatrix_preset_names_those_that_exist() -> None:
    with pytest.raises(ConfigError, match="default, tuned, winning, dev"):
        presets.hackmatrix("big")
