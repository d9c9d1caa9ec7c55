"""Checks that the environments and networks that settings name exist, before anything starts.

Resolving a name imports JAX and the user's code. A command that trains in other processes therefore
does it in a process of its own, `python -m matrixrl.cli.environment_names`: it reads pairs of flag
and name as JSON from standard input, and answers with a line of JSON, the message about the first
name that does not exist, or null.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from matrixrl.config import ConfigError
from matrixrl.config.environment import (
    GYMNASIUM,
    EnvironmentRunConfig,
    names_file,
    names_gymnasium,
    names_gymnax,
    split_spec,
)
from matrixrl.tracking.status import activity

Named = tuple[str, str]
"""A flag, and the name that is its value."""


def names_of(config: EnvironmentRunConfig) -> list[Named]:
    """Returns the names in the settings of a run."""
    network = config.network.network
    return [("--env", config.env), *([] if network is None else [("--network", network)])]


def require_names(names: Iterable[Named], *, trained_elsewhere: bool = False) -> None:
    """Refuses names of environments and networks that do not exist. Builds none of them, except
    those of a library.

    Args:
      trained_elsewhere: other machines train. What is not installed here may be installed there.

    Raises:
      ConfigError: with the message that training would end with.
    """
    distinct = [named for named in dict.fromkeys(names) if not trained_elsewhere or _is_here(named[1])]
    if not distinct:
        return
    if "jax" in sys.modules:
        error = first_error(distinct)
    else:
        with activity("importing the environment"):
            error = _ask_process(distinct)
    if error is not None:
        raise ConfigError(error)


def first_error(names: Iterable[Named]) -> str | None:
    """Returns the message about the first name that does not exist; imports JAX."""
    from matrixrl.systems.ppo.loading import require_exists

    try:
        for flag, name in names:
            require_exists(flag, name)
    except ConfigError as error:
        return str(error)
    return None


def _ask_process(names: list[Named]) -> str | None:
    """Returns the answer of the process."""
    # Where there is an accelerator, its memory is left to the processes that train.
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **os.environ}
    process = subprocess.run(
        [sys.executable, "-m", "matrixrl.cli.environment_names"],
        input=json.dumps(names),
        capture_output=True,
        text=True,
        errors="replace",
        env=environment,
        check=False,
    )
    if process.returncode == 0:
        return json.loads(process.stdout)
    last = process.stderr.strip().rpartition("\n")[2][:300] or "without a message"
    words = " ".join(f"{flag} {name}" for flag, name in names)
    return f"{words}: the process that imports it ended with status {process.returncode}: {last}"


def _is_here(name: str) -> bool:
    """Returns whether the package or the file of a name exists on this machine."""
    if names_file(name):
        return Path(split_spec(name)[0]).expanduser().exists()
    module = "gymnax" if names_gymnax(name) else split_spec(name)[0]
    packages = [module.partition(".")[0]]
    if names_gymnasium(name):
        own = name.removeprefix(GYMNASIUM)
        packages = ["gymnasium", *([own.partition(":")[0].partition(".")[0]] if ":" in own else [])]
    return all(
        importlib.util.find_spec(package) is not None
        or Path(package).is_dir()
        or Path(f"{package}.py").is_file()
        for package in packages
    )


def main() -> int:
    """Answers; returns the exit status."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the user's code prints is no answer
    answers.write(json.dumps(first_error([(flag, name) for flag, name in json.load(sys.stdin)])) + "\n")
    answers.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
