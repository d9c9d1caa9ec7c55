"""What is told about an episode, against sums over the plain environment's own words for the same actions."""

from __future__ import annotations

import jax
import numpy as np

from matrixrl.envs.hackmatrix.rules import ACTION_SIPHON, FIRST_PROGRAM_ACTION, NUM_ACTIONS, REWARD_COMPONENTS
from matrixrl.envs.hackmatrix.statistics import EPISODE_VALUES
from tests.envs.hackmatrix.counted import COUNTED, LIMIT, steps
from tests.envs.hackmatrix.lanes import LANES


def test_every_number_is_the_sum_over_the_episode_so_far() -> None:
    names = ("return", "steps", "action_moves", "action_siphons", "action_programs")
    names += tuple(f"reward_{name}" for name in REWARD_COMPONENTS)
    sums = {name: np.zeros(LANES) for name in names}
    used: list[set[int]] = [set() for _ in range(LANES)]
    most = 0
    for step in steps():
        action, info = step.action, step.plain[5]
        program = action >= FIRST_PROGRAM_ACTION
        added = {
            "return": step.plain[2],
            "steps": 1,
            "action_moves": action < ACTION_SIPHON,
            "action_siphons": action == ACTION_SIPHON,
            "action_programs": program,
            **{f"reward_{name}": info["reward_breakdown"][name] for name in REWARD_COMPONENTS},
        }
        sums = {name: total + added[name] for name, total in sums.items()}
        for lane in np.flatnonzero(program):
            used[lane].add(action[lane])
        expected = sums | {
            "highest_stage": info["stage"],
            "final_score": info["score"],
            "win_rate": info["won"],
            "programs_used": [len(each) for each in used],
        }
        told = step.counted[5]["episode"]
        assert set(told) == set(expected) == set(EPISODE_VALUES)
        for name, value in expected.items():
            np.testing.assert_allclose(told[name], value, rtol=1e-4, atol=1e-4, err_msg=name)
        most = max(most, *expected["programs_used"])
        over = step.plain[3] | step.plain[4]
        sums = {name: np.where(over, 0, total) for name, total in sums.items()}
        for lane in np.flatnonzero(over):
            used[lane] = set()
    assert most >= 5


def test_play_holds_what_the_sums_are_about() -> None:
    """Every kind of ending and of action came up, or the comparison would say little."""
    actions = np.stack([step.action for step in steps()])
    assert set(actions.ravel()) == set(range(NUM_ACTIONS))
    infos = [step.plain[5] for step in steps()]
    assert any(info["died"].any() for info in infos)
    assert any(info["invalid_action"].any() for info in infos)
    truncated = np.stack([step.plain[4] for step in steps()])
    assert truncated.any()
    lengths = np.stack([step.counted[5]["episode"]["steps"] for step in steps()])
    assert (lengths[truncated] == LIMIT).all()
    assert lengths.max() == LIMIT


def test_an_ended_episode_leaves_nothing_to_the_next() -> None:
    for step in steps():
        over = step.plain[3] | step.plain[4]
        for leaf in jax.tree.leaves(step.counted[1][1:]):
            assert (leaf[over] == 0).all()


def test_values_have_the_types_that_are_said() -> None:
    told = steps()[0].counted[5]["episode"]
    assert {name: value.dtype for name, value in told.items()} == {
        name: np.dtype(kind) for name, kind in EPISODE_VALUES.items()
    }


def test_components_add_up_to_the_return() -> None:
    for step in steps()[::10]:
        told = step.counted[5]["episode"]
        total = sum(told[f"reward_{name}"].astype(float) for name in REWARD_COMPONENTS)
        np.testing.assert_allclose(total, told["return"], rtol=1e-3, atol=1e-3)


def test_a_new_game_has_counted_nothing() -> None:
    _, state = jax.eval_shape(COUNTED.reset, jax.random.key(0))
    assert state.components.shape == (len(REWARD_COMPONENTS),)
    assert COUNTED.num_actions == NUM_ACTIONS
    assert COUNTED.default_params == COUNTED.game.default_params
