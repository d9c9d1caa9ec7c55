"""Environments of one or two numbers with the interface of gymnax 1.0, written as a user writes them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Discrete(NamedTuple):
    n: int


class Box:
    def __init__(self, low: Any, high: Any, shape: tuple[int, ...] = (1,)) -> None:
        self.low, self.high, self.shape = low, high, shape


class State(NamedTuple):
    goal: jax.Array
    time: Any


class Masked:
    """Shows a number -1 or 1; action 0 pays its opposite, 1 pays it, 2 pays 2 and is legal at 1 only. Five steps."""

    num_actions = 3
    length = 5

    def observation_space(self, params: Any) -> Box:
        return Box(-1.0, 1.0, (1,))

    def action_space(self, params: Any) -> Discrete:
        return Discrete(3)

    def reset(self, key: jax.Array, params: Any) -> tuple[jax.Array, State]:
        state = State(jnp.where(jax.random.bernoulli(key), 1.0, -1.0), 0)
        return state.goal[None], state

    def legal_action_mask(self, state: State) -> jax.Array:
        return jnp.array([True, True, False]) | (state.goal > 0)

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Any) -> tuple[Any, ...]:
        reward = jnp.array([-state.goal, state.goal, 2.0])[action]
        truncated = state.time + 1 >= self.length
        _, fresh = self.reset(key, params)
        after = State(fresh.goal, state.time + 1)
        state = jax.tree.map(lambda a, b: jnp.where(truncated, a, b), fresh, after)
        info = {
            "final_observation": after.goal[None],
            "success": reward > 1,
            "time": after.time,
            "nested": {"score": reward * 2},
            "picture": jnp.zeros(3),
        }
        return state.goal[None], state, reward, False, truncated, info


class Continuous:
    """Shows a number; the reward is minus the squared distance of the action from it. The bounds are 0 and 4."""

    def observation_space(self, params: Any) -> Box:
        return Box(-np.inf, np.inf, (1,))

    def action_space(self, params: Any) -> Box:
        return Box(0.0, 4.0, (1,))

    def reset(self, key: jax.Array, params: Any) -> tuple[jax.Array, State]:
        state = State(jax.random.uniform(key, (), minval=0.5, maxval=3.5), 0)
        return 100 + 10 * state.goal[None], state

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Any) -> tuple[Any, ...]:
        reward = -((action[0] - state.goal) ** 2)
        start, fresh = self.reset(key, params)
        return start, fresh, 1000 * reward, True, False, {"clipped": action[0]}


class Doors:
    """A game of two moves, for searches. Before the door: open it (action 1) or take 0.1 and leave (action 0). Behind
    it: bet on a coin that falls after the bet (actions 0 and 1 pay 1 if right) or take 0.8 (action 2). Before the door
    action 2 is illegal and would pay 100. Best is to open the door and to take 0.8.
    """

    num_actions = 3

    def reset(self, key: jax.Array, params: Any = None) -> tuple[jax.Array, Room]:
        return jnp.array([1.0, 0.0]), Room(jnp.int32(0), jnp.int32(0), jnp.float32(0))

    def legal_action_mask(self, state: Room) -> jax.Array:
        return jnp.array([True, True, False]) | (state.inside > 0)

    def transition(self, key: jax.Array, state: Room, action: jax.Array) -> tuple[Room, Any, Any]:
        """The room after an action without a reset, the reward, and whether the game is over."""
        coin = jax.random.bernoulli(key).astype(jnp.int32)
        outside = jnp.array([0.1, 0.0, 100.0])[action]
        inside = jnp.where(action == 2, 0.8, jnp.where(action == coin, 1.0, 0.0))
        reward = jnp.where(state.inside > 0, inside, outside)
        over = (state.inside > 0) | (action != 1)
        return Room(jnp.int32(1), state.time + 1, state.total + reward), reward, over

    def step(self, key: jax.Array, state: Room, action: jax.Array, params: Any = None) -> tuple[Any, ...]:
        after, reward, over = self.transition(key, state, action)
        start, fresh = self.reset(key)
        observation = jnp.where(over, start, self.observe(after))
        episode = {
            "return": after.total,
            "steps": after.time,
            "highest_stage": after.time,
            "final_score": after.time,
            "win_rate": (after.total > 0.5).astype(jnp.float32),
        }
        info = {"final_observation": self.observe(after), "episode": episode}
        following = jax.tree.map(lambda a, b: jnp.where(over, a, b), fresh, after)
        return observation, following, reward, over, jnp.bool_(False), info

    def observe(self, state: Room) -> jax.Array:
        return jax.nn.one_hot(state.inside, 2)


class Room(NamedTuple):
    inside: Any
    time: Any
    total: Any
