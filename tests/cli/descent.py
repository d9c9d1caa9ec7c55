"""A trainer that takes no time to compile: gradient descent on x^2 / 2, through the command that all trainers share."""

from __future__ import annotations

import math
import os
import resource
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from json import loads
from pathlib import Path
from typing import Any

import numpy as np

from matrixrl.checkpoints.format import Checkpoint, Snapshot
from matrixrl.cli import session
from matrixrl.cli.main import COMMANDS, Command
from matrixrl.config import CheckpointConfig, OptimizerConfig, RunConfig, TrackingConfig
from matrixrl.systems.matmul.spec import EPISODE_COLUMNS as MATMUL_EPISODE_COLUMNS
from matrixrl.tracking.events import EpisodeRow, Event, ScalarRow, TableSnapshot
from matrixrl.tracking.recorder import Recorder
from matrixrl.training.loop import TrainingDivergedError

STEPS = 400


@dataclass(frozen=True, kw_only=True)
class DescentConfig(RunConfig):
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    json: bool = True


class Descent:
    """Gradient descent on x^2 / 2 from x = 1: it really diverges when the learning rate is above 2.

    Every five steps an episode ends, of two that are played at once the second one first.

    Args:
      poisoned: a NaN is put in once at these steps.
      stop_at: this process gets a SIGTERM at this step.
      signal_at: this process gets a SIGUSR1 at this step.
      pause: seconds between two steps.
      ballast: random bytes in each checkpoint.
    """

    def __init__(
        self,
        config: DescentConfig,
        poisoned: list[int],
        stop_at: int | None,
        ballast: int = 0,
        signal_at: int | None = None,
        pause: float = 0.0,
    ) -> None:
        self.signal_at, self.pause = signal_at, pause
        self.config, self.poisoned, self.stop_at = config, poisoned, stop_at
        self.ballast = np.random.default_rng(0).integers(0, 256, ballast, np.uint8)

    def init(self) -> tuple[int, np.float32]:
        return 0, np.float32(1)

    def resume(self, checkpoint: Checkpoint | None) -> tuple[int, np.float32]:
        if checkpoint is None:
            return self.init()
        return checkpoint.progress["done"], np.float32(checkpoint.progress["x"])

    def finished(self, state: tuple[int, np.float32]) -> bool:
        return state[0] == STEPS

    def needs_record(self, state: tuple[int, np.float32]) -> bool:
        return True

    def advance(self, state: tuple[int, np.float32]) -> tuple[tuple[int, np.float32], float]:
        done, x = state
        if done + 1 == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(self.pause)
        if done + 1 == self.signal_at:
            os.kill(os.getpid(), signal.SIGUSR1)
        if done + 1 in self.poisoned:
            self.poisoned.remove(done + 1)
            x = np.float32("nan")
        with np.errstate(over="ignore"):
            x = np.float32(x - np.float32(self.config.optimizer.learning_rate) * x)
        return (done + 1, x), float(x)

    def record(self, state: Any, outcome: float, run: Recorder) -> Any:
        tick = run.clock.tick()
        if not math.isfinite(outcome):
            raise TrainingDivergedError(f"loss is {outcome} at step {tick.step}: training diverged")
        events: list[Event] = [ScalarRow(tick, {"loss": outcome * outcome / 2})]
        if tick.step % 5 == 0:
            count = tick.step // 5
            number = count + 1 if count % 2 else count - 1
            values = dict.fromkeys(MATMUL_EPISODE_COLUMNS, 1)
            events.append(EpisodeRow(tick, values | {"Global Episode": number, "Solved": count % 3 == 0}))
        if tick.step % 100 == 0:
            events.append(TableSnapshot(tick))
        run.record(events)
        return state

    def snapshot(self, state: tuple[int, np.float32], step: int) -> Snapshot:
        return Snapshot(step, {"ballast": self.ballast}, {"done": state[0], "x": float(state[1])})


def descend(
    runs_dir: Path,
    rate: float = 0.1,
    poisoned: tuple[int, ...] = (),
    stop_at: int | None = None,
    ballast: int = 0,
    tracking: Mapping[str, Any] | None = None,
    json: bool = True,
    signal_at: int | None = None,
    pause: float = 0.0,
    trainer: type[Descent] = Descent,
    time: str | None = None,
    saves_start: bool = False,
    **checkpoint: Any,
) -> int:
    """Train the run `r`, as `matrixrl matmul train` does; its exit status."""
    names = {"run_name": "r", "console": "quiet", **(tracking or {})}
    config = DescentConfig(
        optimizer=OptimizerConfig(learning_rate=rate),
        tracking=TrackingConfig(runs_dir=runs_dir, **names),
        checkpoint=CheckpointConfig(**{"save_interval_chunks": 10, **checkpoint}),
        json=json,
        time=time,
    )
    bad = list(poisoned)
    return session.train(
        session.Session(
            system="matmul",
            name_prefix="descent",
            config=config,
            learning_rate="optimizer.learning_rate",
            make_trainer=lambda config, run: trainer(config, bad, stop_at, ballast, signal_at, pause),
            summarize=lambda trainer, state, seconds: f"x = {state[1]}",
            show=lambda outcome: print("the end"),
            result=lambda outcome: {"rate": outcome.trainer.config.optimizer.learning_rate},
            saves_start=saves_start,
        )
    )


def run(name: str, arguments: list[str]) -> int:
    """`matmul train` of a `matrixrl` that has this trainer: RUNS_DIR and the other arguments of `descend` as JSON."""
    return descend(Path(arguments[0]), **loads(arguments[1]))


def as_train_command() -> None:
    """Makes `matmul train` train this trainer in this process."""
    COMMANDS["matmul", "train"] = Command("tests.cli.descent", "DescentConfig", "", own_parser=True)


RESUMED = {"run_name": None, "resume_run": "r"}

if __name__ == "__main__":
    # A process of its own: RUNS_DIR, the other arguments of `descend` as JSON, and how large a file may become.
    if sys.argv[3:] > [""]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
    sys.exit(descend(Path(sys.argv[1]), **loads(sys.argv[2])))
