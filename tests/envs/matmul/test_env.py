"""The game in JAX against the plain referee, move by move."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from matrixrl.envs.matmul import referee
from matrixrl.envs.matmul.env import TensorGame, TensorState
from matrixrl.envs.matmul.factors import ActionCodec
from matrixrl.envs.matmul.tensors import F2, QUINARY, TERNARY, Ring, matmul_tensor, standard_factors
from tests.jitted import jitted

Size = tuple[int, int, int]
GAMES = [
    ((2, 2, 2), F2), ((2, 2, 2), TERNARY), ((2, 2, 2), QUINARY), ((2, 2, 3), F2), ((3, 3, 3), TERNARY),
    ((2, 3, 4), F2),
]  # fmt: skip


def named(value: object) -> str | None:
    if isinstance(value, Ring):
        return f"{value.name}{value.max_coefficient}"
    return "x".join(map(str, value)) if isinstance(value, tuple) else None


@cache
def build(shape: tuple[int, int, int], ring: Ring):
    codec = ActionCodec(shape, ring)
    return codec, TensorGame(codec), jax.jit(TensorGame(codec).step)


def shape_of(size: Size) -> tuple[int, int, int]:
    n, m, p = size
    return n * m, m * p, n * p


def random_action(rng: np.random.Generator, shape: tuple[int, ...], ring: Ring) -> referee.Action:
    """A canonical action; sparse ones and dense ones."""
    density = rng.choice([0.2, 0.5, 1.0])
    vectors = []
    for length in shape:
        vector = np.where(rng.random(length) < density, rng.choice(ring.values[1:], length), 0)
        if not vector.any():
            vector[rng.integers(length)] = ring.values[-1]
        vectors.append(vector)
    u, v, w = vectors
    return referee.canonical(u, v, w, ring.modulus)


def terms_of_a_solution(size: Size, ring: Ring) -> list[referee.Action]:
    return [referee.canonical(u, v, w, ring.modulus) for u, v, w in zip(*standard_factors(size), strict=True)]


def assert_same(state: TensorState, game: referee.Game) -> None:
    assert (np.asarray(state.residual) == game.residual).all()
    assert int(state.num_factors) == game.num_factors
    assert bool(state.terminated) == game.terminated
    assert bool(state.solved) == game.solved


@pytest.mark.parametrize(
    ("size", "ring"), [*GAMES, pytest.param((5, 5, 5), F2, marks=pytest.mark.slow)], ids=named
)
def test_games_equal_the_referees(size: Size, ring: Ring) -> None:
    """Random moves, and moves of the standard algorithm mixed in, so that some games are solved early."""
    shape = shape_of(size)
    codec, tensor_game, step = build(shape, ring)
    rng = np.random.default_rng(sum(shape))
    rank = len(terms_of_a_solution(size, ring))
    solved = 0
    for attempt in range(3 if rank > 100 else 6):
        exact = attempt % 2 == 0 and rank < 100
        limit = rank + 2 if exact else int(rng.integers(1, min(rank, 8) + 1))
        terms = terms_of_a_solution(size, ring)
        rng.shuffle(terms)
        state = jitted(tensor_game.reset)(jnp.asarray(matmul_tensor(size)), limit)
        game = referee.Game(referee.target(*size), limit, ring.modulus)
        assert_same(state, game)
        for _ in range(limit + 2):  # two moves beyond the end change nothing
            # In an exact game the terms run out when it is solved.
            action = terms.pop() if terms and exact else random_action(rng, shape, ring)
            tokens = jitted(codec.encode)(*map(np.asarray, action))
            state, reward = step(state, tokens)
            assert float(reward) == game.step(*action)
            assert_same(state, game)
        assert game.terminated
        solved += game.solved
    assert solved >= (0 if rank > 100 else 3)


def test_a_game_counts_its_moves_and_pays_for_what_is_left() -> None:
    codec, tensor_game, step = build((4, 4, 4), TERNARY)
    terms = terms_of_a_solution((2, 2, 2), TERNARY)
    state = jitted(tensor_game.reset)(jnp.asarray(matmul_tensor((2, 2, 2))), 7)
    rewards = []
    for action in terms[:7]:
        state, reward = step(state, jitted(codec.encode)(*map(np.asarray, action)))
        rewards.append(float(reward))
    # Seven of the eight products played: one of rank one is left.
    assert rewards == [-1.0] * 6 + [-2.0]
    assert bool(state.terminated)
    assert not bool(state.solved)


def test_a_game_with_nothing_to_do_is_over_at_once() -> None:
    _, tensor_game, _ = build((4, 4, 4), F2)
    state = jitted(tensor_game.reset)(jnp.zeros((4, 4, 4), jnp.int8), 5)
    assert bool(state.terminated)
    assert bool(state.solved)


def test_a_padded_target_is_played_alike() -> None:
    """A 1x2x2 target inside the shape of 2x2x2: same ranks left, same end."""
    codec, tensor_game, step = build((4, 4, 4), F2)
    padded = matmul_tensor((1, 2, 2), (4, 4, 4))
    u, v, w = standard_factors((1, 2, 2))
    state = jitted(tensor_game.reset)(jnp.asarray(padded), 8)
    game = referee.Game(padded.astype(np.int64), 8, 2)
    assert int(jitted(tensor_game.leftover_bound)(state.residual)) == referee.leftover_bound(
        referee.target(1, 2, 2), 2
    )
    for term in zip(u, v, w, strict=True):
        action = tuple(np.pad(vector, (0, 4 - len(vector))) for vector in term)
        state, reward = step(state, jitted(codec.encode)(*map(np.asarray, action)))
        assert float(reward) == game.step(*action) == -1.0  # pyright: ignore[reportArgumentType]
        assert_same(state, game)
    assert bool(state.solved)
    assert int(state.num_factors) == 4


@pytest.mark.parametrize(("size", "ring"), [((2, 2, 2), F2), ((2, 2, 2), TERNARY)], ids=named)
def test_leftover_bound_is_never_below_the_rank(size: Size, ring: Ring) -> None:
    """A sum of R terms: the bound is the referee's, at least the largest rank of a flattening, at most twelve slices."""
    shape = shape_of(size)
    _, tensor_game, _ = build(shape, ring)
    rng = np.random.default_rng(3)
    bound = jitted(tensor_game.leftover_bound)
    for count in range(5):
        tensor = sum(
            (referee.outer(*random_action(rng, shape, ring)) for _ in range(count)), np.zeros(shape, np.int64)
        )
        tensor = tensor % 2 if ring.modulus == 2 else tensor
        found = int(bound(jnp.asarray(tensor, jnp.int8)))
        assert found == referee.leftover_bound(tensor, ring.modulus)
        flat = np.moveaxis(tensor, 1, 0).reshape(shape[1], -1)
        rank = referee.rank_mod(flat, 2) if ring.modulus == 2 else referee.rational_rank(flat)
        assert rank <= found
        if count == 0:
            assert found == 0


def test_an_entry_that_leaves_int8_never_comes_back_to_zero() -> None:
    """Thirty-two times (2, 2, 2) takes away 256: a residual that wrapped would look as it did at the start."""
    codec, tensor_game, step = build((4, 4, 4), QUINARY)
    one = jnp.array([2, 0, 0, 0])
    tokens = jitted(codec.encode)(one, one, one)
    target = jnp.zeros((4, 4, 4), jnp.int8).at[0, 0, 0].set(8)
    state = jitted(tensor_game.reset)(target, 40)
    state, _ = step(state, tokens)
    assert bool(state.solved)
    state = jitted(tensor_game.reset)(-target, 40)
    for _ in range(33):
        state, _ = step(state, tokens)
        assert not bool(state.solved)
