"""Random play on the plain environment and on the one that training uses, with the same keys and actions."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from matrixrl.envs.hackmatrix.env import EnvParams, HackMatrix, random_legal_action
from matrixrl.envs.hackmatrix.rules import REWARD_COMPONENTS
from matrixrl.envs.hackmatrix.statistics import CountedGame, CountedHackMatrix
from tests.envs.hackmatrix.lanes import LANES, QUICKLY, boost, compiled, stack, step_and_reset, unstack

NUM_STEPS, LIMIT = 60, 25
BOOSTED = (0, 20, 40)
"""Steps before which all players get programs and resources, so that every kind of action is played."""

COUNTED = CountedHackMatrix(HackMatrix(packed=True))


class Step(NamedTuple):
    """One step of all lanes: what each environment was given and returned."""

    action: Any
    plain: Any
    counted: Any


@functools.cache
def _counted_step() -> Any:
    def step(keys: jax.Array, states: CountedGame, actions: jax.Array) -> Any:
        return COUNTED.step_batch(keys, states, actions, EnvParams(LIMIT))

    return jax.jit(step, compiler_options=QUICKLY)


@functools.cache
def steps() -> list[Step]:
    """`NUM_STEPS` steps of `LANES` games with a time limit of `LIMIT`; arrays are NumPy's."""
    rng = np.random.default_rng(0)

    def keys() -> np.ndarray:
        return rng.integers(0, 2**32, (LANES, 2), dtype=np.uint32)

    _, states = compiled("reset")(keys())
    zero = jnp.zeros(LANES, jnp.int32)
    components = jnp.zeros((LANES, len(REWARD_COMPONENTS)))
    counted = CountedGame(states, components, zero, zero, zero, zero.astype(jnp.uint32))
    played = []
    for number in range(NUM_STEPS):
        if number in BOOSTED:
            games = unstack(states, LANES)
            for game in games:
                boost(game, rng)
            states = stack(games)
            counted = counted._replace(game=states)
        mask = compiled("legal_action_mask")(states)
        action = random_legal_action(jax.random.key(number), mask)
        # Now and then an action that may be invalid.
        action = jnp.where(rng.random(LANES) < 0.005, rng.integers(0, 28, LANES), action).astype(jnp.int32)
        key = keys()
        plain = step_and_reset(key, states, action, LIMIT)
        ours = _counted_step()(key, counted, action)
        states, counted = plain[1], ours[1]
        played.append(jax.device_get(Step(action, plain, ours)))
    return played
