"""Which compiled programs a run on any environment needs."""

from __future__ import annotations

from matrixrl.config.environment import EnvironmentRunConfig
from matrixrl.envs.adapters.gymnasium import GymnasiumEnvironment
from matrixrl.systems.ppo.agents import AgentsProgram
from matrixrl.systems.ppo.host_program import HostProgram
from matrixrl.systems.ppo.program import PPOProgram
from matrixrl.systems.ppo.task import PPOTask


def program_of(config: EnvironmentRunConfig, task: PPOTask) -> PPOProgram | AgentsProgram:
    """Returns the programs of a run: of many agents, of environments in workers, or of one agent on
    the device.
    """
    if config.is_many:
        return AgentsProgram(config, task)
    if isinstance(task.env, GymnasiumEnvironment):
        return HostProgram(config, task)
    return PPOProgram(config, task)
