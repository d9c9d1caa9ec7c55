"""`matrixrl.load`: trained agents that act on observations."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from matrixrl.api.runs import Run, find_folder, run_location
from matrixrl.api.training import restored_process
from matrixrl.cli.agent_flags import check_choice
from matrixrl.cli.resume import recorded_settings, restore_run
from matrixrl.config import ConfigError, MatmulConfig, TrackingConfig
from matrixrl.tracking.identity import has_checkpoint, read_run_file

if TYPE_CHECKING:
    import numpy as np

    from matrixrl.agents.distributions import Distribution
    from matrixrl.schemes.scheme import Scheme

_COMMAND = "load()"
_WANDB = "wandb:"


class Agent(Protocol):
    """What `matrixrl.load` returns for runs on environments: `EnvironmentAgent`. `MatmulAgent`
    decomposes tensors instead.

    Example:
      >>> import matrixrl
      >>> agent = matrixrl.load("latest")
      >>> int(agent.act([0.0, 0.1, 0.0, 0.1])) in (0, 1)
      True
    """

    @property
    def name(self) -> str:
        """Name of the run."""
        ...

    @property
    def step(self) -> int:
        """Step of the checkpoint."""
        ...

    def act(self, observation: Any, mask: Any = None, greedy: bool = True, key: Any = None) -> Any:
        """Returns an action; see `EnvironmentAgent.act`."""
        ...

    def value(self, observation: Any) -> Any:
        """Returns the expected return; see `EnvironmentAgent.value`."""
        ...


class EnvironmentAgent:
    """A trained agent of a run of `ppo` or `hackmatrix`.

    Attributes:
      name: of the run.
      step: of the checkpoint.
      params: parameters of the network.

    Args:
      name: of the run.
      step: of the checkpoint.
      params: parameters of the network.
      shapes: shapes and types of an observation.
      mask_size: number of entries of a mask.
      apply: (params, observations [N, ...]) to policy outputs and values [N].
      distribution: of actions.
      to_environment: converts an action of the policy to one of the environment.

    Example:
      >>> import matrixrl
      >>> agent = matrixrl.load("latest")
      >>> type(agent).__name__
      'EnvironmentAgent'
    """

    def __init__(
        self,
        name: str,
        step: int,
        params: Any,
        shapes: Any,
        mask_size: int,
        apply: Callable[[Any, Any], tuple[Any, Any]],
        distribution: Distribution,
        to_environment: Callable[[Any], Any],
    ) -> None:
        import jax

        self.name, self.step, self.params = name, step, params
        self._shapes, self._mask_size = shapes, mask_size
        self._counter = itertools.count()

        def act(params: Any, observations: Any, legal: Any, keys: Any, greedy: bool) -> Any:
            policy = distribution.condition(apply(params, observations)[0], legal)
            chosen = distribution.mode(policy) if greedy else distribution.sample(keys, policy)
            return jax.vmap(to_environment)(chosen)

        self._act = jax.jit(act, static_argnums=4)
        self._value = jax.jit(lambda params, observations: apply(params, observations)[1])

    def act(self, observation: Any, mask: Any = None, greedy: bool = True, key: Any = None) -> np.ndarray:
        """Returns the action for an observation, or the actions for a batch of them.

        Args:
          observation: as the environment returns it, or a batch [N, ...] of them.
          mask: legal actions, bool [A] or [N, A]; None if all are legal. An agent that was trained
            with a mask needs it.
          greedy: True for the most probable action, False to sample one.
          key: random key of JAX, or a seed, for `greedy=False`; None continues a sequence that is
            the same for each loaded agent.

        Returns:
          The action as the environment takes it; a batch has a leading axis [N].

        Raises:
          ConfigError: if an observation or a mask has another shape, or no action is legal.

        Example:
          >>> import matrixrl
          >>> agent = matrixrl.load("latest")
          >>> agent.act([[0.0, 0.1, 0.0, 0.1]] * 3, greedy=False, key=7).shape
          (3,)
        """
        import jax
        import numpy as np

        observations, count = self._batch(observation)
        number = 1 if count is None else count
        legal = np.ones(self._mask_size, np.bool_) if mask is None else np.asarray(mask, np.bool_)
        wanted = (self._mask_size,)
        if legal.shape not in (wanted, (number, *wanted)):
            raise ConfigError(
                f"act(): mask of shape {legal.shape}: must be {wanted}, or {('N', *wanted)} for a batch"
            )
        legal = np.broadcast_to(legal, (number, *wanted))
        if not legal.any(axis=1).all():
            raise ConfigError("act(): mask without a legal action; allow at least one in each row")
        if key is None:
            key = jax.random.fold_in(jax.random.key(0), 0 if greedy else next(self._counter))
        elif isinstance(key, int | np.integer):
            key = jax.random.key(int(key))
        keys = jax.random.split(key, number)
        actions = np.asarray(self._act(self.params, observations, legal, keys, bool(greedy)))
        return actions[0] if count is None else actions

    def value(self, observation: Any) -> np.ndarray:
        """Returns the discounted return that the agent expects, in the scale of its rewards.

        Args:
          observation: as the environment returns it, or a batch [N, ...] of them.

        Returns:
          A number, or [N] for a batch.

        Raises:
          ConfigError: if an observation has another shape.

        Example:
          >>> import matrixrl
          >>> matrixrl.load("latest").value([0.0, 0.1, 0.0, 0.1]).shape
          ()
        """
        import numpy as np

        observations, count = self._batch(observation)
        values = np.asarray(self._value(self.params, observations))
        return values[0] if count is None else values

    def _batch(self, observation: Any) -> tuple[Any, int | None]:
        """Returns observations with a leading axis, and its size; None for a single one."""
        import jax
        import numpy as np

        shapes, structure = jax.tree.flatten(self._shapes)
        # A leaf may come as nested lists, which would be a tree of their own.
        try:
            leaves = [observation] if len(shapes) == 1 else structure.flatten_up_to(observation)
        except ValueError as error:
            raise ConfigError(f"act(): observation: must have the structure {structure}") from error
        if len(shapes) == 1 and structure != jax.tree.structure(0):
            leaves = structure.flatten_up_to(observation)
        arrays = [np.asarray(leaf) for leaf in leaves]
        single = all(array.shape == shape.shape for array, shape in zip(arrays, shapes, strict=True))
        batch = all(array.shape[1:] == shape.shape for array, shape in zip(arrays, shapes, strict=True))
        sizes = {array.shape[:1] for array in arrays}
        if not single and not (batch and len(sizes) == 1 and all(array.ndim for array in arrays)):
            came = ", ".join(str(array.shape) for array in arrays)
            expected = ", ".join(str(shape.shape) for shape in shapes)
            raise ConfigError(
                f"observation of shape {came}: {self.name} was trained on {expected}; a batch has one more axis in front"
            )
        arrays = [array.astype(shape.dtype) for array, shape in zip(arrays, shapes, strict=True)]
        if single:
            arrays = [array[None] for array in arrays]
        return structure.unflatten(arrays), None if single else len(arrays[0])

    def __repr__(self) -> str:
        return f"<agent of {self.name} at step {self.step:,}>"


class MatmulAgent:
    """A trained agent of a run of `matmul`: it decomposes tensors.

    Attributes:
      name: of the run.
      step: of the checkpoint.

    Example:
      >>> import matrixrl
      >>> matrixrl.load("latest").decompose(games=8)  # doctest: +SKIP
      Scheme(2x2x2, rank 7)
    """

    def __init__(self, name: str, config: MatmulConfig, checkpoint: Any) -> None:
        self.name, self.step = name, int(checkpoint.step)
        self._config, self._checkpoint = config, checkpoint

    def decompose(
        self, tensor: Any = None, *, games: int = 64, seed: int = 0, num_simulations: int | None = None
    ) -> Scheme | None:
        """Plays games without exploration on a tensor, and returns the best proved scheme.

        Args:
          tensor: an array of integers, a problem, or text as `--tensor` takes it, of the shape that
            the run was trained on; None for the run's own.
          games: number of games.
          seed: of the search.
          num_simulations: number of simulations per move; None for that of the run.

        Returns:
          The scheme of the lowest rank; None if no game was solved.

        Raises:
          ConfigError: if the tensor has another shape, or a number is out of range.

        Example:
          >>> import matrixrl
          >>> matrixrl.load("latest").decompose(games=8)  # doctest: +SKIP
          Scheme(2x2x2, rank 7)
        """
        from matrixrl.api.settings import matmul
        from matrixrl.systems.matmul.evaluation import evaluate, evaluation_config, restore_params
        from matrixrl.systems.matmul.program import MatmulProgram

        for name, value, least in (("games", games, 1), ("seed", seed, 0)):
            if value < least:
                raise ConfigError(f"decompose(): {name}={value}: must be {least} or more")
        if num_simulations is not None and num_simulations < 1:
            raise ConfigError(f"decompose(): num_simulations={num_simulations}: must be 1 or more")
        config = self._config
        if tensor is not None:
            own, ring = config.game, config.game.ring
            found: Any = matmul(tensor=tensor, ring=ring, step_limit=max(own.move_limits)).config
            if found.game.shape != own.shape:
                raise ConfigError(
                    f"decompose(): a tensor of shape {found.game.shape}: {self.name} was trained on {own.shape}"
                )
            game = dataclasses.replace(found.game, max_coefficient=own.max_coefficient)
            config = dataclasses.replace(config, game=game)
        with restored_process():
            program = MatmulProgram(evaluation_config(config, games, num_simulations))
            params = restore_params(program, self._checkpoint)
            found_schemes = [result.best for result in evaluate(program, params, games, seed)]
        return min((best for best in found_schemes if best is not None), key=lambda s: s.rank, default=None)

    def act(self, *_: Any, **__: Any) -> Any:
        """Raises an error: an agent of matmul decomposes tensors instead of acting on observations.

        Raises:
          ConfigError: always.

        Example:
          >>> import matrixrl
          >>> matrixrl.load("latest").act(None)  # doctest: +SKIP
          Traceback (most recent call last):
          matrixrl.config.fields.ConfigError: act(): ...
        """
        raise ConfigError(
            f"act(): {self.name} is a run of matmul, whose agent searches; use decompose(tensor)"
        )

    def value(self, *_: Any, **__: Any) -> Any:
        """Raises an error, as `act` does.

        Raises:
          ConfigError: always.

        Example:
          >>> import matrixrl
          >>> matrixrl.load("latest").value(None)  # doctest: +SKIP
          Traceback (most recent call last):
          matrixrl.config.fields.ConfigError: act(): ...
        """
        return self.act()

    def __repr__(self) -> str:
        return f"<matmul agent of {self.name} at step {self.step:,}>"


def load(
    run: str | os.PathLike[str] | Run,
    *,
    step: int | None = None,
    best: bool = False,
    number: int = 0,
    env: str | None = None,
    network: str | None = None,
    runs_dir: str | os.PathLike[str] | None = None,
) -> Any:
    """Loads a trained agent from a checkpoint.

    Code that only a run names is not imported: for a run that was copied or downloaded from
    elsewhere, name its environment and its network once.

    Args:
      run: a `Run`, a run folder, a name, an id, `latest`, or `wandb:entity/project/NAME` for a run
        whose checkpoints are artifacts on W&B (it is restored into `runs_dir` first).
      step: of the checkpoint; None for the newest.
      best: True for the checkpoint that is marked as the best.
      number: of the agent, in a run that trained several.
      env: environment, as of `matrixrl.ppo`; None for what the run names.
      network: own network, likewise.
      runs_dir: folder that holds one folder per run; default `runs`.

    Returns:
      An `EnvironmentAgent`, or a `MatmulAgent` for a run of matmul.

    Raises:
      ConfigError: if there is no such run or complete checkpoint, or code would be imported that
        the user has not named.

    Example:
      >>> import matrixrl
      >>> agent = matrixrl.load("latest")
      >>> agent.act([0.0, 0.1, 0.0, 0.1]).shape
      ()
    """
    check_choice(step, best)
    if isinstance(run, str) and run.startswith(_WANDB):
        reference, folder = _from_wandb(run, runs_dir, step, best)
    else:
        reference, folder = run_location(run, runs_dir)
    found = find_folder(reference, folder, flag=_COMMAND, has_something=has_checkpoint)
    system = str((read_run_file(found) or {}).get("system"))
    if system != "ppo" and (env is not None or network is not None):
        raise ConfigError(
            f"load(): {found.name} is a run of {system}, which names no code; leave out env and network"
        )
    if system != "ppo" and number:
        raise ConfigError(f"load(): number={number}: {found.name} has one agent")
    with restored_process():
        match system:
            case "ppo":
                return _environment_agent(found, step, best, number, env, network)
            case "hackmatrix":
                return _hackmatrix_agent(found, step, best)
            case "matmul":
                return _matmul_agent(found, step, best)
    raise ConfigError(f"load(): {found.name} is a run of {system}; must be one of ppo, hackmatrix, matmul")


def _from_wandb(
    reference: str, runs_dir: str | os.PathLike[str] | None, step: int | None, best: bool
) -> tuple[str, Path]:
    """Returns name and folder of a run of W&B, restored first unless it is there."""
    match = re.fullmatch(r"wandb:(?:([^/]+)/)?([^/]+)/([^/]+)", reference)
    if match is None:
        raise ConfigError(f"load(): {reference}: must be wandb:entity/project/NAME or wandb:project/NAME")
    entity, project, name = match.groups()
    folder = Path(TrackingConfig().runs_dir if runs_dir is None else runs_dir)
    if (folder / name).is_dir():
        return name, folder
    flags = [f"--project={project}", *([f"--entity={entity}"] if entity else [])]
    flags += [f"--step={step}"] if step is not None else []
    flags += ["--best"] if best else []
    problem = restore_run(name, folder, flags)
    if problem:
        raise ConfigError(f"load(): {reference}: {problem}")
    return name, folder


def _environment_agent(
    folder: Path, step: int | None, best: bool, number: int, env: str | None, network: str | None
) -> EnvironmentAgent:
    from matrixrl.cli.ppo_agent import load_agent
    from matrixrl.systems.ppo.evaluation import network_outputs

    trained = load_agent(_COMMAND, folder.name, folder.parent, step, best, env, network)
    if not 0 <= number < len(trained.agents):
        raise ConfigError(f"load(): number={number}: must be from 0 to {len(trained.agents) - 1}")
    task: Any = trained.task
    actions = task.env.actions
    return EnvironmentAgent(
        trained.name,
        trained.step,
        trained.agents[number],
        task.env.observation_shapes,
        1 if actions.is_continuous else actions.size,
        partial(network_outputs, task),
        task.distribution,
        actions.to_environment,
    )


def _hackmatrix_agent(folder: Path, step: int | None, best: bool) -> EnvironmentAgent:
    import jax

    from matrixrl.agents.distributions import MaskedCategorical
    from matrixrl.cli.hackmatrix_agent import load_agent
    from matrixrl.envs.hackmatrix.env import HackMatrix
    from matrixrl.envs.hackmatrix.rules import NUM_ACTIONS

    trained = load_agent(_COMMAND, folder.name, folder.parent, step, best)
    shapes, _ = jax.eval_shape(HackMatrix(packed=True).reset, jax.random.key(0))
    policy = trained.policy
    return EnvironmentAgent(
        trained.name,
        trained.step,
        policy.params,
        shapes,
        NUM_ACTIONS,
        policy.network.apply,
        MaskedCategorical(),
        lambda action: action,
    )


def _matmul_agent(folder: Path, step: int | None, best: bool) -> MatmulAgent:
    from matrixrl.cli.checkpoints import choose_checkpoint

    config = recorded_settings(MatmulConfig, folder)
    return MatmulAgent(folder.name, config, choose_checkpoint(_COMMAND, folder, step=step, best=best))
