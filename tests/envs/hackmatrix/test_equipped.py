"""Equipped starts: what is given, to whom, and that the game and its observation agree."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from matrixrl.config import ConfigError
from matrixrl.envs.hackmatrix import bitboard
from matrixrl.envs.hackmatrix.env import HackMatrix
from matrixrl.envs.hackmatrix.equipped import (
    MAX_RESOURCES,
    MAX_SIPHONS,
    NUM_DRAWS,
    EquippedGame,
    EquippedStarts,
    with_equipment,
)
from matrixrl.envs.hackmatrix.observation import PACKED_WORDS
from matrixrl.envs.hackmatrix.rules import NUM_CELLS, NUM_PROGRAMS, PROGRAMS
from matrixrl.envs.hackmatrix.starts import LaterStarts
from matrixrl.envs.hackmatrix.state import CellWord, TransmissionWord, present
from tests.envs.hackmatrix.test_relations import around
from tests.envs.hackmatrix.test_starts import END, GROUP, LANES, STAY, Counting
from tests.jitted import jitted

GAMES = 64


@pytest.fixture(scope="module")
def fresh() -> Any:
    """New games of the real environment."""
    return jax.device_get(jitted(HackMatrix().reset_batch)(jax.random.split(jax.random.key(0), GAMES))[1])


def draws(**values: Any) -> jax.Array:
    """Numbers of starts that stay where they are, all 0.5 except the named ones."""
    names = ["credits", "energy", "siphons", "damage", "share"]
    uniform = np.full((GAMES, NUM_DRAWS), 0.5, np.float32)
    uniform[:, 5 + NUM_PROGRAMS] = 0.99
    for name, value in values.items():
        uniform[:, names.index(name) if name in names else slice(5, 5 + NUM_PROGRAMS)] = value
    return jnp.asarray(uniform)


@pytest.mark.parametrize("number", [0.0, 0.4, 0.999999])
def test_resources_and_siphons_are_added_within_their_limits(fresh: Any, number: float) -> None:
    given = jitted(with_equipment)(fresh, draws(credits=number, energy=number, siphons=number))
    for now, then, limit in (
        (given.player.credits, fresh.player.credits, MAX_RESOURCES),
        (given.player.energy, fresh.player.energy, MAX_RESOURCES),
        (given.player.data_siphons, fresh.player.data_siphons, MAX_SIPHONS),
    ):
        part = number if limit == MAX_SIPHONS else number**2
        np.testing.assert_array_equal(np.asarray(now) - then, int((limit + 1) * part))
    np.testing.assert_array_equal(given.player.cell, fresh.player.cell)
    np.testing.assert_array_equal(given.board.values, fresh.board.values)


@pytest.mark.parametrize(("number", "more"), [(0.05, 2), (0.2, 1), (0.9, 0)])
def test_a_few_are_stronger(fresh: Any, number: float, more: int) -> None:
    given = jitted(with_equipment)(fresh, draws(damage=number))
    np.testing.assert_array_equal(np.asarray(given.player.attack_damage) - fresh.player.attack_damage, more)


def test_a_program_is_owned_below_half_the_square_of_the_share(fresh: Any) -> None:
    numbers = np.arange(NUM_PROGRAMS) / NUM_PROGRAMS
    before = fresh._replace(owned=np.asarray(fresh.owned) | 1 << 20)
    given = jitted(with_equipment)(before, draws(share=0.9, owned=numbers))
    # 0.5 x 0.81 = 0.405 is above 9/23 and below 10/23.
    assert set(np.asarray(given.owned).tolist()) == {2**10 - 1 | 1 << 20}


def test_some_start_beside_a_program_block_with_a_siphon(fresh: Any) -> None:
    uniform = jax.random.uniform(jax.random.key(1), (GAMES, NUM_DRAWS)).at[:, -3].set(0.0)
    given = jax.device_get(jitted(with_equipment)(fresh, uniform))
    cells = {
        name: np.asarray(jitted(bitboard.to_cells)(bits)).T != 0
        for name, bits in given.board._asdict().items()
        if name != "values"
    }
    open_ = cells["blocks"] & cells["programs"] & ~cells["questions"]
    waiting = np.where(present(given.transmissions), TransmissionWord.CELL.get(given.transmissions), 99)
    content = np.asarray(CellWord.CONTENT.get(given.board.values))
    spawns = np.asarray(CellWord.SPAWN_COUNT.get(given.board.values))
    moved = np.flatnonzero(given.player.cell != fresh.player.cell)
    assert moved.size > GAMES // 2
    first = []
    for game in moved:
        cell = int(given.player.cell[game])
        blocks = [other for other in range(NUM_CELLS) if other in around(cell) and open_[game, other]]
        assert blocks
        first.append(spawns[game, blocks[0]])
        assert not cells["blocks"][game, cell]
        assert not cells["pickups"][game, cell]
        assert cell != given.exit[game]
        assert cell not in waiting[game]
        assert given.player.data_siphons[game] >= 1
    for game in range(GAMES):
        programs = content[game][cells["blocks"][game] & cells["programs"][game]]
        assert len(set(programs.tolist())) == len(programs)
        expected = [PROGRAMS[program].spawn_count for program in programs]
        assert spawns[game][cells["blocks"][game] & cells["programs"][game]].tolist() == expected
    # In proportion to the squares the mean is 5.4; it would be 3.9 if all were drawn alike.
    assert np.mean(first) == pytest.approx(5.4, abs=0.8)


class Shown(Counting):
    """Observations show the data siphons; a start may give some."""

    def observation(self, state: Any) -> Any:
        return jnp.zeros(PACKED_WORDS, jnp.uint32) + state.player.data_siphons.astype(jnp.uint32)


@pytest.mark.parametrize("later", [False, True], ids=["whole", "later"])
def test_only_new_games_of_the_share_get_equipment_and_show_it(later: bool) -> None:
    game: Any = Shown()
    env = EquippedStarts(LaterStarts(game, 0.5, 10, GROUP) if later else game, 1.0, 4)

    @jax.jit
    def play(key: Any, actions: Any) -> Any:
        _, first = env.reset_batch(jax.random.split(key, LANES))

        def step(states: EquippedGame, inputs: Any) -> Any:
            key, actions = inputs
            observations, states, *_, info = env.step_batch(jax.random.split(key, LANES), states, actions)
            return states, (observations[:, 0], states, info["equipped"])

        return first, jax.lax.scan(step, first, (jax.random.split(key, actions.shape[0]), actions))[1]

    # All games end in the second step and in the last one, when the share has come to 0.
    actions = jnp.array([STAY, END, STAY, STAY, END])[:, None].repeat(LANES, axis=1)
    first, (shown, states, equipped) = jax.device_get(play(jax.random.key(3), actions))
    assert not first.equipped.any()
    assert not equipped[1].any()
    # After half of the steps about half of the starts have equipment.
    assert 1 <= states.equipped[1].sum() <= LANES - 1
    for step in (2, 3, 4):
        np.testing.assert_array_equal(equipped[step], states.equipped[1])
    assert not states.equipped[4].any()
    games = states.game.game if later else states.game
    siphons = games.player.data_siphons
    assert siphons[1].max() >= 1
    np.testing.assert_array_equal(siphons[1][~states.equipped[1]], 0)
    np.testing.assert_array_equal(shown[1][states.equipped[1]], siphons[1][states.equipped[1]])
    assert states.steps[-1].tolist() == [5] * LANES


@pytest.mark.parametrize("numbers", [(0.0, 1), (1.5, 1), (0.5, 0)])
def test_impossible_numbers_are_refused(numbers: tuple[float, int]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        EquippedStarts(HackMatrix(), *numbers)
