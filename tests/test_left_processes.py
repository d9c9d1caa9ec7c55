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


def test_processes_of_a_failed_test_are_ended_and_older_ones_are_not() -> None:
    process = sleeper()
    try:
        end_processes(time.time() + 2 * CLOCK + 60)
        assert process.poll() is None
        test = pytest_runtest_call()
        next(test)
        with pytest.raises(TimeoutError):
            test.throw(TimeoutError())
        assert process.poll() is not None
        assert process.stdout is not None
        assert process.stdout.closed
    finally:
        process.kill()
        process.wait()
