"""A trained HackMatrix agent, found by the name of its run: what `evaluate` and `watch` begin
with.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from matrixrl.cli.checkpoints import choose_checkpoint
from matrixrl.cli.resume import recorded_settings
from matrixrl.config import ConfigError, HackmatrixConfig, require
from matrixrl.tracking.identity import find_run, has_checkpoint

if TYPE_CHECKING:
    # `--help` answers without JAX.
    from matrixrl.systems.hackmatrix.evaluation import NetworkPolicy
    from matrixrl.systems.hackmatrix.search import SearchPlayer


@dataclass(frozen=True)
class TrainedHackmatrixAgent:
    """The network of a run, as a checkpoint holds it.

    Attributes:
      name: of the run.
      step: of the checkpoint: updates that it was trained for.
      config: of the run.
      policy: its network with the checkpoint's parameters.
    """

    name: str
    step: int
    config: HackmatrixConfig
    policy: NetworkPolicy

    @property
    def where(self) -> str:
        """Run and training progress in words."""
        steps = self.step * self.config.ppo.batch_size
        return f"{self.name} after {self.step:,} updates ({steps:,} steps)"

    def search_player(self, num_simulations: int) -> SearchPlayer:
        """Returns the player that searches with the agent's network and its run's weight of
        values; imports JAX.
        """
        import jax.numpy as jnp

        from matrixrl.systems.hackmatrix.search import SearchPlayer

        return SearchPlayer(
            self.policy.network,
            self.policy.params,
            num_simulations,
            jnp.float32(self.config.ppo.gamma),
            jnp.float32(self.config.ppo.reward_scale),
            value_scale=jnp.float32(self.config.alphazero.value_scale),
        )


PRETRAINED = "pretrained"
"""Name of the agent that is shipped with the package."""

MAX_SIMULATIONS = 10_000


def check_simulations(num_simulations: int) -> None:
    """Refuses impossible values of `--num-simulations`.

    Raises:
      ConfigError: if it is out of range.
    """
    require(
        0 <= num_simulations <= MAX_SIMULATIONS,
        f"--num-simulations {num_simulations}: must be from 0 (no search) to {MAX_SIMULATIONS}",
    )


def load_agent(
    command: str, reference: str, runs_dir: Path, step: int | None, best: bool
) -> TrainedHackmatrixAgent:
    """Loads the agent of a run from the checkpoint of a step, the best or the newest; reports and
    skips damaged ones.

    Args:
      command: name at the start of the messages.
      reference: a run's name, its id, or `latest`; `pretrained` for the agent that is shipped with
        the package; or a file of `export-agent`.

    Raises:
      ConfigError: if there is no such run, no complete checkpoint of it, or this version of
        matrixrl cannot play it.
    """
    if is_stored(reference):
        return _stored_agent(command, reference, step, best)
    folder = find_run(runs_dir, reference, "hackmatrix", flag=command, has_something=has_checkpoint)
    config = recorded_settings(HackmatrixConfig, folder)

    import jax

    from matrixrl.envs.hackmatrix.env import HackMatrix
    from matrixrl.systems.hackmatrix.evaluation import NetworkPolicy
    from matrixrl.systems.hackmatrix.task import build_network

    checkpoint = choose_checkpoint(command, folder, step=step, best=best)
    played = checkpoint.record["config"].get("environment_version", HackMatrix.version)
    if played != HackMatrix.version:
        raise ConfigError(
            f"{command} {folder.name}: it was trained on version {played} of HackMatrix, this matrixrl plays version "
            f"{HackMatrix.version}; use the matrixrl that trained it"
        )
    network = build_network(config)
    key = jax.random.key(0)
    observation, _ = jax.eval_shape(HackMatrix(packed=True).reset, key)
    template = jax.eval_shape(lambda shown: network.init(key, shown[None]), observation)
    params = checkpoint.restore({"params": template})["params"]
    return TrainedHackmatrixAgent(folder.name, checkpoint.step, config, NetworkPolicy(network, params))


def is_stored(reference: str) -> bool:
    """Returns whether a reference names the shipped agent, or a file of `export-agent`."""
    return reference == PRETRAINED or reference.endswith(".npz")


def _stored_agent(command: str, reference: str, step: int | None, best: bool) -> TrainedHackmatrixAgent:
    """Loads the shipped agent, or that of a file."""
    require(
        step is None and not best,
        f"{command} {reference}: it is one agent without checkpoints; leave out "
        f"{'--best' if best else f'--step {step}'}",
    )
    from matrixrl.systems.hackmatrix.agent_file import pretrained_agent, read_agent

    try:
        stored = pretrained_agent() if reference == PRETRAINED else read_agent(Path(reference))
    except ConfigError as error:
        raise ConfigError(f"{command} {error}") from error
    name = PRETRAINED if reference == PRETRAINED else Path(reference).name
    return TrainedHackmatrixAgent(name, stored.step, stored.config, stored.policy)
