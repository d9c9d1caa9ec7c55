"""Speed of search and learning, and of the parts of a simulation."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from matrixrl.agents import selfplay
from matrixrl.config import MatmulConfig
from matrixrl.systems.matmul.program import INIT, START, MatmulProgram
from matrixrl.tracking.status import activity


@dataclass(frozen=True)
class CallTiming:
    """Seconds of repeated calls after the first.

    Attributes:
      compile_seconds: the first call, compilation included.
      median, fastest, slowest: seconds per call.
    """

    compile_seconds: float
    median: float
    fastest: float
    slowest: float


def measure(name: str, call: Callable[[], Any], repeats: int) -> CallTiming:
    """Times a jitted call; waits for the device each time.

    Args:
      name: shown meanwhile.
    """
    with activity(f"compiling {name}"):
        began = time.perf_counter()
        jax.block_until_ready(call())
        first = time.perf_counter() - began
    seconds = []
    with activity(f"measuring {name}"):
        for _ in range(repeats):
            began = time.perf_counter()
            jax.block_until_ready(call())
            seconds.append(time.perf_counter() - began)
    return CallTiming(first, statistics.median(seconds), min(seconds), max(seconds))


@dataclass(frozen=True)
class Speed:
    """Report of `matmul bench`.

    Attributes:
      search: one move of a batch of live games.
      simulations_per_second: batch x simulations over the median move.
      learn: one chunk of weight updates.
      samples_per_second: positions learned from per second, including generation of demonstrations.
      parts: seconds of the parts of one simulation over the batch, each timed alone.
      random_steps_per_second: the game alone, batched, with random actions.
    """

    search: CallTiming
    simulations_per_second: float
    learn: CallTiming
    samples_per_second: float
    parts: dict[str, float]
    random_steps_per_second: float


def measure_speed(config: MatmulConfig, repeats: int) -> Speed:
    """Measures a config's search and learning on live games from the target in random bases."""
    program = MatmulProgram(config)
    key = jax.random.key(config.seed)
    with program.first_calls.call(INIT):
        state = program.init(key)
    games = config.selfplay.batch_of_games
    with program.first_calls.call(START):
        batch = program.start_games(key, program.move_limits, jnp.int32(games), jnp.float32(1))
    params = state.params
    search = measure("the search", lambda: program.play_move(params, batch, key, jnp.float32(1)), repeats)

    chunk = config.tracking.log_interval
    carry = [params, state.opt_state]

    def learn() -> Any:
        carry[0], carry[1], metrics = program.learn(
            carry[0], carry[1], state.replay, key, jnp.int32(chunk), jnp.bool_(False)
        )
        return metrics

    learning = measure("learning", learn, repeats)
    params = carry[0]
    parts = _parts(program, params, batch, key, repeats)
    steps = 200
    random_play = measure("random play", lambda: _random_play(program, batch.state, key, steps), repeats)
    return Speed(
        search=search,
        simulations_per_second=games * config.search.num_simulations / search.median,
        learn=learning,
        samples_per_second=chunk * config.optimizer.batch_size / learning.median,
        parts={name: timing.median for name, timing in parts.items()},
        random_steps_per_second=steps * games / random_play.median,
    )


def _parts(
    program: MatmulProgram, params: Any, games: selfplay.Games, key: jax.Array, repeats: int
) -> dict[str, CallTiming]:
    """Measures the parts of one simulation of the whole batch, each as its own program."""
    agent, residual = program.agent, games.target
    network: Any = agent.network
    inputs = network.contractions if program.config.transforms else network.features
    features = jax.jit(lambda residual: inputs(residual))
    torso = jax.jit(lambda params, residual: network.apply(params, residual))
    expand = jax.jit(agent.expand)
    step = jax.jit(jax.vmap(program.game.step))
    tokens = expand(params, key, residual).tokens[:, 0]
    return {
        "features": measure("features", lambda: features(residual), repeats),
        "features_and_torso": measure("the torso", lambda: torso(params, residual), repeats),
        "expand": measure("the expansion of nodes", lambda: expand(params, key, residual), repeats),
        "game": measure("the game", lambda: step(games.state, tokens), repeats),
    }


@partial(jax.jit, static_argnums=(0, 3))
def _random_play(program: MatmulProgram, state: Any, key: jax.Array, steps: int) -> Any:
    """Plays `steps` random legal actions in every game, restarting finished ones."""
    codec = program.codec
    start = state
    vstep = jax.vmap(program.game.step)
    batch = state.residual.shape[0]

    def one(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        # Any non-zero vectors suffice: the first entry is 1, the others are random.
        vectors = []
        for subkey, length in zip(jax.random.split(key, 3), codec.shape, strict=True):
            bits = jax.random.bits(subkey, (batch, length), jnp.uint8)
            drawn = jnp.asarray(codec.ring.values)[jnp.mod(bits, codec.ring.base)]
            vectors.append(drawn.at[:, 0].set(1))
        state, reward = vstep(state, codec.encode(*vectors))
        over = state.terminated
        state = jax.tree.map(
            lambda fresh, old: jnp.where(over.reshape((-1,) + (1,) * (old.ndim - 1)), fresh, old),
            start,
            state,
        )
        return state, reward.sum()

    return jax.lax.scan(one, state, jax.random.split(key, steps))
