"""Small environments of Gymnasium, registered when this module is imported."""

from __future__ import annotations

import os
import time
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces


class Walk(gymnasium.Env[Any, Any]):
    """A walk to a goal on a line of nine cells. A mask keeps the agent from walking into the walls."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}
    action_space: Any = spaces.Discrete(2, start=5)
    observation_space: Any = spaces.Box(0, 1, (2,), np.float32)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.cell, self.goal, self.time = 0, 0, 0

    def observe(self) -> Any:
        return np.array([self.cell, self.goal], np.float32) / 8

    def info(self) -> dict[str, Any]:
        return {
            "action_mask": np.array([self.cell > 0, self.cell < 8], np.int8),
            "reached": self.cell == self.goal,
        }

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.cell, self.goal = map(int, self.np_random.integers(0, 9, 2))
        self.time = 0
        return self.observe(), self.info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.info()["action_mask"][action - 5], "walked into a wall"
        self.cell += 2 * (int(action) - 5) - 1
        self.time += 1
        terminated = self.cell == self.goal
        return self.observe(), float(terminated) - 0.05, terminated, self.time >= 20, self.info()

    def render(self) -> Any:
        picture = np.full((16, 144, 3), 255, np.uint8)
        picture[:, 16 * self.cell : 16 * self.cell + 16] = 0
        return picture


class Stateful(Walk):
    """Depends on the episodes before, which no seed gives back, and offers its state."""

    played = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.played += 1
        self.goal = (self.goal + self.played) % 9
        return self.observe(), self.info()

    def get_state(self) -> dict[str, Any]:
        return {
            "walk": (self.cell, np.int64(self.goal)),
            "time": np.array([self.time]),
            "played": self.played,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        (self.cell, self.goal), self.time = state["walk"], int(state["time"][0])
        self.played = state["played"]


class Forgetful(Walk):
    """Has chance that no seed gives back, and offers nothing. No two episodes look the same."""

    mark = 0.0

    def observe(self) -> Any:
        return np.array([self.cell / 8, self.mark], np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=int.from_bytes(os.urandom(4), "little"))
        self.mark = int.from_bytes(os.urandom(3), "little") / 2**24
        return self.observe(), self.info()


class Push(gymnasium.Env[Any, Any]):
    """A point that is pushed to 0, seen as a dict; actions are from 0 to 10."""

    action_space: Any = spaces.Box(0, 10, (1,), np.float32)
    observation_space: Any = spaces.Dict(
        {"where": spaces.Box(-np.inf, np.inf, (1,), np.float32), "side": spaces.Discrete(2)}
    )

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.where = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.observe(), {}

    def observe(self) -> Any:
        return {"where": self.where, "side": int(self.where[0] > 0)}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self.where = self.where + (action - 5) / 50
        return self.observe(), -abs(float(self.where[0])), False, False, {}


class Pixels(Walk):
    """A walk that is seen as an image of bytes, with two actions at once."""

    action_space: Any = spaces.MultiDiscrete([2, 2])
    observation_space: Any = spaces.Box(0, 255, (4, 9, 1), np.uint8)

    def observe(self) -> Any:
        image = np.zeros((4, 9, 1), np.uint8)
        image[0, self.cell], image[1, self.goal] = 255, 255
        return image

    def info(self) -> dict[str, Any]:
        return {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert action.shape == (2,)
        self.cell = int(np.clip(self.cell + action.sum() - 1, 0, 8))
        self.time += 1
        return self.observe(), float(self.cell == self.goal), self.cell == self.goal, self.time >= 20, {}


class Broken(Walk):
    """Breaks its interface in the way that is named, from the step that is named."""

    def __init__(self, how: str, after: int = 0, render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        self.how, self.after, self.count = how, after, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        if self.how == "reset":
            raise RuntimeError("no reset today")
        return super().reset(seed=seed)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        observation, reward, terminated, truncated, info = super().step(action)
        repaired = os.environ.get("TINY_REPAIRED") is not None
        if self.count <= self.after or repaired:
            return observation, reward, terminated, truncated, info
        if self.how == "raise":
            raise RuntimeError("the wheel\nfell off")
        if self.how == "exit":
            os._exit(7)
        if self.how == "nan":
            reward = float("nan")
        if self.how == "shape":
            observation = np.append(observation, np.float32(0))
        if self.how == "infinity":
            observation = observation + np.float32("inf")
        if self.how == "mask":
            info["action_mask"] = np.zeros(2, np.int8)
        return observation, reward, terminated, truncated, info


class Odd(Walk):
    """Has actions without a policy."""

    action_space: Any = spaces.MultiBinary(3)


class Sleeper(Walk):
    """Takes an hour for a step if it is asked to."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if os.environ.get("TINY_SLEEP"):
            time.sleep(3600)
        return super().step(action)


def register(name: str, entry: Any, limit: int | None = None, **named: Any) -> None:
    gymnasium.register(f"tiny/{name}-v0", entry, max_episode_steps=limit, kwargs=named)


register("Walk", Walk)
register("Stateful", Stateful)
register("Forgetful", Forgetful)
register("Push", Push, limit=10)
register("Pixels", Pixels)
register("Odd", Odd)
for kind in ("reset", "raise", "nan", "shape", "infinity", "mask"):
    register(f"Broken-{kind}", Broken, how=kind)
register("Late-raise", Broken, how="raise", after=100)
register("Late-exit", Broken, how="exit", after=100)
register("Sleeper", Sleeper)
