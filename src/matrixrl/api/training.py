"""`matrixrl.train`: the session of a training command, in this process."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from matrixrl.api.display import notebook_progress
from matrixrl.api.runs import Run, find_folder, run_location
from matrixrl.api.settings import TrainingSettings, arguments_of, build, command_of, read_config
from matrixrl.cli.embedding import EMBEDDING, Embedding
from matrixrl.cli.jax_settings import restored_environment, standard_jax_settings
from matrixrl.cli.main import libraries_restored
from matrixrl.cli.processes import agreed_settings
from matrixrl.config import ConfigError
from matrixrl.tracking.identity import read_run_file

_training = threading.Lock()

_ENVIRONMENT = ("JAX_", "WANDB_", "XLA_", "TF_", "TPU_")
"""Prefixes of the environment variables that a training may change."""


class TrainingError(RuntimeError):
    """A training failed: it diverged, or a checkpoint could not be written.

    The message states where the run stands and how to continue. The journal keeps what was
    recorded.

    Example:
      >>> import matrixrl
      >>> issubclass(matrixrl.TrainingError, RuntimeError)
      True
    """


def train(
    settings: TrainingSettings | None = None,
    *,
    resume: str | os.PathLike[str] | Run | None = None,
    progress: bool | None = None,
    **changes: Any,
) -> Run:
    """Trains in this process, as the training command does, and returns the run.

    An interrupt (Ctrl-C, or the stop button of a notebook) finishes the chunk, saves, and returns
    the run with the status `interrupted`; a second one stops at once. Signals are handled in the
    main thread alone. It also works in another thread, and while an event loop of asyncio runs.
    Everything that is changed in the process is put back: settings of JAX, environment variables,
    signal handlers. One training at a time runs in a process.

    Args:
      settings: of `matrixrl.ppo`, `matrixrl.hackmatrix` or `matrixrl.matmul`. For a resumed run:
        the settings to change; may be left out.
      resume: the run to resume: its name, id or folder, `latest`, or a `Run`.
      progress: True shows a progress bar by means of IPython; by default in notebooks.
      changes: settings that differ, as keywords.

    Returns:
      The run, closed.

    Raises:
      ConfigError: if a setting is not allowed, the run cannot be opened or resumed, or another
        training runs in this process.
      TrainingError: if the training diverged, or could not be saved.
      KeyboardInterrupt: at the second interrupt.

    Example:
      >>> import matrixrl
      >>> settings = matrixrl.ppo(env="gymnax:CartPole-v1", total_timesteps=4096, console="quiet")
      >>> run = matrixrl.train(settings)
      >>> run.status
      'finished'
      >>> longer = matrixrl.train(resume=run, total_timesteps=8192)
      >>> longer.name == run.name
      True
    """
    if resume is not None:
        settings = _resumed(settings, resume, changes)
    elif settings is not None and changes:
        settings = settings.replace(**changes)
    if settings is None:
        raise ConfigError(
            "train(): settings are missing; give those of matrixrl.ppo(...) or the like, or resume="
        )
    embedding = Embedding(lambda run, trainer: None)
    with notebook_progress(progress):
        return run_embedded(settings, embedding)


def run_embedded(settings: TrainingSettings, embedding: Embedding) -> Run:
    """Trains under an embedding, and returns the run.

    Raises:
      ConfigError: as `train`.
      TrainingError: as `train`.
    """
    module, kind = command_of(settings.system)
    if getattr(settings, "benchmark", False):
        raise ConfigError(
            f"train(): benchmark=True trains several runs; use: matrixrl {settings.system} train --benchmark"
        )
    arguments = arguments_of(kind, settings.given)
    with _alone():
        token = EMBEDDING.set(embedding)
        try:
            with restored_process():
                module.train(*agreed_settings(kind, arguments, partial(read_config, module)))
        finally:
            EMBEDDING.reset(token)
    stop, outcome = embedding.stop, embedding.outcome
    if stop is not None and stop.signal == signal.SIGTERM and stop.origin is None:
        os.kill(os.getpid(), signal.SIGTERM)  # meant for the program, which was asked to end
    if outcome is None:
        raise TrainingError(embedding.failure or "the training failed; see its messages")
    return Run(outcome.run.directory)


def _resumed(
    settings: TrainingSettings | None, resume: str | os.PathLike[str] | Run, changes: dict[str, Any]
) -> TrainingSettings:
    """Returns settings that resume a run."""
    given = {**({} if settings is None else settings.given), **changes}
    reference, folder = run_location(resume, given.get("runs_dir"))
    if settings is None:
        found = find_folder(reference, folder, flag="train(): resume=")
        system, reference = str((read_run_file(found) or {}).get("system")), found.name
    else:
        system = settings.system
    if given.get("resume_run") is not None:
        raise ConfigError("train(): resume= and the setting resume_run name a run each; leave one out")
    built = build(system, {**given, "resume_run": reference, "runs_dir": folder})
    # By its name: a run that starts meanwhile must not become `latest`.
    name = built.config.tracking.resume_run
    return TrainingSettings(system, {**built.given, "resume_run": name}, built.config)


@contextmanager
def restored_process() -> Iterator[None]:
    """Runs a block with the settings that commands rely on, and puts back what it changes in the
    process.
    """
    is_main = threading.current_thread() is threading.main_thread()
    with (
        restored_environment(("",) if is_main else _ENVIRONMENT),
        libraries_restored(),
        standard_jax_settings(),
    ):
        yield


@contextmanager
def _alone() -> Iterator[None]:
    """Refuses a second training in the process: both would set JAX, and one would put it back."""
    if not _training.acquire(blocking=False):
        raise ConfigError(
            "train(): another training runs in this process; wait for it, or close its discover() generator"
        )
    with contextlib.ExitStack() as stack:
        stack.callback(_training.release)
        yield
