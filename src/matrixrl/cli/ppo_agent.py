"""A trained agent for any environment, found by the name of its run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from matrixrl.cli import named_code
from matrixrl.cli.checkpoints import choose_checkpoint
from matrixrl.cli.ppo import with_whole_paths
from matrixrl.cli.resume import recorded_settings
from matrixrl.config.environment import EnvironmentRunConfig
from matrixrl.tracking.identity import find_run, has_checkpoint

if TYPE_CHECKING:
    # `--help` answers without JAX.
    from matrixrl.systems.ppo.agents import AgentSettings
    from matrixrl.systems.ppo.evaluation import Agent
    from matrixrl.systems.ppo.task import PPOTask


@dataclass(frozen=True)
class TrainedAgent:
    """The agent of a run, as a checkpoint holds it.

    Attributes:
      name: of the run.
      step: of the checkpoint: updates that it was trained for.
      config: of the run.
      task: its environment and network.
      agents: their parameters; one, unless the run trained several.
      settings: what distinguishes them, in the same order; empty for one.
    """

    name: str
    step: int
    config: EnvironmentRunConfig
    task: PPOTask
    agents: tuple[Agent, ...]
    settings: tuple[AgentSettings, ...] = ()

    @property
    def agent(self) -> Agent:
        """The first agent."""
        return self.agents[0]

    @property
    def where(self) -> str:
        """Run and training progress in words."""
        steps = self.step * self.config.ppo.batch_size
        return f"{self.name} after {self.step:,} updates ({steps:,} steps)"


def load_agent(
    command: str,
    reference: str,
    runs_dir: Path,
    step: int | None,
    best: bool,
    env: str | None = None,
    network: str | None = None,
) -> TrainedAgent:
    """Loads the agent of a run from the checkpoint of a step, the best or the newest; reports and
    skips damaged ones.

    Args:
      command: name at the start of the messages.
      reference: a run's name, its id, or `latest`.
      env, network: what the user names; None for what the run names, if that was named here before.

    Raises:
      ConfigError: if there is no such run, no complete checkpoint of it, or its code is not
        imported.
    """
    folder = find_run(runs_dir, reference, "ppo", flag=command, has_something=has_checkpoint)
    config = recorded_settings(EnvironmentRunConfig, folder)
    named = {flag for flag, value in (("--env", env), ("--network", network)) if value is not None}
    if network is not None:
        config = dataclasses.replace(config, network=dataclasses.replace(config.network, network=network))
    config = with_whole_paths(config if env is None else dataclasses.replace(config, env=env))
    named_code.require_named(f"{command} {folder.name}", folder, config, named)

    import jax

    from matrixrl.systems.ppo.agents import AgentsProgram
    from matrixrl.systems.ppo.environment import environment_task
    from matrixrl.systems.ppo.evaluation import Agent
    from matrixrl.systems.ppo.programs import program_of

    checkpoint = choose_checkpoint(command, folder, step=step, best=best)
    task = environment_task(config)
    program = program_of(dataclasses.replace(config, devices=1), task)
    shapes = program.template
    restored = checkpoint.restore({"params": shapes.params, "statistics": shapes.statistics})
    whole = Agent(restored["params"], restored["statistics"])
    settings = tuple(program.agents) if isinstance(program, AgentsProgram) else ()
    agents = tuple(jax.tree.map(lambda leaf, at=one.number: leaf[at], whole) for one in settings)
    if named:
        named_code.note(folder, config)
    return TrainedAgent(folder.name, checkpoint.step, config, task, agents or (whole,), settings)
