"""Search over sampled candidates, on a game small enough to know its values by hand.

Count to 6 or more: each of at most three moves adds 0, 1 or 2 and costs 1; ending below 6 costs 10 more. From 0 the
only way is 2, 2, 2 with return -3; from 2 it is 2, 2 with -2; from 4 only 2 ends at once, from 5 both 1 and 2.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mctx
import numpy as np
import pytest

from matrixrl.search.sampled import (
    MASKED,
    Expansion,
    SearchResult,
    SearchTree,
    merge_repeated,
    search,
    search_with_tree,
)

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "sampled_search.json"
GOAL, MOVES = 6, 3
SIMULATIONS = 160


class Total(NamedTuple):
    total: Any
    moves: Any
    terminated: Any


def begin(*totals: int) -> Total:
    count = len(totals)
    return Total(jnp.array(totals), jnp.zeros(count, jnp.int32), jnp.zeros(count, bool))


def step(states: Total, actions: Any) -> tuple[Total, Any, Any]:
    live = ~states.terminated
    total = jnp.where(live, states.total + actions[:, 0], states.total)
    moves = jnp.where(live, states.moves + 1, states.moves)
    over = (total >= GOAL) | (moves >= MOVES)
    reward = jnp.where(live, -1.0 - jnp.where(over & (total < GOAL), 10.0, 0.0), 0.0)
    return Total(total, moves, over | states.terminated), reward, over | states.terminated


def expand(value: Any, key: Any, states: Total) -> Expansion:
    """All three moves, the last one twice; the repeat is merged. A uniform policy that knows nothing."""
    batch = states.total.shape[0]
    tokens = jnp.broadcast_to(jnp.array([0, 1, 2, 2])[None, :, None], (batch, 4, 1))
    return Expansion(
        tokens, merge_repeated(tokens, jnp.zeros((batch, 4))), jnp.full(batch, value, jnp.float32)
    )


# Of four states, so that one program of each algorithm serves all tests.
@partial(jax.jit, static_argnames="algorithm")
def _search(key: Any, states: Total, algorithm: Any, exploration: Any, value: Any) -> SearchResult:
    return search(
        value, key, states, expand=expand, step=step, num_simulations=SIMULATIONS, algorithm=algorithm,
        exploration=exploration,
    )  # fmt: skip


def run(
    key: Any, states: Total, *, algorithm: str = "gumbel", exploration: float = 0.0, value: float = 0.0
) -> SearchResult:
    """Passes every argument: `jax.jit` compiles another program where one is left to its default."""
    return _search(key, states, algorithm, exploration, value)


@partial(jax.jit, static_argnames="algorithm")
def run_with_tree(
    key: Any, states: Total, *, algorithm: Any, exploration: Any
) -> tuple[SearchResult, SearchTree]:
    return search_with_tree(
        0.0, key, states, expand=expand, step=step, num_simulations=SIMULATIONS, algorithm=algorithm,
        exploration=exploration,
    )  # fmt: skip


def test_repeated_candidates_are_masked_but_the_first() -> None:
    tokens = jnp.array([[[1, 2], [3, 4], [1, 2], [1, 3], [1, 2], [3, 4]]])
    merged = merge_repeated(tokens, jnp.arange(6.0)[None] - 6)
    assert merged[0].tolist() == [-6.0, -5.0, MASKED, -3.0, MASKED, MASKED]


@pytest.mark.parametrize("algorithm", ["gumbel", "puct"])
def test_a_search_that_knows_nothing_finds_the_best_moves(algorithm: str) -> None:
    found = run(jax.random.key(0), begin(0, 2, 4, 5), algorithm=algorithm)
    assert found.action[:3, 0].tolist() == [2, 2, 2]
    assert int(found.action[3, 0]) in (1, 2)
    assert found.weights.sum(-1) == pytest.approx(np.ones(4), abs=1e-5)
    assert (np.asarray(found.weights)[:, 3] == 0).all()  # the repeat takes no part
    assert found.tokens.shape == (4, 4, 1)


@pytest.mark.parametrize("algorithm", ["gumbel", "puct"])
def test_a_game_that_is_over_is_worth_nothing_whatever_the_network_says(algorithm: str) -> None:
    """Values of 1,000 at finished nodes would draw the search to them and lift the root above the best return."""
    states = begin(5, 5, 5, 5)._replace(moves=jnp.full(4, 2, jnp.int32))  # one move left: every child is over
    found = run(jax.random.key(1), states, algorithm=algorithm, value=1000.0)
    assert int(found.action[0, 0]) in (1, 2)
    weights = np.asarray(found.weights)[0]
    assert weights[0] < 0.2  # adding 0 loses 10
    # The root's own estimate counts once among all visits; children are worth -1 and -11.
    assert float(found.value[0]) < 1000.0 / (SIMULATIONS + 1) + 1


def test_without_exploration_the_search_depends_on_nothing_but_states_and_candidates() -> None:
    first, second = (run(jax.random.key(seed), begin(0, 2, 4, 5)) for seed in (0, 9))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


def test_exploration_is_traced_and_noise_changes_what_is_played() -> None:
    actions = {
        tuple(np.asarray(run(jax.random.key(seed), begin(0, 0, 0, 0), exploration=20.0).action)[:, 0].tolist())
        for seed in range(8)
    }  # fmt: skip
    assert len(actions) > 1


def test_the_batch_does_not_mix_its_lanes() -> None:
    together = run(jax.random.key(0), begin(0, 4, 5, 2))
    alone = run(jax.random.key(0), begin(4, 4, 4, 4))
    assert np.asarray(together.weights)[1] == pytest.approx(np.asarray(alone.weights)[0], abs=1e-6)
    assert float(together.value[1]) == pytest.approx(float(alone.value[0]), abs=1e-6)


def test_tree_equals_the_golden_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Visit counts and values of a whole small tree; the values are backed up once more here, by plain arithmetic."""
    trees: list[Any] = []
    policy = mctx.gumbel_muzero_policy

    def keeping(*arguments: Any, **settings: Any) -> Any:
        output = policy(*arguments, **settings)
        trees.append(output.search_tree)
        return output

    monkeypatch.setattr(mctx, "gumbel_muzero_policy", keeping)

    @jax.jit
    def search_tree(key: Any, states: Total) -> Any:
        search(
            0.0,
            key,
            states,
            expand=expand,
            step=step,
            num_simulations=12,
            algorithm="gumbel",
            exploration=0.0,
        )
        return trees.pop()

    tree = search_tree(jax.random.key(0), begin(0))
    found = {
        "visits": np.asarray(tree.node_visits)[0].tolist(),
        "values": np.round(np.asarray(tree.node_values, np.float64)[0], 4).tolist(),
        "parents": np.asarray(tree.parents)[0].tolist(),
        "actions": np.asarray(tree.action_from_parent)[0].tolist(),
        "totals": np.asarray(tree.embeddings.state.total)[0].tolist(),
    }
    golden = json.loads(GOLDEN.read_text())
    assert found["visits"] == golden["visits"]
    assert found["parents"] == golden["parents"]
    assert found["actions"] == golden["actions"]
    assert found["totals"] == golden["totals"]
    assert found["values"] == pytest.approx(golden["values"], abs=1e-3)
    for node, visits in enumerate(found["visits"]):
        total = 0.0  # the network's own estimate, which counts as one visit
        for child, parent in enumerate(found["parents"]):
            if parent == node:
                reward, over = reward_of(found, child)
                total += found["visits"][child] * (reward + (0.0 if over else found["values"][child]))
        assert found["values"][node] == pytest.approx(total / visits, abs=1e-3)


def reward_of(tree: dict[str, Any], node: int) -> tuple[float, bool]:
    """What the move into a node of the tree gave, and whether the game was over then."""
    depth, above = 0, node
    while above > 0:
        depth, above = depth + 1, tree["parents"][above]
    over = tree["totals"][node] >= GOAL or depth >= MOVES
    return (-11.0 if over and tree["totals"][node] < GOAL else -1.0), over


@pytest.mark.parametrize("algorithm", ["gumbel", "puct"])
def test_tree_of_the_first_state_is_complete_and_consistent(algorithm: Any) -> None:
    """Every simulation adds a visit to the root; children share out the visits of their parent."""
    key, states = jax.random.key(5), begin(2, 0, 4, 5)
    found, tree = run_with_tree(key, states, algorithm=algorithm, exploration=1.0)
    added = np.asarray(tree.visits) > 0
    parents, visits = np.asarray(tree.parent), np.asarray(tree.visits)
    assert visits[0] == SIMULATIONS + 1
    assert parents[0] == -1
    for node in np.flatnonzero(added)[1:]:
        assert 0 <= parents[node] < node
    for node in np.flatnonzero(added):
        below = visits[added & (parents == node)].sum()
        assert below in (visits[node] - 1, visits[node], 0)  # a node that is over has no children
    # The root's candidates with their probabilities: the repeat has none.
    assert np.asarray(tree.candidates)[:, 0].tolist() == [0, 1, 2, 2]
    assert np.asarray(tree.candidate_prior) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0], abs=1e-6)
    children = np.flatnonzero(added & (parents == 0))
    assert set(np.asarray(tree.tokens)[children, 0].tolist()) <= {0, 1, 2}
    assert np.asarray(tree.prior)[children] == pytest.approx(np.full(len(children), 1 / 3), abs=1e-6)
    # The same search as without the tree.
    alone = run(key, states, algorithm=algorithm, exploration=1.0)
    for with_tree, without in zip(found, alone, strict=True):
        assert np.array_equal(with_tree, without)
