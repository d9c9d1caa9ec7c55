"""Environments of Gymnasium in worker processes: what is found out about them, how they step and end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from matrixrl.envs.adapters.gymnasium import (
    GymnasiumEnvironment,
    WorkerFailedError,
    WorkerPool,
    episode_seeds,
)
from matrixrl.envs.adapters.gymnasium_worker import decode, encode

MODULE = "tests.envs.tiny_gymnasium"


def tiny(name: str) -> GymnasiumEnvironment:
    return GymnasiumEnvironment(f"{MODULE}:tiny/{name}-v0", f"gymnasium:{MODULE}:tiny/{name}-v0")


@pytest.fixture(scope="module")
def walk() -> GymnasiumEnvironment:
    return tiny("Walk")


@pytest.fixture
def pool(walk: GymnasiumEnvironment) -> Iterator[WorkerPool]:
    with walk.start(3, 2) as pool:
        yield pool


def started(pool: WorkerPool, seed: int = 0) -> np.ndarray:
    rows = np.arange(pool.num_envs)
    pool.arrays["seed"][:] = episode_seeds(seed, rows, 0 * rows)
    pool.reset()
    pool.arrays["seed"][:] = episode_seeds(seed, rows, 0 * rows + 1)
    return pool.arrays["observation"].copy()


def legal(pool: WorkerPool) -> np.ndarray:
    return pool.arrays["mask"].argmax(1)


def test_a_walk_is_described(walk: GymnasiumEnvironment) -> None:
    about = walk.description
    assert (about.actions.size, about.actions.is_continuous) == (2, False)
    assert (about.observation.shape, about.observation.dtype) == ((2,), np.float32)
    assert about.has_mask
    assert about.draws
    assert about.exact == "replay"
    assert about.scalars == {"reached": (["reached"], "b")}


def test_cart_pole_is_replayed_and_limited() -> None:
    env = GymnasiumEnvironment("CartPole-v1", "gymnasium:CartPole-v1", time_limit=7)
    assert env.exact == "replay"
    assert env.max_steps == 7
    assert env.actions.size == 2


def test_ways_to_resume_are_found_by_trying() -> None:
    assert tiny("Stateful").exact == "state"
    assert tiny("Forgetful").exact is None


def test_spaces_are_brought_to_the_learners_form() -> None:
    push, pixels = tiny("Push"), tiny("Pixels")
    assert push.actions.is_continuous
    assert (push.actions.low, push.actions.high) == (0, 10)
    assert push.observation_shapes.shape == (3,)  # a number, and one of two
    assert push.max_steps == 10
    assert (pixels.observation_shapes.shape, pixels.observation_shapes.dtype) == ((4, 9, 1), np.uint8)
    assert pixels.actions.size == 4  # two of two


def test_an_episode_that_ends_is_followed_by_the_next(pool: WorkerPool) -> None:
    first = started(pool)
    arrays = pool.arrays
    for step in range(1, 21):
        arrays["action"][:] = legal(pool)
        pool.step()
        reached = arrays["scalar"][:, 0] > 0
        assert np.array_equal(arrays["terminated"], reached)
        ended = arrays["terminated"] | arrays["truncated"]
        assert step < 20 or ended.any()  # episodes are cut off after 20 steps
        if ended.any():
            break
    row = int(ended.argmax())
    last, following = arrays["final"][row].copy(), arrays["observation"][row].copy()
    assert (last[0] == last[1]) == reached[row]
    # The next episode is that of the next seed.
    arrays["seed"][row] = episode_seeds(0, np.array([row]), np.array([1]))[0]
    pool.reset()
    assert np.array_equal(arrays["observation"][row], following)
    assert np.array_equal(started(pool), first)


def test_the_number_of_workers_changes_nothing(walk: GymnasiumEnvironment, pool: WorkerPool) -> None:
    with walk.start(3, 1) as alone:
        assert len(alone.pids) == 1
        assert len(pool.pids) == 2
        assert np.array_equal(started(alone), started(pool))
        for _ in range(10):
            for one in (alone, pool):
                one.arrays["action"][:] = legal(one)
                one.step()
            for name in ("observation", "reward", "mask", "terminated"):
                assert np.array_equal(alone.arrays[name], pool.arrays[name]), name


def test_actions_are_replayed(pool: WorkerPool) -> None:
    started(pool)
    actions = []
    for _ in range(3):
        actions.append(legal(pool)[2])
        pool.arrays["action"][:] = legal(pool)
        pool.step(again=False)
    expected = pool.arrays["observation"][2].copy(), pool.arrays["mask"][2].copy()
    started(pool)
    pool.arrays["seed"][:] = episode_seeds(0, np.arange(3), np.zeros(3, int))
    pool.replay(2, np.array(actions, np.int32))
    assert np.array_equal(pool.arrays["observation"][2], expected[0])
    assert np.array_equal(pool.arrays["mask"][2], expected[1])


def test_states_are_put_back() -> None:
    with tiny("Stateful").start(2, 2) as pool:
        started(pool)
        states = json.loads(json.dumps(pool.capture()))
        seen = []
        for _ in range(2):
            pool.put_back(states)
            pool.arrays["mask"][:] = True
            pool.arrays["action"][:] = [
                int(state["state"]["~dict"][0][1]["~tuple"][0] == 0) for state in states
            ]
            pool.step()
            seen.append([pool.arrays[name].copy() for name in ("observation", "reward", "terminated")])
        assert all(map(np.array_equal, *seen))


def test_a_picture_is_drawn(walk: GymnasiumEnvironment) -> None:
    with walk.start(1, 1, draws=True) as pool:
        started(pool)
        picture = pool.draw(0)
    assert picture.shape == (16, 144, 3)
    assert picture.min() == 0


def test_a_worker_that_dies_is_found(pool: WorkerPool) -> None:
    started(pool)
    os.kill(pool.pids[1], signal.SIGKILL)
    with pytest.raises(WorkerFailedError, match=r"the worker process \d+ .* was ended by SIGKILL"):
        pool.step()


def test_a_worker_ends_with_its_pool(walk: GymnasiumEnvironment) -> None:
    with walk.start(2, 2) as pool:
        pids = pool.pids
        assert all(map(psutil.pid_exists, pids))
    assert not any(map(psutil.pid_exists, pids))


PARENT = f"""
import os
from matrixrl.envs.adapters.gymnasium import GymnasiumEnvironment
env = GymnasiumEnvironment("{MODULE}:tiny/Sleeper-v0", "it")
os.environ["TINY_SLEEP"] = "1"
pool = env.start(2, 2)
pool.reset()
print(*pool.pids, flush=True)
pool.step()
"""


def test_no_worker_outlives_a_killed_trainer() -> None:
    """Neither one that waits nor one in the middle of a step that takes long."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = list(map(int, parent.stdout.readline().split()))
        assert len(pids) == 2
        assert all(map(psutil.pid_exists, pids))
        parent.kill()
    deadline = time.monotonic() + 60
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, pids))


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_state_is_restored_from_json() -> None:
    generator = np.random.default_rng(5)
    generator.normal(size=3)
    state = {
        "numbers": [1, 2.5, float("inf"), None, True, "text", b"bytes"],
        (1, 2): (np.float32(0.1), np.arange(6, dtype=np.int16).reshape(2, 3)),
        "random": generator,
    }
    text = json.dumps(encode(state))
    again = decode(json.loads(text))
    assert again["numbers"] == state["numbers"]
    scalar, array = again[1, 2]
    assert scalar == np.float32(0.1)
    assert scalar.dtype == np.float32
    assert np.array_equal(array, np.arange(6).reshape(2, 3))
    assert array.dtype == np.int16
    assert again["random"].normal() == generator.normal()
    with pytest.raises(TypeError, match="object cannot be stored"):
        encode([object()])
