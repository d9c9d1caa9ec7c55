"""Worker process that holds some environments of Gymnasium.

It runs as a script by its path, so that neither JAX nor the rest of this package is loaded: a
worker starts quickly and takes no accelerator. Requests come over a socket, each a header in JSON
and perhaps bytes. Observations, actions, rewards and flags are in memory that all workers and the
trainer share. The worker ends as soon as the trainer does: a thread waits for the end of a pipe
whose other end only the trainer holds.
"""

from __future__ import annotations

import base64
import json
import mmap
import os
import signal
import socket
import struct
import sys
import sysconfig
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

HEADER = struct.Struct("<II")
"""Sizes of a message: of its header in JSON, and of the bytes after it."""

MAX_JOINT_ACTIONS = 4096
"""Maximum number of combinations of a `MultiDiscrete` action that are one choice of the policy."""

STATE_METHODS = (("get_state", "set_state"), ("clone_state", "restore_state"))
"""Names of the methods by which an environment may offer its state."""

PROBE_STEPS = 24
"""Number of steps in which the ways to resume an environment are tried."""

HIDDEN_INFO = frozenset({"action_mask", "final_observation", "final_obs", "final_info"})
"""Entries of ``info`` that are no values of an episode."""

RESERVED_NAMES = frozenset(
    {"return", "steps", "count", "update", "global episode"}
    | {"id", "step", "attempt", "time", "superseded_by"}
)
"""Names of values that are counted by the trainer, in lower case; `info_` goes before them."""


class Fault(Exception):  # noqa: N818 - it is not an error of this program
    """An environment breaks its interface, or raised; the message is what comes after its name."""


def send(connection: socket.socket, header: Mapping[str, Any], content: bytes = b"") -> None:
    """Sends a message."""
    text = json.dumps(header).encode()
    connection.sendall(HEADER.pack(len(text), len(content)) + text + content)


def receive(connection: socket.socket) -> tuple[dict[str, Any], bytes]:
    """Receives a message.

    Raises:
      EOFError: if the other side is gone.
    """
    header, content = HEADER.unpack(_exactly(connection, HEADER.size))
    return json.loads(_exactly(connection, header)), _exactly(connection, content)


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        try:
            part = connection.recv(min(size, 1 << 20))
        except ConnectionError:
            part = b""
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def map_arrays(
    descriptor: int, layout: Sequence[tuple[str, str, Sequence[int]]]
) -> tuple[dict[str, np.ndarray], int]:
    """Maps the shared arrays.

    Args:
      descriptor: of the shared file; -1 to compute the size alone.
      layout: name, type and shape of each array.

    Returns:
      The arrays by name, and the size of the file.
    """
    offsets, size = [], 0
    for _, dtype, shape in layout:
        offsets.append(size)
        count = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        size += -(-count // 64) * 64  # whole cache lines
    if descriptor < 0:
        return {}, size
    memory = mmap.mmap(descriptor, max(size, 1))
    return {
        name: np.ndarray(tuple(shape), np.dtype(dtype), buffer=memory, offset=offset)
        for (name, dtype, shape), offset in zip(layout, offsets, strict=True)
    }, size


def described(error: BaseException) -> str:
    """Returns in one line how code of the user failed, with the line of it."""
    text = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__
    foreign = ("site-packages", __file__, sysconfig.get_path("stdlib"))
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(part in frame.filename for part in foreign)
    ]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"raised {reason}{where}"


# States as JSON -----------------------------------------------------------------------------------


def encode(value: Any) -> Any:
    """Returns a state as JSON values, from which `decode` restores it exactly.

    Raises:
      TypeError: if it holds something else than numbers, texts, arrays, generators of NumPy, and
        lists, tuples and dicts of them.
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return {"~float": value.hex()}
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufc":
        content = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        kind = "~array" if isinstance(value, np.ndarray) else "~scalar"
        return {kind: [value.dtype.str, list(value.shape), content]}
    if isinstance(value, bytes):
        return {"~bytes": base64.b64encode(value).decode()}
    if type(value) is list:
        return [encode(item) for item in value]
    if type(value) is tuple:
        return {"~tuple": [encode(item) for item in value]}
    if type(value) is dict:
        return {"~dict": [[encode(key), encode(item)] for key, item in value.items()]}
    if isinstance(value, np.random.Generator):
        return {"~generator": encode(value.bit_generator.state)}
    raise TypeError(f"a state that holds {type(value).__name__} cannot be stored")


def decode(value: Any) -> Any:
    """Returns what `encode` was given."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "~float":
        return float.fromhex(content)
    if kind in ("~array", "~scalar"):
        dtype, shape, text = content
        array = np.frombuffer(base64.b64decode(text), np.dtype(dtype)).reshape(shape).copy()
        return array if kind == "~array" else array[()]
    if kind == "~bytes":
        return base64.b64decode(content)
    if kind == "~tuple":
        return tuple(decode(item) for item in content)
    if kind == "~dict":
        return {decode(key): decode(item) for key, item in content}
    assert kind == "~generator"
    state = decode(content)
    generator = np.random.Generator(getattr(np.random, state["bit_generator"])())
    generator.bit_generator.state = state
    return generator


# One environment ----------------------------------------------------------------------------------


class Spaces:
    """Spaces of an environment, as the learner sees them.

    Args:
      env: of Gymnasium.

    Raises:
      Fault: if the learner has no policy for its actions, or its observations are not of numbers.
    """

    def __init__(self, env: Any) -> None:
        from gymnasium import spaces

        self._flatten: Any = None
        self.action, self._decode = self._of_actions(spaces, env.action_space)
        self.space = space = env.observation_space
        self.num_categories: int | None = None
        if isinstance(space, spaces.Discrete):
            self.num_categories, self._start = int(space.n), int(space.start)
            self.shape, self.dtype = (), np.dtype(np.int32)
        elif isinstance(space, spaces.Box):
            self.shape, self.dtype = tuple(map(int, space.shape)), _learner_type(space.dtype)
        elif getattr(space, "is_np_flattenable", False):
            flat: Any = spaces.flatten_space(space)
            self._flatten = spaces.flatten
            self.shape, self.dtype = tuple(map(int, flat.shape)), _learner_type(flat.dtype)
        else:
            raise Fault(f"expected observations that Gymnasium can flatten to one vector, came {space}")
        self._kind = self.dtype.kind

    @staticmethod
    def _of_actions(spaces: Any, space: Any) -> tuple[dict[str, Any], Any]:
        if isinstance(space, spaces.Discrete):
            start, dtype = int(space.start), space.dtype.type
            return {"size": int(space.n)}, lambda action: dtype(start + int(action))
        if isinstance(space, spaces.MultiDiscrete):
            sizes = tuple(map(int, space.nvec.reshape(-1)))
            count = int(np.prod(sizes, dtype=np.int64))
            if count > MAX_JOINT_ACTIONS:
                raise Fault(
                    f"expected at most {MAX_JOINT_ACTIONS:,} combinations of MultiDiscrete actions, came {count:,} of {space}"
                )
            shape, dtype, start = space.nvec.shape, space.dtype, space.start

            def chosen(action: Any) -> np.ndarray:
                parts = np.array(np.unravel_index(int(action), sizes), dtype)
                return parts.reshape(shape) + start

            return {"size": count}, chosen
        if isinstance(space, spaces.Box) and space.dtype.kind == "f":
            low, high = (np.asarray(b, np.float32).reshape(-1) for b in (space.low, space.high))
            if low.size < 1 or not np.all(low < high):
                raise Fault(f"expected continuous actions with low < high, came {space}")
            shape, dtype = tuple(space.shape), space.dtype
            bounded = np.isfinite(low) & np.isfinite(high)
            lower, upper = np.where(bounded, low, -1), np.where(bounded, high, 1)

            def clipped(action: Any) -> np.ndarray:
                # -1 and 1 are the bounds of a number that has two.
                scaled = 0.5 * (lower + upper) + 0.5 * (upper - lower) * np.clip(action, -1, 1)
                scaled = np.where(bounded, np.clip(scaled, lower, upper), np.clip(action, low, high))
                return scaled.astype(dtype).reshape(shape)

            bounds = {"low": _numbers(low), "high": _numbers(high)}
            return {"size": int(low.size), "shape": list(map(int, shape)), **bounds}, clipped
        raise Fault(f"expected Discrete, MultiDiscrete or continuous Box actions, came {space}")

    @property
    def is_continuous(self) -> bool:
        """True for actions of numbers."""
        return "low" in self.action

    def decoded(self, action: Any) -> Any:
        """Returns the policy's action as the environment takes it."""
        return self._decode(action)

    def observation(self, what: str, value: Any) -> np.ndarray:
        """Returns an observation as the learner takes it.

        Raises:
          Fault: if it has another shape or type than declared.
        """
        if self._flatten is not None:
            try:
                value = self._flatten(self.space, value)
            except Exception as error:
                raise Fault(
                    f"{what}: expected an observation of {self.space}, came {_came(value)}"
                ) from error
        try:
            found = np.asarray(value)
        except ValueError:
            found = np.empty(0, object)
        kind = found.dtype.kind
        fits = kind == self._kind or (kind in "biu" and self._kind in "if")
        if self.num_categories is not None:
            fits = kind in "iu"
        if found.shape != self.shape or not fits:
            raise Fault(
                f"{what}: expected an observation of {self.dtype}{_shape(self.shape)}, which observation_space declares, "
                f"came {_came(value)}"
            )
        if self.num_categories is not None:
            found = found - self._start
            if not 0 <= int(found) < self.num_categories:
                raise Fault(f"{what}: expected an observation of {self.space}, came {value}")
        return found.astype(self.dtype)


class Episode:
    """One environment, whose results are checked and brought to the form that the learner takes.

    Args:
      make: what creates the environment.

    Raises:
      Fault: if it cannot be created.
    """

    def __init__(self, make: Any) -> None:
        try:
            self.env = make()
        except Fault:
            raise
        except Exception as error:
            raise Fault(f"gymnasium.make {described(error)}") from error
        self.spaces = Spaces(self.env)
        self._own_mask = next(
            (m for n in ("action_masks", "action_mask") if callable(m := self.attribute(n))), None
        )
        if self.spaces.is_continuous:
            self._own_mask = None

    def attribute(self, name: str) -> Any:
        """Returns an attribute of the environment or of a wrapper; None if there is none."""
        try:
            return self.env.get_wrapper_attr(name)
        except AttributeError:
            return None

    def reset(self, seed: int) -> tuple[np.ndarray, Mapping[str, Any]]:
        """Starts an episode; returns observation and info."""
        try:
            results = self.env.reset(seed=int(seed))
        except Exception as error:
            raise Fault(f"reset(seed) {described(error)}") from error
        if not isinstance(results, tuple) or len(results) != 2 or not isinstance(results[1], Mapping):
            raise Fault(f"reset(seed): expected 2 values (observation, info), came {_came(results)}")
        return self.spaces.observation("reset(seed)", results[0]), results[1]

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, Mapping[str, Any]]:
        """Runs one step; an episode that ends in both ways terminated."""
        try:
            results = self.env.step(self.spaces.decoded(action))
        except Exception as error:
            raise Fault(f"step(action) {described(error)}") from error
        if not isinstance(results, tuple) or len(results) != 5 or not isinstance(results[4], Mapping):
            raise Fault(
                "step(action): expected 5 values (observation, reward, terminated, truncated, info), "
                f"came {_came(results)}"
            )
        observation = self.spaces.observation("step(action)", results[0])
        try:
            reward = float(results[1])
            terminated, truncated = bool(results[2]), bool(results[3])
        except (TypeError, ValueError) as error:
            raise Fault(
                f"step(action): expected numbers as reward, terminated and truncated, came {results[1:4]!r:.120}"
            ) from error
        if not np.isfinite(reward):
            raise Fault(f"step(action): expected finite rewards, came {reward}")
        if observation.dtype.kind == "f" and not np.isfinite(observation).all():
            raise Fault("step(action): expected finite observations, came one with NaN or infinity")
        return observation, reward, terminated, truncated and not terminated, results[4]

    def mask(self, info: Mapping[str, Any]) -> np.ndarray | None:
        """Returns the mask of legal actions, or None if the environment offers none."""
        if self.spaces.is_continuous:
            return None
        found = info.get("action_mask")
        if found is None and self._own_mask is not None:
            try:
                found = self._own_mask()
            except Exception as error:
                raise Fault(f"action_masks() {described(error)}") from error
        if found is None:
            return None
        mask = np.asarray(found)
        if mask.shape != (self.spaces.action["size"],) or mask.dtype.kind not in "biu":
            raise Fault(
                f"action_mask: expected a mask of shape ({self.spaces.action['size']},), one for each action, came {_came(found)}"
            )
        if not mask.any():
            raise Fault("action_mask: expected a legal action in every state, came a mask without one")
        return mask.astype(bool)

    def frame(self) -> np.ndarray:
        """Returns a picture, uint8 [H, W, 3]."""
        try:
            picture = self.env.render()
        except Exception as error:
            raise Fault(f"render {described(error)}") from error
        pixels = np.asarray(picture)
        if pixels.ndim != 3 or pixels.shape[-1] not in (3, 4) or pixels.dtype.kind not in "biuf":
            raise Fault(f"render: expected an image of shape (H, W, 3), came {_came(picture)}")
        return np.ascontiguousarray(pixels[..., :3].astype(np.uint8))

    # Its state ------------------------------------------------------------------------------------

    def _layers(self) -> Iterator[Any]:
        layer = self.env
        while True:
            yield layer
            if layer is layer.unwrapped:
                return
            layer = layer.env

    def state_methods(self) -> tuple[Any, Any] | None:
        """Returns the methods that get and set the state; None if there are none."""
        for names in STATE_METHODS:
            found = tuple(map(self.attribute, names))
            if all(map(callable, found)):
                return found  # pyright: ignore[reportReturnType]
        return None

    def capture(self) -> Any:
        """Returns state, elapsed steps of wrappers and random numbers as JSON values."""
        methods = self.state_methods()
        assert methods is not None
        base = self.env.unwrapped
        generator = getattr(base, "_np_random", None)
        return {
            "state": encode(methods[0]()),
            "elapsed": [encode(getattr(layer, "_elapsed_steps", None)) for layer in self._layers()],
            "random": encode(generator) if isinstance(generator, np.random.Generator) else None,
        }

    def put_back(self, captured: Mapping[str, Any]) -> None:
        """Restores what `capture` returned."""
        self.reset(0)  # wrappers refuse steps before it
        methods = self.state_methods()
        assert methods is not None
        if captured["random"] is not None:
            self.env.unwrapped._np_random = decode(captured["random"])
        methods[1](decode(captured["state"]))
        for layer, elapsed in zip(self._layers(), captured["elapsed"], strict=True):
            if elapsed is not None:
                layer._elapsed_steps = decode(elapsed)


# What it is like ----------------------------------------------------------------------------------


def scalars(info: Mapping[str, Any]) -> dict[str, tuple[list[str], str]]:
    """Returns the scalars in info by the name of their column: their path and kind (b, i or f)."""
    found: dict[str, tuple[list[str], str]] = {}

    def visit(path: list[str], value: Any) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                if isinstance(key, str):
                    visit([*path, key], inner)
            return
        if path[0] in HIDDEN_INFO:
            return
        kind = _scalar_kind(value)
        if kind is None:
            return
        parts = path[1:] if len(path) > 1 and path[0] == "episode" else path
        name = "_".join(parts).replace("\0", "") or "info"
        while name.lower() in RESERVED_NAMES | {other.lower() for other in found}:
            name = f"info_{name}"
        found[name] = (path, kind)

    for key, value in info.items():
        if isinstance(key, str):
            visit([key], value)
    return found


def _scalar_kind(value: Any) -> str | None:
    if not isinstance(value, bool | int | float | np.generic | np.ndarray):
        return None
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        return None
    return "i" if array.dtype.kind == "u" else array.dtype.kind


def scalar_at(info: Any, path: Sequence[str]) -> float:
    """Returns a scalar of info; 0 where it is absent."""
    for key in path:
        if not isinstance(info, Mapping) or key not in info:
            return 0.0
        info = info[key]
    return float(np.asarray(info).reshape(-1)[0]) if _scalar_kind(info) is not None else 0.0


class Probe:
    """Runs an environment with random actions, to see what it reports and how it resumes.

    Args:
      make: what creates an instance.
    """

    def __init__(self, make: Any) -> None:
        self._make = make
        self.first = Episode(make)
        self._random = np.random.default_rng(0)
        self.info: dict[str, tuple[list[str], str]] = {}
        self.has_mask = False

    def _action(self, mask: np.ndarray | None) -> Any:
        size = self.first.spaces.action["size"]
        if self.first.spaces.is_continuous:
            return self._random.uniform(-1, 1, size).astype(np.float32)
        return int(self._random.choice(np.flatnonzero(mask) if mask is not None else size))

    def _seen(self, episode: Episode, info: Mapping[str, Any]) -> np.ndarray | None:
        for name, (path, kind) in scalars(info).items():
            # A whole number may be a fraction at the next step.
            known = self.info.get(name, (path, kind))[1]
            self.info[name] = (path, max(known, kind, key="bif".index))
        mask = episode.mask(info)
        self.has_mask |= mask is not None
        return mask

    def play(
        self, episode: Episode, seed: int, actions: Sequence[Any] | None = None
    ) -> tuple[list[Any], Any]:
        """Plays an episode from its seeded reset, for some steps; returns actions and a trace."""
        observation, info = episode.reset(seed)
        trace: list[Any] = [observation]
        played: list[Any] = []
        mask = self._seen(episode, info)
        for number in range(PROBE_STEPS if actions is None else len(actions)):
            action = self._action(mask) if actions is None else actions[number]
            played.append(action)
            observation, reward, terminated, truncated, info = episode.step(action)
            mask = self._seen(episode, info)
            trace += [observation, reward, terminated, truncated, mask]
            if terminated or truncated:
                break
        return played, trace

    def replays(self) -> bool:
        """Tries whether the actions from the seeded reset give the same episode in an instance that
        has played nothing else.
        """
        self.play(self.first, 11)
        played, expected = self.play(self.first, 21)
        other = Episode(self._make)
        try:
            return _same(expected, self.play(other, 21, played)[1])
        except Fault:  # the actions are not legal in another episode
            return False
        finally:
            other.env.close()

    def restores(self) -> bool:
        """Tries whether a state that was stored gives the same steps in another instance."""
        if self.first.state_methods() is None:
            return False
        other = Episode(self._make)
        try:
            observation, info = self.first.reset(31)
            mask = self.first.mask(info)
            captured: Any = None
            other.reset(32)
            for number in range(PROBE_STEPS):
                if number == PROBE_STEPS // 4:
                    captured = json.loads(json.dumps(self.first.capture()))
                    other.put_back(captured)
                action = self._action(mask)
                observation, *rest, info = self.first.step(action)
                mask = self.first.mask(info)
                if captured is not None:
                    again, *others, info = other.step(action)
                    if not _same([observation, *rest, mask], [again, *others, other.mask(info)]):
                        return False
                if rest[1] or rest[2]:
                    break
            if captured is None:  # a short episode
                other.put_back(json.loads(json.dumps(self.first.capture())))
        except (Fault, TypeError, ValueError, AttributeError, KeyError, NotImplementedError, RuntimeError):
            return False
        finally:
            other.env.close()
        return True

    def report(self) -> dict[str, Any]:
        """Returns what the trainer needs to know, as JSON values."""
        self.play(self.first, 1)
        exact = "state" if self.restores() else "replay" if self.replays() else None
        spaces, env = self.first.spaces, self.first.env
        limit = getattr(env.spec, "max_episode_steps", None)
        return {
            "action": spaces.action,
            "shape": list(spaces.shape),
            "dtype": spaces.dtype.str,
            "num_categories": spaces.num_categories,
            "scalars": self.info,
            "has_mask": self.has_mask,
            "exact": exact,
            "max_steps": None if limit is None else int(limit),
            "draws": "rgb_array" in (env.metadata or {}).get("render_modes", ()),
        }


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, np.ndarray) or isinstance(second, np.ndarray):
        return np.array_equal(first, second)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_same, first, second))
    return type(first) is type(second) and first == second


def _learner_type(dtype: Any) -> np.dtype:
    """Returns the type in which the learner takes observations: float32, int32, or bytes."""
    dtype = np.dtype(dtype)
    if dtype == np.uint8:
        return dtype
    if dtype.kind not in "biuf":
        raise Fault(f"expected observations of numbers, came {dtype}")
    return np.dtype(np.float32 if dtype.kind == "f" else np.int32)


def _numbers(bounds: np.ndarray) -> list[float | None]:
    return [float(bound) if np.isfinite(bound) else None for bound in bounds]


def _shape(shape: Sequence[int]) -> str:
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"


def _came(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{len(value)} values"
    if isinstance(value, np.ndarray | np.generic):
        return f"{value.dtype}{_shape(value.shape)}"
    if isinstance(value, list):
        try:
            return _came(np.asarray(value))
        except ValueError:
            return "a list of unequal parts"
    return f"{type(value).__name__} {value!r:.60}"


# The process --------------------------------------------------------------------------------------


class Worker:
    """Holds a slice of the environments, and answers the trainer's requests.

    Args:
      connection: to the trainer.
      memory: descriptor of the shared file.
    """

    def __init__(self, connection: socket.socket, memory: int) -> None:
        self._connection = connection
        self._memory = memory
        self._episodes: list[Episode] = []
        self._first = 0
        self._paths: list[list[str]] = []
        self._infos: list[Mapping[str, Any]] = []
        self._arrays: dict[str, np.ndarray] = {}
        self._make: Any = None

    def run(self) -> None:
        """Answers requests until the trainer is gone."""
        while True:
            request, content = receive(self._connection)
            try:
                reply, content = getattr(self, f"on_{request['do']}")(request, content), b""
                if isinstance(reply, np.ndarray):
                    reply, content = {"shape": list(reply.shape)}, reply.tobytes()
            except Fault as fault:
                reply, content = {"fault": str(fault)}, b""
            send(self._connection, reply or {}, content)

    def on_make(self, request: Mapping[str, Any], content: bytes) -> dict[str, Any]:
        """Imports Gymnasium and finds the environment."""
        import gymnasium

        name = request["id"]
        named = {} if request["time_limit"] is None else {"max_episode_steps": request["time_limit"]}
        if request["draws"]:
            named["render_mode"] = "rgb_array"
        module, _, rest = name.rpartition(":")
        if module:
            import importlib

            try:
                importlib.import_module(module)
            except Exception as error:
                raise Fault(f"importing {module} {described(error)}") from error
        registered = gymnasium.registry
        known = rest in registered or any(other.rpartition("-v")[0] == rest for other in registered)
        if not known:
            import difflib

            near = difflib.get_close_matches(rest, list(registered), n=3) or list(registered)[:3]
            raise Fault(f"Gymnasium has no environment {rest}; it has, for example, {', '.join(near)}")
        self._make = lambda: gymnasium.make(rest, disable_env_checker=True, **named)
        return {}

    def on_probe(self, request: Mapping[str, Any], content: bytes) -> dict[str, Any]:
        """Runs an environment to see what it is like."""
        probe = Probe(self._make)
        try:
            return probe.report()
        finally:
            probe.first.env.close()

    def on_hold(self, request: Mapping[str, Any], content: bytes) -> None:
        """Maps the shared arrays, and creates the environments of this worker."""
        self._arrays, _ = map_arrays(self._memory, request["layout"])
        self._first, count = request["first"], request["count"]
        self._paths = request["paths"]
        self._episodes = [Episode(self._make) for _ in range(count)]
        self._infos = [{} for _ in range(count)]

    def _rows(self) -> Iterator[tuple[int, int, Episode]]:
        active = self._arrays["active"]
        for local, episode in enumerate(self._episodes):
            if active[self._first + local]:
                yield local, self._first + local, episode

    def _show(self, local: int, row: int, observation: np.ndarray, info: Mapping[str, Any]) -> None:
        self._arrays["observation"][row] = observation
        self._infos[local] = info
        mask = self._episodes[local].mask(info)
        self._arrays["mask"][row] = True if mask is None else mask

    def on_reset(self, request: Mapping[str, Any], content: bytes) -> None:
        """Starts episodes in the active environments, with their seeds."""
        for local, row, episode in self._rows():
            self._show(local, row, *episode.reset(self._arrays["seed"][row]))

    def on_step(self, request: Mapping[str, Any], content: bytes) -> None:
        """Runs one step of the active environments; with `again`, an episode that ends is followed
        by the next one.
        """
        arrays = self._arrays
        for local, row, episode in self._rows():
            observation, reward, terminated, truncated, info = episode.step(arrays["action"][row])
            arrays["reward"][row] = reward
            arrays["terminated"][row], arrays["truncated"][row] = terminated, truncated
            for column, path in enumerate(self._paths):
                arrays["scalar"][row, column] = scalar_at(info, path)
            if terminated or truncated:
                arrays["final"][row] = observation
                if not request["again"]:
                    continue
                observation, info = episode.reset(arrays["seed"][row])
            self._show(local, row, observation, info)

    def on_capture(self, request: Mapping[str, Any], content: bytes) -> dict[str, Any]:
        """Returns the states of all environments."""
        try:
            return {"states": [episode.capture() for episode in self._episodes]}
        except (TypeError, ValueError, AttributeError) as error:
            raise Fault(f"{STATE_METHODS[0][0]}() {described(error)}") from error

    def on_put_back(self, request: Mapping[str, Any], content: bytes) -> None:
        """Restores the states of all environments."""
        for episode, state in zip(self._episodes, request["states"], strict=True):
            try:
                episode.put_back(state)
            except (TypeError, ValueError, AttributeError, KeyError) as error:
                raise Fault(f"{STATE_METHODS[0][1]}(state) {described(error)}") from error

    def on_replay(self, request: Mapping[str, Any], content: bytes) -> None:
        """Starts one environment with its seed, and applies actions to it."""
        row = request["row"]
        local = row - self._first
        episode = self._episodes[local]
        observation, info = episode.reset(self._arrays["seed"][row])
        for action in np.frombuffer(content, request["dtype"]).reshape(request["shape"]):
            observation, _, terminated, truncated, info = episode.step(action)
            if terminated or truncated:
                break
        self._show(local, row, observation, info)

    def on_draw(self, request: Mapping[str, Any], content: bytes) -> np.ndarray:
        """Returns a picture of one environment."""
        return self._episodes[request["row"] - self._first].frame()


def _end_with(pipe: int) -> None:
    """Ends this process when the other end of a pipe is closed, also in the middle of a step."""
    os.read(pipe, 1)
    os._exit(0)


def main() -> None:
    """Runs the worker; the arguments are the numbers of three open files."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the trainer's to handle
    connection, pipe, memory = map(int, sys.argv[1:4])
    threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()
    try:
        Worker(socket.socket(fileno=connection), memory).run()
    except (EOFError, BrokenPipeError):
        os._exit(0)


if __name__ == "__main__":
    main()
