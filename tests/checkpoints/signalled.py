"""`matrixrl ARGUMENTS` in a process that sends itself a signal at an exact moment: MOMENT SIGNAL ARGUMENTS.

Moments: `advance:<phase>:<n>` just before the n-th chunk of a phase is started (before the first one compiles; a trainer
without phases has one, `chunk`), `write:<n>` in the thread that begins to write the n-th checkpoint, `write:last` at the
one that belongs to the end, and `finish:1` when the run begins to end.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from typing import Any

from matrixrl.checkpoints import format as checkpoint_format
from matrixrl.cli.main import main
from matrixrl.tracking.run import Run
from matrixrl.training import loop
from matrixrl.training.checkpointing import CheckpointManager

MOMENT, SIGNAL, *ARGUMENTS = sys.argv[1:]
passed: Counter[str] = Counter()


def passes(what: str) -> None:
    passed[what] += 1
    if f"{what}:{passed[what]}" == MOMENT:
        os.kill(os.getpid(), signal.Signals[SIGNAL])


run_loop, write, finish, save_last = (
    loop.run_loop,
    checkpoint_format.write,
    Run.finish,
    CheckpointManager.save_last,
)


def run_loop_signalled(trainer: Any, state: Any, *others: Any, **named: Any) -> Any:
    advance = trainer.advance

    def advance_signalled(state: Any) -> Any:
        phase = getattr(getattr(state, "progress", None), "phase", "chunk")
        passes(f"advance:{phase}")
        return advance(state)

    trainer.advance = advance_signalled
    return run_loop(trainer, state, *others, **named)


def write_signalled(*arguments: Any) -> None:
    passes("write")
    write(*arguments)


def save_last_signalled(*arguments: Any) -> None:
    if MOMENT == "write:last":
        passed["write"] = 0
        globals()["MOMENT"] = "write:1"
    save_last(*arguments)


def finish_signalled(*arguments: Any) -> Any:
    passes("finish")
    return finish(*arguments)


loop.run_loop = run_loop_signalled
checkpoint_format.write = write_signalled
CheckpointManager.save_last = save_last_signalled  # pyright: ignore[reportAttributeAccessIssue]
Run.finish = finish_signalled  # pyright: ignore[reportAttributeAccessIssue]
sys.exit(main(ARGUMENTS))
