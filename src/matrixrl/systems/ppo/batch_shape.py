"""`--auto-tune`: search for the batch shape that this device steps fastest."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from matrixrl.config import ConfigError, PPOConfig
from matrixrl.systems.ppo.program import PPOProgram
from matrixrl.systems.ppo.task import PPORunConfig, PPOTask
from matrixrl.tracking.numbers import significant
from matrixrl.tracking.status import activity

REPEATS = 2
WORTHWHILE = 1.05
"""Minimum speed-up of a larger batch for further trials: it learns less from a step."""


def with_ppo(config: PPORunConfig, ppo: PPOConfig) -> PPORunConfig:
    """Returns a config with other settings of the learner."""
    changed: Any = config
    return dataclasses.replace(changed, ppo=ppo)


def shapes(config: PPORunConfig, backend: str) -> Iterator[tuple[int, int]]:
    """Yields batch shapes (environments, steps) to try, the config's own first.

    On a CPU the batch keeps its size, so that learning does not change; an accelerator needs more
    parallel environments, and gets four times as many each time.
    """
    num_envs, num_steps = config.ppo.num_envs, config.ppo.num_steps
    yield num_envs, num_steps
    if backend == "cpu":
        if num_envs % 2 == 0:
            yield num_envs // 2, num_steps * 2
        if num_steps % 2 == 0:
            yield num_envs * 2, num_steps // 2
        return
    while num_envs < 65_536:
        num_envs *= 4
        yield num_envs, num_steps


def measure(config: PPORunConfig, task: PPOTask) -> float | None:
    """Measures steps per second of rollout and update together, without compilation; None if the
    memory does not suffice.
    """
    try:
        program = PPOProgram(config, task)
        state = program.init(jax.random.key(config.seed))
        seconds = []
        for number in range(REPEATS + 1):
            began = time.perf_counter()
            state, updates = program.advance(
                state, jax.random.key(config.seed), jnp.int32(number), jnp.int32(1)
            )
            jax.block_until_ready((state, updates))
            seconds.append(time.perf_counter() - began)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None
    return config.ppo.batch_size / min(seconds[1:])


def best_shape(config: PPORunConfig, task: PPOTask, notify: Callable[[str], None]) -> tuple[int, int]:
    """Returns the fastest of `shapes`, reporting each measurement.

    Args:
      notify: prints a line.
    """
    backend = jax.default_backend()
    best, best_rate = (config.ppo.num_envs, config.ppo.num_steps), 0.0
    for num_envs, num_steps in shapes(config, backend):
        try:
            ppo = dataclasses.replace(config.ppo, num_envs=num_envs, num_steps=num_steps)
        except ConfigError:
            continue  # the run is shorter than this batch, or minibatches do not divide it
        name = f"--num-envs {num_envs} --num-steps {num_steps}"
        with activity(f"auto-tune  compiling and measuring {name}"):
            rate = measure(with_ppo(config, ppo), task)
        if rate is None:
            notify(f"auto-tune  {name}: more memory than this device has")
            break
        notify(f"auto-tune  {name}: {significant(rate)} steps/s")
        if rate > best_rate * (1.0 if backend == "cpu" else WORTHWHILE):
            best, best_rate = (num_envs, num_steps), rate
        elif backend != "cpu":
            break
    notify(f"auto-tune  chose --num-envs {best[0]} --num-steps {best[1]} on {jax.devices()[0].device_kind}")
    return best
