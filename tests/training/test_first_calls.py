from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from matrixrl.training.first_calls import FirstCalls, cancel_all


def test_a_call_waits_for_its_compilation_ahead() -> None:
    order: list[str] = []
    begun, go = threading.Event(), threading.Event()

    def compile_program() -> None:
        begun.set()
        go.wait(10)
        order.append("compiled")

    calls = FirstCalls()
    calls.compile_ahead({"self-play": compile_program})
    assert begun.wait(10)
    threading.Timer(0.05, go.set).start()
    assert calls.is_first("self-play")
    with calls.call("self-play"):
        order.append("called")
    assert order == ["compiled", "called"]
    assert not calls.is_first("self-play")


class Queue:
    """Two programs compiled ahead: the first is being compiled until `release`, the second is queued."""

    def __init__(self) -> None:
        self.calls = FirstCalls()
        self.compiled: list[str] = []
        self._begun, self._go = threading.Event(), threading.Event()
        self.calls.compile_ahead(
            {"first": self._compile_first, "second": lambda: self.compiled.append("second")}
        )
        assert self._begun.wait(10)

    def _compile_first(self) -> None:
        self._begun.set()
        self._go.wait(10)

    def release(self) -> None:
        self._go.set()
        with self.calls.call("first"):
            pass


def test_what_has_not_begun_is_compiled_by_its_call() -> None:
    queue = Queue()
    with queue.calls.call("second"):
        pass  # does not wait for the first
    queue.release()
    assert queue.compiled == []


def test_a_failed_compilation_leaves_the_error_to_the_call() -> None:
    def fails() -> None:
        raise RuntimeError("no memory")

    calls = FirstCalls()
    calls.compile_ahead({"self-play": fails})
    with pytest.raises(ValueError, match="the call's own"), calls.call("self-play"):
        raise ValueError("the call's own")


def test_the_end_of_a_run_drops_what_is_queued() -> None:
    queue = Queue()
    cancel_all()
    queue.release()
    assert queue.compiled == []


def test_the_process_does_not_wait_for_compilations_at_its_end() -> None:
    program = (
        "import threading\n"
        "from matrixrl.training.first_calls import FirstCalls, leave\n"
        "begun = threading.Event()\n"
        "FirstCalls().compile_ahead({'p': lambda: (begun.set(), threading.Event().wait())})\n"
        "begun.wait()\n"
        "print('the last line', end='')\n"
        "leave(3)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (3, "the last line")
