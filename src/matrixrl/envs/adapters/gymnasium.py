"""Environments of Gymnasium, in worker processes.

Gymnasium is imported by the workers alone (`gymnasium_worker.py`). This side starts them, learns
from one of them what the environment is like, and runs a batch of environments in lockstep:
actions, observations and rewards are in memory that all processes share, and a byte or two over a
socket starts a step and ends it. A worker that dies, or whose environment raises, is found at the
next request, and becomes one line.

An episode starts from a seed that is derived from the seed of the run, the number of the
environment and that of the episode, so the number of workers changes no result.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from matrixrl.envs.adapters import gymnasium_worker as protocol
from matrixrl.envs.adapters.gymnax import Actions, EnvironmentInterfaceError

GYMNASIUM_MISSING = "it needs gymnasium, which is not installed: pip install 'matrixrl[gymnasium]'"

EXIT_SECONDS = 2.0
"""Time in seconds for a worker to end by itself before it is killed."""

TYPES = {"b": jnp.bool_, "i": jnp.int32, "f": jnp.float32}

Exactness = Literal["state", "replay"] | None
"""How a resumed run gets its running episodes back: by their states, by replaying their actions
from the seeded reset, or not at all.
"""


class WorkerFailedError(EnvironmentInterfaceError):
    """A worker died, or its environment raised or broke the interface."""


@dataclass(frozen=True)
class Description:
    """What an environment is like, as a worker found it.

    Attributes:
      actions: one of several, or numbers.
      observation: shape and type, as the learner takes it.
      num_categories: number of values of an observation that is one of several; None for others.
      scalars: by name of the column, path in ``info`` and kind (b, i or f).
      has_mask: True if it offers masks of legal actions.
      exact: how a resumed run gets its running episodes back.
      max_steps: maximum number of steps of an episode; None if there is none.
      draws: True if it can draw itself.
    """

    actions: Actions
    observation: jax.ShapeDtypeStruct
    num_categories: int | None
    scalars: Mapping[str, tuple[list[str], str]]
    has_mask: bool
    exact: Exactness
    max_steps: int | None
    draws: bool


class GymnasiumEnvironment:
    """An environment of Gymnasium as a task knows it: its spaces, and what starts its workers.

    Args:
      identifier: registered name, or `module:name` where importing the module registers it.
      name: what the user calls it, for messages: the value of `--env`.
      time_limit: maximum number of steps of an episode; None for the environment's own.

    Raises:
      EnvironmentInterfaceError: if it is unknown, or breaks the interface.
    """

    keeps_final_observations = True
    can_be_limited = True

    def __init__(self, identifier: str, name: str, time_limit: int | None = None) -> None:
        if importlib.util.find_spec("gymnasium") is None:
            raise EnvironmentInterfaceError(f"--env {name}: {GYMNASIUM_MISSING}")
        self.identifier = identifier
        self.name = name
        self.time_limit = time_limit
        with _Process(self, draws=False) as process:
            self.description = _description(process.ask({"do": "probe"})[0])

    @property
    def default_params(self) -> None:
        """None: it has no parameters."""

    @property
    def actions(self) -> Actions:
        """Its actions."""
        return self.description.actions

    @property
    def num_actions(self) -> int:
        """Number of actions, or of the numbers of a continuous one."""
        return self.actions.size

    @property
    def observation_shapes(self) -> jax.ShapeDtypeStruct:
        """Shape and type of an observation."""
        return self.description.observation

    @property
    def num_discrete_observations(self) -> int | None:
        """Number of values of an observation that is one of several; None for others."""
        return self.description.num_categories

    @property
    def episode_values(self) -> dict[str, Any]:
        """Types of the values of an episode, by name."""
        own = {name: TYPES[kind] for name, (_, kind) in self.description.scalars.items()}
        return {"return": jnp.float32, "steps": jnp.int32, **own}

    @property
    def max_steps(self) -> int | None:
        """Maximum number of steps of an episode; None if there is none."""
        return self.description.max_steps

    @property
    def exact(self) -> Exactness:
        """How a resumed run gets its running episodes back."""
        return self.description.exact

    def limited(self, time_limit: Any) -> None:
        """Returns no parameters: the workers limit the episodes."""

    def start(self, num_envs: int, num_workers: int | None = None, draws: bool = False) -> WorkerPool:
        """Starts workers that hold a batch of environments.

        Args:
          num_workers: None for one per core.
          draws: True to create environments that can be drawn.

        Raises:
          EnvironmentInterfaceError: if the environments cannot be created.
        """
        return WorkerPool(self, num_envs, num_workers or cores(), draws)


def cores() -> int:
    """Returns the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def episode_seeds(seed: int, row: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """Derives the seeds of episodes, int64 [N], from the seed of a run, the numbers of the
    environments and those of their episodes.
    """
    return np.array(
        [
            np.random.SeedSequence((seed, int(one), int(number))).generate_state(1)[0] >> 1
            for one, number in zip(row, episode, strict=True)
        ],
        np.int64,
    )


class _Process:
    """A worker process, and the socket to it."""

    def __init__(self, env: GymnasiumEnvironment, draws: bool, memory: int | None = None) -> None:
        self._name = env.name
        ours, theirs = socket.socketpair()
        # The worker ends when this pipe does: with `close`, or with this process.
        pipe, self._lifeline = os.pipe()
        own_memory = _memory() if memory is None else None
        descriptor = memory if own_memory is None else own_memory
        assert descriptor is not None
        environment = {"OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu", **os.environ}
        folders = dict.fromkeys([*(part for part in sys.path if part), os.getcwd()])
        environment["PYTHONPATH"] = os.pathsep.join(folders)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", protocol.__file__, *map(str, (theirs.fileno(), pipe, descriptor))],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                pass_fds=(theirs.fileno(), pipe, descriptor),
            )
        finally:
            theirs.close()
            os.close(pipe)
            if own_memory is not None:
                os.close(own_memory)
        self._socket = ours
        self.close = weakref.finalize(self, _end, self._process, ours, self._lifeline)
        self.tell({"do": "make", "id": env.identifier, "time_limit": env.time_limit, "draws": draws})
        self._made = False

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Returns the descriptor of the socket, to wait for it."""
        return self._socket.fileno()

    def tell(self, request: Mapping[str, Any], content: bytes = b"") -> None:
        """Sends a request without waiting for its reply."""
        try:
            protocol.send(self._socket, request, content)
        except (BrokenPipeError, ConnectionError) as error:
            raise self._died() from error

    def hear(self) -> tuple[dict[str, Any], bytes]:
        """Receives the reply to the oldest request."""
        try:
            if not self._made:
                self._made = True
                self._checked(protocol.receive(self._socket))
            return self._checked(protocol.receive(self._socket))
        except (EOFError, ConnectionError) as error:
            raise self._died() from error

    def ask(self, request: Mapping[str, Any], content: bytes = b"") -> tuple[dict[str, Any], bytes]:
        """Sends a request, and returns the reply."""
        self.tell(request, content)
        return self.hear()

    def _checked(self, reply: tuple[dict[str, Any], bytes]) -> tuple[dict[str, Any], bytes]:
        if "fault" in reply[0]:
            raise WorkerFailedError(f"--env {self._name}: {reply[0]['fault']}")
        return reply

    def _died(self) -> WorkerFailedError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(EXIT_SECONDS)
        code = self._process.returncode
        how = "closed its socket" if code is None else f"ended with exit status {code}"
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                how = f"was ended by {signal.Signals(-code).name}"
        return WorkerFailedError(
            f"--env {self._name}: the worker process {self._process.pid} that holds its environments {how}"
        )


def _end(process: subprocess.Popen[bytes], connection: socket.socket, lifeline: int) -> None:
    """Ends a worker: it notices that the pipe is closed."""
    connection.close()
    os.close(lifeline)
    try:
        process.wait(EXIT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _memory() -> int:
    """Returns the descriptor of an empty file without a name, in memory where possible."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("matrixrl", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class WorkerPool:
    """Workers that hold a batch of environments, which step in lockstep.

    Attributes:
      num_envs: number of environments.
      arrays: shared with the workers, [B, ...]: `active`, `seed` and `action` are read by them,
        `observation`, `final`, `mask`, `reward`, `terminated`, `truncated` and `scalar` written.

    Args:
      env: the environment.
      num_workers: maximum number of processes.
      draws: True to create environments that can be drawn.

    Raises:
      EnvironmentInterfaceError: if the environments cannot be created.
    """

    def __init__(self, env: GymnasiumEnvironment, num_envs: int, num_workers: int, draws: bool) -> None:
        self.num_envs = num_envs
        about = env.description
        shape, actions = about.observation.shape, about.actions
        kind = np.dtype(about.observation.dtype).str
        size = 1 if actions.is_continuous else actions.size
        layout = [
            ("active", "|b1", [num_envs]),
            ("seed", "<i8", [num_envs]),
            ("action", "<f4", [num_envs, actions.size])
            if actions.is_continuous
            else ("action", "<i4", [num_envs]),
            ("observation", kind, [num_envs, *shape]),
            ("final", kind, [num_envs, *shape]),
            ("mask", "|b1", [num_envs, size]),
            ("reward", "<f8", [num_envs]),
            ("terminated", "|b1", [num_envs]),
            ("truncated", "|b1", [num_envs]),
            ("scalar", "<f8", [num_envs, len(about.scalars)]),
        ]
        self._processes: list[_Process] = []
        memory = _memory()
        try:
            os.ftruncate(memory, max(1, protocol.map_arrays(-1, layout)[1]))
            self.arrays = protocol.map_arrays(memory, layout)[0]
            self._slices = np.array_split(np.arange(num_envs), min(num_workers, num_envs))
            for _ in self._slices:
                self._processes.append(_Process(env, draws, memory))
        except BaseException:
            self.close()
            raise
        finally:
            os.close(memory)
        self.arrays["active"][:] = True
        self.arrays["mask"][:] = True
        paths = [path for path, _ in about.scalars.values()]
        try:
            self._all(
                {"do": "hold", "layout": layout, "first": int(rows[0]), "count": len(rows), "paths": paths}
                for rows in self._slices
            )
        except BaseException:
            self.close()
            raise

    @property
    def pids(self) -> list[int]:
        """Numbers of the processes."""
        return [process._process.pid for process in self._processes]

    def _all(self, requests: Iterator[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Sends a request to each worker, and waits for all replies.

        The first worker that fails ends the wait, so that its message is not hidden by another one
        that takes long.
        """
        for process, request in zip(self._processes, requests, strict=True):
            process.tell(request)
        replies: dict[_Process, dict[str, Any]] = {}
        waiting = list(self._processes)
        if len(waiting) == 1:
            return [waiting[0].hear()[0]]
        while waiting:
            for process in select.select(waiting, [], [])[0]:
                replies[process] = process.hear()[0]
                waiting.remove(process)
        return [replies[process] for process in self._processes]

    def _same_for_all(self, **request: Any) -> list[dict[str, Any]]:
        return self._all(request for _ in self._processes)

    def reset(self) -> None:
        """Starts episodes in the active environments, from `seed`."""
        self._same_for_all(do="reset")

    def step(self, again: bool = True) -> None:
        """Runs one step of the active environments, with `action`.

        Args:
          again: True to start the next episode, from `seed`, where one ends.
        """
        self._same_for_all(do="step", again=again)

    def capture(self) -> list[Any]:
        """Returns the states of all environments as JSON values."""
        return [state for reply in self._same_for_all(do="capture") for state in reply["states"]]

    def put_back(self, states: Sequence[Any]) -> None:
        """Restores what `capture` returned; observations and masks are not restored."""
        self._all({"do": "put_back", "states": [states[row] for row in rows]} for rows in self._slices)

    def replay(self, row: int, actions: np.ndarray) -> None:
        """Starts an episode of one environment from `seed`, and applies actions to it."""
        self._process_of(row).ask(
            {"do": "replay", "row": row, "dtype": actions.dtype.str, "shape": list(actions.shape)},
            np.ascontiguousarray(actions).tobytes(),
        )

    def draw(self, row: int) -> np.ndarray:
        """Returns a picture of one environment, uint8 [H, W, 3]."""
        reply, content = self._process_of(row).ask({"do": "draw", "row": row})
        return np.frombuffer(content, np.uint8).reshape(reply["shape"])

    def _process_of(self, row: int) -> _Process:
        return next(p for p, rows in zip(self._processes, self._slices, strict=True) if row in rows)

    def close(self) -> None:
        """Ends the workers."""
        for process in self._processes:
            process.close()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _description(record: Mapping[str, Any]) -> Description:
    action = record["action"]
    bounds = [
        np.array([infinite if number is None else number for number in action[name]], np.float32)
        for name, infinite in (("low", -np.inf), ("high", np.inf))
        if name in action
    ]
    return Description(
        Actions(action["size"], bool(bounds), tuple(action.get("shape", ())), *bounds),
        jax.ShapeDtypeStruct(tuple(record["shape"]), np.dtype(record["dtype"])),
        record["num_categories"],
        {name: (list(path), kind) for name, (path, kind) in record["scalars"].items()},
        record["has_mask"],
        record["exact"],
        record["max_steps"],
        record["draws"],
    )
