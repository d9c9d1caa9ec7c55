"""How fast HackMatrix steps: random legal play with mask, observation and automatic reset.

The measured program is one `lax.scan` of `vmap(env.step)`: each step draws a legal action from the
mask and writes the observation of every game, and if asked the last observation before an automatic
reset, into buffers of the loop, as a rollout would.
"""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp

from matrixrl.envs.hackmatrix.env import HackMatrix, random_legal_action
from matrixrl.tracking.status import activity


def measure(
    num_envs: int, seconds: float = 3.0, final_observation: bool = False, num_steps: int = 50
) -> dict[str, Any]:
    """Measures steps per second, compile seconds and bytes per environment at one batch size."""
    env = HackMatrix()

    def one_step(carry: Any, key: jax.Array) -> tuple[Any, Any]:
        states, kept = carry
        action_key, step_key = jax.random.split(key)
        masks = jax.vmap(env.legal_action_mask)(states)
        actions = random_legal_action(action_key, masks)
        keys = jax.random.split(step_key, num_envs)
        observations, states, rewards, terminated, truncated, info = jax.vmap(env.step)(keys, states, actions)
        done = terminated | truncated
        kept = (observations, info["final_observation"]) if final_observation else (observations,)
        return (states, kept), (rewards.sum(), done.sum())

    def rollout(carry: Any, key: jax.Array) -> tuple[Any, Any]:
        return jax.lax.scan(one_step, carry, jax.random.split(key, num_steps))

    key = jax.random.key(0)
    with activity("compiling the start of the games"):
        observations, states = jax.jit(jax.vmap(env.reset))(jax.random.split(key, num_envs))
    bytes_per_env = sum(leaf.nbytes for leaf in jax.tree.leaves(states)) / num_envs
    kept = (observations, jnp.zeros_like(observations)) if final_observation else (observations,)
    carry = (states, kept)

    with activity("compiling the rollout"):
        started = time.perf_counter()
        lowered = jax.jit(rollout, donate_argnums=0).lower(carry, key)
        compiled = lowered.compile()
    compile_seconds = time.perf_counter() - started

    carry, _ = compiled(carry, key)  # skip the first steps, in which all episodes are young
    jax.block_until_ready(carry)
    rates, cpu_rates, spent, finished, steps = [], [], 0.0, 0, 0
    while spent < seconds:
        key, use = jax.random.split(key)
        started, started_cpu = time.perf_counter(), time.process_time()
        carry, (_, dones) = compiled(carry, use)
        jax.block_until_ready(carry)
        elapsed = time.perf_counter() - started
        cpu_rates.append(num_envs * num_steps / (time.process_time() - started_cpu))
        spent += elapsed
        finished += int(dones.sum())
        steps += num_envs * num_steps
        rates.append(num_envs * num_steps / elapsed)
    return {
        "num_envs": num_envs,
        "steps_per_second": sorted(rates)[len(rates) // 2],
        # Per second of processor time: the speed of a core without competing work.
        "steps_per_cpu_second": sorted(cpu_rates)[len(cpu_rates) // 2],
        "episode_length": steps / max(finished, 1),
        "compile_seconds": compile_seconds,
        "bytes_per_env": bytes_per_env,
    }
