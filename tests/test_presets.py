"""Presets: each builds, and the reference settings are what the table of the design says."""

from __future__ import annotations

import pytest

from matrixrl import presets
from matrixrl.config import ConfigError, as_record


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


@pytest.mark.parametrize("name", ["quick", "discover"])
def test_discovering_presets_are_shown_nothing_and_must_beat_the_standard_algorithm(name: str) -> None:
    config = presets.matmul(name)
    assert config.demonstration.demonstrations == ("synthetic",)
    assert config.demonstration.shown == "nothing shown"
    assert config.game.moves == 7
    assert config.game.ring == ("F2" if name == "quick" else "Z")


def test_dev_records_moves() -> None:
    assert presets.dev().tracking.record_moves
    assert not presets.full().tracking.record_moves


def test_an_unknown_preset_names_those_that_exist() -> None:
    with pytest.raises(ConfigError, match="quick, discover, full, dev"):
        presets.matmul("big")
