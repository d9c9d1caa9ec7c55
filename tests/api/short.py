"""`matmul train` with a trainer that compiles nothing (`tests.cli.descent`), for what `matrixrl.train` adds to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matrixrl.cli import session
from matrixrl.cli.settings import read_settings
from matrixrl.devices.coordinator import SINGLE, Coordinator
from tests.cli.descent import Descent, DescentConfig

OPTIONS: dict[str, Any] = {}
"""Further arguments of `Descent`: `stop_at`, `poisoned`, `pause`."""


def read_config(arguments: Sequence[str]) -> DescentConfig:
    presets = {"default": DescentConfig}
    return read_settings(DescentConfig, arguments, presets, "default", system="matmul", description="")


def train(config: DescentConfig, coordinator: Coordinator = SINGLE) -> int:
    options = {"poisoned": [], "stop_at": None, **OPTIONS}
    return session.train(
        session.Session(
            system="matmul",
            name_prefix="descent",
            config=config,
            learning_rate="optimizer.learning_rate",
            make_trainer=lambda config, run: Descent(config, **options),
            summarize=lambda trainer, state, seconds: f"x = {state[1]}",
            show=lambda outcome: print("the end"),
            result=lambda outcome: {},
        ),
        coordinator,
    )
