"""Conversion between games and schemes: the terms of solved games, and schemes as games for the
replay buffer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from matrixrl.agents.selfplay import Games
from matrixrl.schemes.scheme import Scheme
from matrixrl.systems.matmul.discoveries import to_standard_basis
from matrixrl.systems.matmul.program import MatmulProgram


def schemes_of(program: MatmulProgram, games: Games, ranks: Mapping[int, int]) -> dict[int, Scheme]:
    """Returns the terms that solved games played, in the standard basis; proves nothing by itself.

    Args:
      program: that played them.
      games: the batch.
      ranks: number of actions played, by lane, for the games that are solved.
    """
    if not ranks:
        return {}
    modulus = program.codec.ring.modulus
    decoded = program.codec.decode(games.actions.astype(jnp.int32))
    factors, inverse = jax.device_get((decoded, games.basis))
    found = {}
    for lane, rank in ranks.items():
        u, v, w = to_standard_basis(
            tuple(vectors[lane, :rank] for vectors in factors),  # pyright: ignore[reportArgumentType]
            tuple(matrix[lane] for matrix in inverse),  # pyright: ignore[reportArgumentType]
            modulus,
        )
        problem = program.config.game.problems[program.format_of(lane)]
        if len(program.targets) > 1:
            # Truncate to the smaller problem, whose padding is zero in the target, and drop terms
            # that become zero.
            a, b, c = problem.sides
            u, v, w = u[:, :a], v[:, :b], w[:, :c]
            needed = u.any(axis=1) & v.any(axis=1) & w.any(axis=1)
            u, v, w = u[needed], v[needed], w[needed]
        found[lane] = Scheme(problem, "F2" if modulus == 2 else "Z", u, v, w)
    return found


def games_of(program: MatmulProgram, schemes: Sequence[Scheme]) -> Games:
    """Returns finished games in the standard basis that play the terms of schemes, for
    `MatmulProgram.keep`.

    This converts schemes from other sources (an earlier run, a flip graph) to training data. Lane k
    plays problem k modulo their number, so each scheme takes the next lane of its problem; the
    other lanes stay empty.

    Args:
      program: program of the run whose replay buffer receives the games.
      schemes: correct ones, of the run's problems and ring (or integer ones for a run over F2),
        with no more terms than a game has actions; and no more schemes than a batch has lanes of
        their problem.

    Raises:
      ValueError: if a scheme does not fit, naming it.
    """
    codec, problems = program.codec, program.config.game.problems
    num_games, max_moves = program.config.selfplay.batch_of_games, program.config.game.moves
    actions = np.zeros((num_games, max_moves, codec.layout.num_tokens), np.uint16)
    num_moves = np.zeros(num_games, np.int32)
    used = dict.fromkeys(problems, 0)
    for scheme in schemes:
        problem = scheme.problem
        if problem not in used:
            raise ValueError(f"{scheme}: the run plays {', '.join(map(str, problems))}")
        lane = problems.index(problem) + used[problem] * len(problems)
        if lane >= num_games or scheme.rank > max_moves:
            raise ValueError(f"{scheme}: a batch has {num_games} games of at most {max_moves} actions")
        used[problem] += 1
        actions[lane, : scheme.rank] = _tokens(program, scheme)
        num_moves[lane] = scheme.rank
    return program.finished_games(jnp.asarray(actions), jnp.asarray(num_moves))


def _tokens(program: MatmulProgram, scheme: Scheme) -> np.ndarray:
    """Returns the actions of a scheme's terms, [rank, num_tokens]."""
    codec = program.codec
    factors = scheme.factors
    if codec.ring.modulus == 2:
        factors = tuple(np.mod(factor, 2) for factor in factors)
    elif scheme.ring == "F2" or scheme.max_coefficient > codec.ring.max_coefficient:
        raise ValueError(
            f"{scheme}: the run's factors have entries up to {codec.ring.max_coefficient} over Z"
        )
    u, v, w = (
        jnp.asarray(np.pad(factor, ((0, 0), (0, length - factor.shape[1]))), jnp.int32)
        for factor, length in zip(factors, codec.shape, strict=True)
    )
    return np.asarray(codec.encode(u, v, w))
