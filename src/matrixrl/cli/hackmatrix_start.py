"""`matrixrl hackmatrix train --start-from`: training that continues from the parameters of an
agent.

The settings of a new run take over the agent's network when they are read, without JAX. Its
parameters are loaded before the run is opened. From its first checkpoint on, which is written
before the first update, a run does not depend on the agent any more.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from matrixrl.cli.hackmatrix_agent import PRETRAINED, is_stored, load_agent
from matrixrl.cli.resume import flag_value, recorded_settings
from matrixrl.config import ActorCriticConfig, ConfigError, HackmatrixConfig, TrackingConfig
from matrixrl.config.fields import flag_of
from matrixrl.devices.coordinator import Coordinator, broadcast_result
from matrixrl.tracking.identity import find_run, has_checkpoint

if TYPE_CHECKING:
    from matrixrl.tracking.recorder import Recorder

FLAG = "--start-from"
NAMES_AN_AGENT = "a run's name, its id, latest, pretrained, or a file of export-agent"

OF_START = ("precision", "orthogonal_init")
"""Settings of the network that parameters do not depend on once they exist."""


def adapted(
    preset: HackmatrixConfig, arguments: Sequence[str], values: Mapping[str, Any]
) -> HackmatrixConfig:
    """Returns the preset of a new run with the network, discount and reward scale of the agent that
    it starts from.

    Args:
      preset: settings before the command line and the settings file.
      arguments: the command line.
      values: of the settings file, by dotted name.

    Raises:
      ConfigError: if there is no such agent.
    """
    reference = flag_value(arguments, FLAG, NAMES_AN_AGENT) or values.get("start_from")
    if reference in (None, "None"):  # as the Python interface gives the default
        return preset
    folder = flag_value(arguments, "--runs-dir") or flag_value(arguments, "--checkpoint-dir")
    runs_dir = Path(folder or values.get("tracking.runs_dir") or TrackingConfig().runs_dir)
    agent = settings_of_agent(reference, runs_dir)
    network = dataclasses.replace(agent.network, precision=preset.network.precision)
    ppo = dataclasses.replace(preset.ppo, gamma=agent.ppo.gamma, reward_scale=agent.ppo.reward_scale)
    return dataclasses.replace(preset, network=network, ppo=ppo)


def checked(config: HackmatrixConfig) -> HackmatrixConfig:
    """Returns the settings of a new run with a reference that stays valid: the name of a run, or an
    absolute path. A resumed run is unchanged.

    Raises:
      ConfigError: if there is no such agent, or it has another network than the settings.
    """
    reference = config.start_from
    if reference is None or config.tracking.resume_run is not None:
        return config
    agent = settings_of_agent(reference, config.tracking.runs_dir)
    for item in dataclasses.fields(ActorCriticConfig):
        ours, theirs = getattr(config.network, item.name), getattr(agent.network, item.name)
        unused = item.name in OF_START or (item.name == "cell_dim" and config.network.torso != "grid")
        if ours != theirs and not unused:
            raise ConfigError(
                f"{flag_of(item.name)} {ours}: the network of {FLAG} {reference} has {theirs}; leave the setting out, "
                "or start from an agent with such a network"
            )
    if reference == PRETRAINED:
        return config
    if is_stored(reference):
        return dataclasses.replace(config, start_from=str(Path(reference).expanduser().resolve()))
    return dataclasses.replace(config, start_from=_run_of(reference, config.tracking.runs_dir).name)


def settings_of_agent(reference: str, runs_dir: Path) -> HackmatrixConfig:
    """Returns the settings of an agent, without its parameters.

    Raises:
      ConfigError: if there is no such agent.
    """
    if not is_stored(reference):
        return recorded_settings(HackmatrixConfig, _run_of(reference, runs_dir))
    from matrixrl.systems.hackmatrix.agent_file import read_agent_settings

    try:
        return read_agent_settings(None if reference == PRETRAINED else Path(reference).expanduser())
    except ConfigError as error:
        raise ConfigError(f"{FLAG} {error}") from error


def _run_of(reference: str, runs_dir: Path) -> Path:
    """Returns the folder of the run that a reference names."""
    return find_run(runs_dir, reference, "hackmatrix", flag=FLAG, has_something=has_checkpoint)


class LoadedAgent(NamedTuple):
    """An agent in words, and its content as a file of `export-agent` in full precision."""

    where: str
    file: bytes


class StartAgent:
    """The agent that a run starts from, loaded on the leader and broadcast to the other processes.

    Args:
      coordinator: of the processes that train the run.
    """

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._where = ""
        self._params: Any = None

    def prepare(self, config: HackmatrixConfig) -> None:
        """Loads the agent of a new run, before the run is opened.

        Raises:
          ConfigError: if it cannot be loaded.
        """
        if config.start_from is not None and config.tracking.resume_run is None:
            self._load(config)

    def params_for(self, config: HackmatrixConfig, run: Recorder) -> Callable[[], Any] | None:
        """Returns a function that returns the parameters to start with; None for random ones. Notes
        the agent in the journal of a new run.
        """
        if config.start_from is None:
            return None
        if self._where and not run.resumed:
            run.note(f"starts from {self._where}")

        def params() -> Any:
            if self._params is None:
                self._load(config)  # a run that was stopped before its first checkpoint
            loaded, self._params = self._params, None
            return loaded

        return params

    def _load(self, config: HackmatrixConfig) -> None:
        """Loads the agent on the leader; the other processes receive its bytes."""
        from matrixrl.systems.hackmatrix.agent_file import agent_bytes, parse_agent
        from matrixrl.training.parameters import params_sha256

        assert config.start_from is not None
        reference, runs_dir = config.start_from, config.tracking.runs_dir

        def load() -> LoadedAgent:
            agent = load_agent(FLAG, reference, runs_dir, None, False)
            where = f"{agent.where}, parameters {params_sha256(agent.policy.params)[:12]}"
            file = agent_bytes(
                run_name=agent.name,
                step=agent.step,
                config=agent.config,
                policy=agent.policy,
                precision="float32",
            )
            return LoadedAgent(where, file)

        def to_record(loaded: LoadedAgent) -> list[str]:
            return [loaded.where, base64.b64encode(loaded.file).decode()]

        def from_record(record: list[str]) -> LoadedAgent:
            return LoadedAgent(record[0], base64.b64decode(record[1]))

        loaded = broadcast_result(self._coordinator, load, to_record, from_record)
        self._where, self._params = loaded.where, parse_agent(loaded.file).policy.params
