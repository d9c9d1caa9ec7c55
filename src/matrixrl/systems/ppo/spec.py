"""Specs of systems that train with PPO: columns, charts and console rows that all of them share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matrixrl.systems.spec import System, metrics_from
from matrixrl.tracking.events import Kind
from matrixrl.tracking.spec import BestMetric, ConsoleMetric, SystemSpec

EPISODE_COLUMNS: Mapping[str, Kind] = {"Global Episode": "int", "Update": "int"}
"""First columns of the episode table; the task's own follow."""

BEST_METRIC = BestMetric("mean return", "episode/return")
"""Mean over the episodes that ended in one chunk: the best single episode is a matter of luck."""

UPDATE = ConsoleMetric("train/update_step", "update", 8, 0)
RETURN = ConsoleMetric("episode/return", "return", 8, 1, always=True)

LEARNER_METRICS = (
    ConsoleMetric("episode/count", "episodes", 10, 9, transcript=False),
    ConsoleMetric("train/mean_reward", "reward", 9, 12),
    ConsoleMetric("train/total_loss", "loss", 9, 10),
    ConsoleMetric("train/entropy", "entropy", 9, 6),
    ConsoleMetric("train/approx_kl", "KL", 10, 7),
    ConsoleMetric("train/explained_variance", "explained", 11, 8, "fraction"),
    ConsoleMetric("train/learning_rate", "rate", 10, 11, transcript=False),
    ConsoleMetric("train/steps_per_second", "steps/s", 10, 5),
    ConsoleMetric("train/logging_overhead_pct", "tracking", 10, 13, "percent"),
)

CONSOLE_COLUMNS = (
    ConsoleMetric("Global Episode", "episode", 11, 0),
    ConsoleMetric("Update", "update", 9, 1),
    ConsoleMetric("Return", "return", 9, 3),
    ConsoleMetric("Steps", "steps", 7, 6),
)


def ppo_spec(
    name: str,
    project: str,
    columns: Mapping[str, Kind],
    *,
    charts: Sequence[str] = ("train/mean_reward", "episode/return", "train/entropy"),
    console_metrics: Sequence[ConsoleMetric | str] = (),
    console_columns: Sequence[ConsoleMetric | str] = (),
    best_metric: BestMetric | str | None = BEST_METRIC,
    aliases: Mapping[str, str] | None = None,
    local_metrics: Sequence[str] = (),
) -> SystemSpec:
    """Returns the spec of a system that trains with `systems.ppo`.

    Args:
      columns: of the episode table, after the number of the episode and of the update; those of
        `PPOTask.columns`.
      console_metrics: metrics on the console after the return.
      console_columns: formatting of further columns of the episode table.
      local_metrics: patterns of metrics that no tracker gets.
    """
    return SystemSpec(
        name=name,
        project=project,
        episode_columns={**EPISODE_COLUMNS, **columns},
        best_metric=best_metric,
        charts=tuple(charts),
        console_metrics=(UPDATE, RETURN, *console_metrics, *LEARNER_METRICS),
        console_columns=(*CONSOLE_COLUMNS, *console_columns),
        aliases=aliases or {},
        local_metrics=tuple(local_metrics),
    )


SPEC = ppo_spec("ppo", "ppo", {"Return": "float", "Steps": "int"})
"""Spec of runs on an environment without columns of its own."""


SYSTEM = System(SPEC, metrics=metrics_from("matrixrl.systems.ppo.metrics:environment_metrics"))
