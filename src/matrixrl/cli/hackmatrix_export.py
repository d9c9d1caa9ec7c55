"""`matrixrl hackmatrix export-agent RUN`: the agent of a run as one small file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from matrixrl.cli.agent_flags import check_choice, check_writable
from matrixrl.cli.hackmatrix_agent import load_agent
from matrixrl.cli.progress import say, working
from matrixrl.config import ConfigError, require
from matrixrl.tracking.status import activity
from matrixrl.user_files import UserFileError, display_path, read_json

MAX_RESULTS = 100_000
"""Maximum size of a file of results in bytes."""


@dataclass(frozen=True, kw_only=True)
class HackmatrixExportCommand:
    """Write the agent of a run to a file that `evaluate` and `watch` take instead of a run."""

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="RUN")]]
    """Name or id of a run, or `latest`."""

    output: Path = Path("agent.npz")
    """File to write, with the suffix .npz."""

    precision: Literal["float16", "float32"] = "float16"
    """Type of the stored parameters."""

    results: Path | None = None
    """File with the JSON object that `evaluate --json` printed for this agent, to be stored
    with it.
    """

    step: int | None = None
    """Step of the checkpoint to export. Default: the newest complete checkpoint."""

    best: bool = False
    """Export the checkpoint with the best mean return of its chunk."""

    runs_dir: Path = Path("runs")
    """Folder that holds one folder per run."""

    json: bool = False
    """Print one JSON object as the last line of output."""

    def __post_init__(self) -> None:
        require(self.output.suffix == ".npz", f"--output {self.output}: the name must end in .npz")
        check_choice(self.step, self.best)
        check_writable("--output", self.output)


def read_results(path: Path) -> dict[str, Any]:
    """Reads what `evaluate --json` printed.

    Raises:
      ConfigError: if the file cannot be read, or holds no JSON object.
    """
    try:
        found = read_json(path, MAX_RESULTS)
    except UserFileError as error:
        raise ConfigError(f"--results {display_path(path)}: {error}") from error
    require(
        isinstance(found, dict) and "games" in found,
        f"--results {display_path(path)}: must hold the JSON object that evaluate --json prints",
    )
    return found


def run_command(command: HackmatrixExportCommand) -> int:
    """Exports the agent. Returns the exit status.

    Raises:
      ConfigError: if there is no such run or no playable checkpoint, or the file cannot be written.
    """
    results = None if command.results is None else read_results(command.results)
    with working(f"exporting the agent of {command.run}"), activity("starting JAX"):
        agent = load_agent("export-agent", command.run, command.runs_dir, command.step, command.best)

        from matrixrl.systems.hackmatrix.agent_file import write_agent

        try:
            size = write_agent(
                command.output,
                run_name=agent.name,
                step=agent.step,
                config=agent.config,
                policy=agent.policy,
                precision=command.precision,
                results=results,
            )
        except OSError as error:
            raise ConfigError(f"--output {command.output}: cannot be written: {error.strerror}") from error
    say(
        f"{agent.where}: {size:,} bytes in {command.output}; see it play with\n"
        f"  matrixrl hackmatrix watch {command.output}"
    )
    if command.json:
        record = {"run_name": agent.name, "step": agent.step, "output": str(command.output), "bytes": size}
        print(json.dumps(record))
    return 0
