"""`matmul train` with a trainer that compiles nothing (`tests.cli.descent`), for what `matrixrl.train` adds to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matrixrl.cli import session
from matrixrl.cli.settings import read_settings
from matrixrl.devices.coordinator import SINGLE, Coordinator
from matrixrl.schemes.known import standard, strassen, winograd
from matrixrl.systems.matmul.discoveries import Discoveries
from matrixrl.tracking.recorder import Recorder
from tests.cli.descent import Descent, DescentConfig

OPTIONS: dict[str, Any] = {}
"""Further arguments of `Descent`: `stop_at`, `poisoned`, `pause`; with `finds` the trainer finds schemes."""


class Finder(Descent):
    """Finds known schemes of 2x2x2: the standard one at step 10, Strassen's at 20 and Winograd's at 30."""

    def __init__(self, directory: Path, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.discoveries = [Discoveries(directory, {})]

    def record(self, state: Any, outcome: float, run: Recorder) -> Any:
        state = super().record(state, outcome, run)
        schemes = {10: standard((2, 2, 2)), 20: strassen(), 30: winograd()}
        if (scheme := schemes.get(run.clock.step)) is not None:
            self.discoveries[0].check(scheme)
            self.discoveries[0].offer(scheme, {"step": run.clock.step})
        return state


def read_config(arguments: Sequence[str]) -> DescentConfig:
    presets = {"default": DescentConfig}
    return read_settings(DescentConfig, arguments, presets, "default", system="matmul", description="")


def train(config: DescentConfig, coordinator: Coordinator = SINGLE) -> int:
    options = {"poisoned": [], "stop_at": None, **OPTIONS}
    finds = options.pop("finds", False)

    def make_trainer(config: DescentConfig, run: Recorder) -> Descent:
        return Finder(run.directory, config, **options) if finds else Descent(config, **options)

    return session.train(
        session.Session(
            system="matmul",
            name_prefix="descent",
            config=config,
            learning_rate="optimizer.learning_rate",
            make_trainer=make_trainer,
            summarize=lambda trainer, state, seconds: f"x = {state[1]}",
            show=lambda outcome: print("the end"),
            result=lambda outcome: {},
        ),
        coordinator,
    )
