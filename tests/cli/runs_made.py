"""Run folders with journals that are made directly, without training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matrixrl.config import PPOConfig, TrackingConfig, as_record
from matrixrl.config.environment import EnvironmentRunConfig
from matrixrl.systems.ppo.spec import SPEC
from matrixrl.tracking.events import ScalarRow
from matrixrl.tracking.run import Run, open_run
from matrixrl.tracking.spec import SystemSpec

MANY = dataclasses.replace(SPEC, local_metrics=("agent/*",))


def ppo_settings(**changes: Any) -> EnvironmentRunConfig:
    """Settings whose PPO values are named directly."""
    of_ppo = {item.name for item in dataclasses.fields(PPOConfig)}
    small = PPOConfig(num_envs=16, num_steps=10, total_timesteps=16_000, num_minibatches=2)
    ppo = dataclasses.replace(small, **{name: changes.pop(name) for name in set(changes) & of_ppo})
    return EnvironmentRunConfig(env="gymnax:CartPole-v1", ppo=ppo, **changes)


def open_made(
    runs_dir: Path,
    name: str,
    config: Any = None,
    system: SystemSpec | str = SPEC,
    about: Mapping[str, Any] | None = None,
) -> Run:
    record = {} if config is None else as_record(config)
    return open_run(
        TrackingConfig(runs_dir=runs_dir, run_name=name, console="quiet"),
        system=system,
        name_prefix="x",
        run_config={**record, **(about or {})},
    )


def make_run(
    runs_dir: Path,
    name: str,
    rows: Sequence[Mapping[str, float]],
    config: Any = None,
    system: SystemSpec | str = SPEC,
    status: str = "finished",
    about: Mapping[str, Any] | None = None,
    every: int = 10,
) -> Path:
    """A run with a row of the stream at every tenth step."""
    run = open_made(runs_dir, name, config, system, about)
    for row in rows:
        run.record([ScalarRow(run.clock.advance(every)[-1], dict(row))])
    run.finish(status)  # pyright: ignore[reportArgumentType]
    return run.directory


def many_rows(num_agents: int = 4, num_settings: int = 2, count: int = 5) -> list[dict[str, float]]:
    """Rows of a run of many agents: agent K has the return step + K."""
    from matrixrl.systems.ppo.agents_trainer import aggregated

    rows = []
    for index in range(count):
        own = [{"episode/return": float(index + agent)} for agent in range(num_agents)]
        row: dict[str, float] = dict(aggregated(own))
        per = num_agents // num_settings
        for setting in range(num_settings if num_settings > 1 else 0):
            part = own[setting * per : (setting + 1) * per]
            row |= {f"setting/{setting}/{name}": value for name, value in aggregated(part).items()}
        row |= {f"agent/{agent}/episode/return": own[agent]["episode/return"] for agent in range(num_agents)}
        rows.append(row)
    return rows
