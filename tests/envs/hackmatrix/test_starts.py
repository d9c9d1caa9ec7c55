"""Later starts: what is kept, where games start, and what it depends on. The game itself is replaced by a small one
with the same state, in which action 1 completes a stage and action 2 ends the game.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from matrixrl.config import ConfigError
from matrixrl.envs.hackmatrix.env import HackMatrix
from matrixrl.envs.hackmatrix.observation import PACKED_WORDS
from matrixrl.envs.hackmatrix.starts import FIRST_STAGE, LaterStarts, StartedGame

LANES, GROUP = 8, 4
STAY, ADVANCE, END = 0, 1, 2
SHAPES: Any = jax.eval_shape(lambda: HackMatrix(packed=True).reset(jax.random.key(0)))


class Counting:
    """Credits count the steps since the start of the program; they identify a position."""

    num_actions = 3

    def reset_batch(self, keys: Any, params: Any = None) -> Any:
        blank = jax.tree.map(lambda leaf: jnp.zeros((keys.shape[0], *leaf.shape), leaf.dtype), SHAPES)
        observation, state = blank
        return observation, state._replace(stage=state.stage + 1)

    def step_batch(self, keys: Any, states: Any, actions: Any, params: Any = None) -> Any:
        advances, ended = actions == ADVANCE, actions == END
        stage = states.stage + advances
        credits = states.player.credits + 1
        played = states._replace(
            player=states.player._replace(credits=credits),
            stage=stage,
            time=states.time + 1,
            episode_return=states.episode_return + 1,
            history=states.history._replace(size=jnp.where(advances, 0, states.history.size + 1)),
        )
        _, fresh = self.reset_batch(keys)
        fresh = fresh._replace(player=fresh.player._replace(credits=credits))
        after = jax.tree.map(
            lambda a, b: jnp.where(ended.reshape((-1,) + (1,) * (a.ndim - 1)), a, b), fresh, played
        )
        shown = jnp.zeros((LANES, PACKED_WORDS), jnp.uint32) + after.player.credits[:, None].astype(
            jnp.uint32
        )
        info = {"stage_completed": advances, "stage": stage}
        return shown, after, jnp.ones(LANES), ended, jnp.zeros(LANES, bool), info


@partial(jax.jit, static_argnames=("share", "steps", "group"))
def play(key: Any, actions: Any, *, share: float = 1.0, steps: int = 1_000_000, group: int = GROUP) -> Any:
    """Plays rows of actions [T, B]; returns state, observation and info after each."""
    game: Any = Counting()
    env = LaterStarts(game, share, steps, group)
    _, states = env.reset_batch(jax.random.split(key, LANES))

    def step(states: StartedGame, inputs: Any) -> Any:
        key, actions = inputs
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(LANES))
        observation, states, _, _, _, info = env.step_batch(keys, states, actions)
        return states, (observation[:, 0], states, info["start_stage"])

    return jax.lax.scan(step, states, (jax.random.split(key, actions.shape[0]), actions))[1]


def rows(*columns: str) -> Any:
    """A column of letters for each lane: `.` stay, `a` advance, `e` end."""
    return jnp.array([[".ae".index(letter) for letter in row] for row in zip(*columns, strict=True)])


def quiet(**lanes: str) -> list[str]:
    length = max(map(len, lanes.values()))
    columns = ["." * length] * LANES
    for name, column in lanes.items():
        columns[int(name[1:])] = column.ljust(length, ".")
    return columns


def test_games_start_where_own_games_entered_a_later_stage() -> None:
    # Lane 0 enters stage 2 at step 1 and stage 3 at step 3; lane 1 of its group ends at step 5, lane 6 of another too.
    observations, states, start_stage = play(
        jax.random.key(0), rows(*quiet(l0="a.a..", l1="....e.", l6="....e."))
    )
    assert states.kept.filled[-1, 0].tolist() == [True, False, False, False, False, False]
    assert not states.kept.filled[-1, 1:].any()
    game = jax.tree.map(lambda leaf: np.asarray(leaf[4]), states.game)
    assert (game.stage[1], game.player.credits[1], game.time[1], game.episode_return[1]) == (3, 3, 0, 0)
    assert game.history.size[1] == 0
    assert observations[4, 1] == 3
    # Another group has no positions: its games start in stage 1.
    assert (game.stage[6], game.player.credits[6]) == (1, 5)
    assert states.start_stage[4].tolist() == [1, 3, 1, 1, 1, 1, 1, 1]
    assert start_stage[4].tolist() == [1] * LANES  # that of the episode which ended


def test_the_newest_position_of_a_stage_is_kept_and_a_later_game_reports_its_start() -> None:
    _, states, start_stage = play(jax.random.key(0), rows(*quiet(l0="aaeaae")))
    # The first game enters stage 3 at step 2; the second starts there and enters stages 4 and 5 at steps 4 and 5.
    assert states.kept.filled[-1, 0].tolist() == [True, True, True, False, False, False]
    assert states.kept.games.player.credits[-1, 0, :3].tolist() == [2, 3, 4]
    assert start_stage[:, 0].tolist() == [1, 1, 1, 3, 3, 3]


def test_the_share_falls_to_nothing_and_stages_are_drawn_evenly() -> None:
    ends = jnp.concatenate([jnp.full((5, LANES), ADVANCE), jnp.full((400, LANES), END)])
    _, states, _ = play(jax.random.key(1), ends, share=0.5, steps=400)
    later = np.asarray(states.start_stage[5:]) > 1
    assert later[:100].mean() == pytest.approx(0.5 * (1 - 55 / 400), abs=0.06)  # 800 draws, 0.017 each
    assert later[200:300].mean() == pytest.approx(0.5 * (1 - 255 / 400), abs=0.05)
    assert not later[396:].any()
    stages = np.asarray(states.start_stage[5:])[later]
    counts = np.bincount(stages, minlength=9)[FIRST_STAGE:]
    assert counts[:4].min() > 0.7 * counts[:4].max()
    assert counts[4:].sum() == 0  # stages 7 and 8 were never entered


def test_a_group_depends_on_no_other_lane() -> None:
    """So the number of devices changes nothing."""
    actions = jax.random.randint(jax.random.key(2), (60, LANES), 0, 3)
    changed = actions.at[:, GROUP:].set(END)
    ours, theirs = (play(jax.random.key(3), each)[1] for each in (actions, changed))
    assert int(ours.start_stage[:, :GROUP].max()) > 1
    for mine, yours in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(mine[:, :GROUP], yours[:, :GROUP])


@pytest.mark.parametrize("numbers", [(0.0, 1, 1), (1.5, 1, 1), (0.5, 0, 1), (0.5, 1, 0)])
def test_impossible_numbers_are_refused(numbers: tuple[float, int, int]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        LaterStarts(HackMatrix(), *numbers)
