"""A test that fails leaves no process behind, as the next one would fail for it."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests.conftest import pytest_runtest_call
from tests.left_processes import CLOCK, end_processes


def sleeper() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-S", "-c", "import time; time.sleep(600)"], stdout=subprocess.PIPE, text=True
    )


def test_processes_of_a_failed_test_are_ended() -> None:
    started = list[subprocess.Popen[str]]()
    try:
        test = pytest_runtest_call()
        next(test)
        started.append(sleeper())
        with pytest.raises(TimeoutError):
            test.throw(TimeoutError())
        ended = started[0]
        assert ended.poll() is not None
        assert ended.stdout is not None
        assert ended.stdout.closed
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_an_older_process_stays() -> None:
    with sleeper() as process:
        end_processes(time.time() + 2 * CLOCK + 60)
        assert process.poll() is None
        process.kill()
