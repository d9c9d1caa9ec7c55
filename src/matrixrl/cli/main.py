"""The command `matrixrl`: dispatches to a subcommand, and converts errors to one line and an exit
status.

Exit status: 0 success; 1 the command ran with a negative result (a wrong scheme, a run that fails
its audit, a diverged training); 2 an impossible command line, setting or file; 130 and 143 stopped
by SIGINT and SIGTERM after the chunk was finished and recorded.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from matrixrl.cli.jax_settings import restored_environment, standard_jax_settings
from matrixrl.cli.parse import parse
from matrixrl.cli.progress import complain
from matrixrl.config import ConfigError
from matrixrl.systems.spec import BUILT_IN, System, find_system, system_names
from matrixrl.tracking.journal import TrackingError
from matrixrl.tracking.streams import OutputError, checked_streams, is_first_failure


@dataclass(frozen=True)
class Command:
    """A subcommand: its module and its description.

    Attributes:
      module: imported when the command is given, so that the others cost nothing.
      settings: name of the dataclass in that module whose fields are the command's flags;
        `run_command` takes one.
      summary: one line for the overview.
      own_parser: the module's `run` reads the command line itself.
      system: system whose runs the command makes and resumes, where it is not `SYSTEM train`.
    """

    module: str
    settings: str
    summary: str
    own_parser: bool = False
    system: str = ""


COMMANDS: dict[tuple[str, str], Command] = {
    ("matmul", "train"): Command(
        "matrixrl.cli.matmul", "MatmulConfig", "discover a matrix-multiplication algorithm", own_parser=True
    ),
    ("matmul", "flip"): Command(
        "matrixrl.cli.matmul_flip",
        "FlipConfig",
        "search for schemes by random walks on flip graphs",
        own_parser=True,
        system="flip",
    ),
    ("matmul", "evaluate"): Command(
        "matrixrl.cli.matmul_evaluate",
        "MatmulEvaluateCommand",
        "play without exploration, with a run's newest checkpoint",
        own_parser=True,
    ),
    ("matmul", "bench"): Command(
        "matrixrl.cli.matmul_bench",
        "MatmulBenchCommand",
        "measure the speed of search and learning, part by part",
        own_parser=True,
    ),
    ("hackmatrix", "train"): Command(
        "matrixrl.cli.hackmatrix",
        "HackmatrixConfig",
        "train an agent on the game with PPO or AlphaZero",
        own_parser=True,
    ),
    ("hackmatrix", "evaluate"): Command(
        "matrixrl.cli.hackmatrix_evaluate",
        "HackmatrixEvaluateCommand",
        "how well a run's agent plays, over many whole games",
    ),
    ("hackmatrix", "watch"): Command(
        "matrixrl.cli.hackmatrix_watch",
        "HackmatrixWatchCommand",
        "watch a run's agent play, with what it thinks",
    ),
    ("hackmatrix", "export-agent"): Command(
        "matrixrl.cli.hackmatrix_export", "HackmatrixExportCommand", "a run's agent as one small file"
    ),
    ("hackmatrix", "play"): Command(
        "matrixrl.cli.hackmatrix_play", "HackmatrixPlayCommand", "play the game here"
    ),
    ("hackmatrix", "bench"): Command(
        "matrixrl.cli.hackmatrix_bench", "HackmatrixBenchCommand", "measure the speed of the environment"
    ),
    ("ppo", "train"): Command(
        "matrixrl.cli.ppo", "EnvironmentRunConfig", "train an agent on any environment", own_parser=True
    ),
    ("ppo", "evaluate"): Command(
        "matrixrl.cli.ppo_evaluate",
        "PPOEvaluateCommand",
        "how well a run's agent plays, over many whole episodes",
    ),
    ("ppo", "watch"): Command(
        "matrixrl.cli.ppo_watch", "PPOWatchCommand", "watch a run's agent play an episode"
    ),
    ("runs", "list"): Command("matrixrl.cli.runs_list", "List", "all runs, their state and best value"),
    ("runs", "show"): Command("matrixrl.cli.runs_show", "Show", "one run, with charts of its main metrics"),
    ("runs", "compare"): Command(
        "matrixrl.cli.runs_compare", "Compare", "settings, best and final values of several runs"
    ),
    ("runs", "plot"): Command("matrixrl.cli.runs_plot", "Plot", "curves with bands, as PNG or SVG"),
    ("runs", "report"): Command(
        "matrixrl.cli.runs_report", "ReportCommand", "the pages of runs as one HTML file, to send to somebody"
    ),
    ("runs", "delete"): Command("matrixrl.cli.runs_delete", "Delete", "remove runs; never a running one"),
    ("runs", "sync"): Command("matrixrl.cli.runs", "Sync", "deliver to W&B what is still pending"),
    ("runs", "audit"): Command(
        "matrixrl.cli.runs", "Audit", "prove that journal, console, table and W&B agree"
    ),
    ("runs", "export"): Command("matrixrl.cli.runs", "Export", "scalars and episodes as Parquet or CSV"),
    ("runs", "copy"): Command(
        "matrixrl.cli.runs", "Copy", "a run folder to a drive, also while the run is active"
    ),
    ("runs", "restore"): Command("matrixrl.cli.runs", "Restore", "rebuild a run folder from W&B"),
    ("schemes", "verify"): Command("matrixrl.cli.schemes", "Verify", "prove a scheme file exactly"),
    ("schemes", "show"): Command(
        "matrixrl.cli.schemes", "SchemesShowCommand", "a scheme as formulas and as a picture"
    ),
    ("schemes", "convert"): Command(
        "matrixrl.cli.schemes_convert", "Convert", "schemes from one file format into another"
    ),
    ("schemes", "lift"): Command(
        "matrixrl.cli.schemes_lift", "SchemesLiftCommand", "from F2 or F3 to the integers or rationals"
    ),
    ("schemes", "records"): Command("matrixrl.cli.schemes", "Records", "best known ranks up to 16x16x16"),
    ("schemes", "reduce"): Command("matrixrl.cli.schemes_reduce", "Reduce", "search for fewer additions"),
    ("schemes", "export"): Command(
        "matrixrl.cli.schemes_export",
        "SchemesExportCommand",
        "a scheme as NumPy, JAX or C code, LaTeX or data",
    ),
    ("schemes", "bench"): Command(
        "matrixrl.cli.schemes_bench", "SchemesBenchCommand", "measure a scheme against NumPy's matrix product"
    ),
    ("schemes", "list"): Command(
        "matrixrl.cli.schemes_library", "SchemesListCommand", "the schemes found by this project"
    ),
    ("schemes", "get"): Command("matrixrl.cli.schemes_library", "Get", "one of these schemes, as a file"),
    ("schemes", "ledger"): Command(
        "matrixrl.cli.schemes_ledger",
        "SchemesLedgerCommand",
        "best ranks found for each format, the records, and core-hours",
    ),
}
"""All commands by group and name."""

TOP_COMMANDS: dict[str, Command] = {
    "dashboard": Command(
        "matrixrl.cli.dashboard", "DashboardCommand", "a page in the browser that shows all runs live"
    ),
    "sweep": Command(
        "matrixrl.cli.study_sweep",
        "SweepCommand",
        "train a grid or a sample of settings, on one machine or many",
    ),
    "tune": Command(
        "matrixrl.cli.study_tune",
        "TuneCommand",
        "search for good settings with Optuna, on one machine or many",
    ),
}
"""Commands that belong to no group."""


COMPLETION_FLAGS = ("--tyro-print-completion", "--tyro-write-completion")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status.

    A program that calls it finds everything restored: standard output and error, the environment,
    and the settings of JAX.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    with restored_environment(), libraries_restored(), checked_streams():
        try:
            try:
                with standard_jax_settings():
                    status = _dispatch(given)
            except SystemExit:
                sys.stdout.flush()  # `--help` prints and exits
                raise
            sys.stdout.flush()
            return status
        except (ConfigError, TrackingError) as error:
            complain(str(error))
            return 2
        except KeyboardInterrupt:
            complain("stopped at once; what was recorded is in the journal")
            return 130
        except OutputError as error:
            if error.reader_gone:
                return 0  # `| head`
            if is_first_failure(sys.stdout):
                complain(str(error))
            return 1


_LOGGERS = ("", "absl", "jax", "wandb")


@contextmanager
def libraries_restored() -> Iterator[None]:
    """Restores, when the block ends, the state of the libraries that commands change: JAX's
    compilation cache, W&B and logging.
    """
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    had_wandb = "wandb" in sys.modules
    try:
        yield
    finally:
        compilation_cache = sys.modules.get("matrixrl.devices.compilation_cache")
        if compilation_cache is not None:
            compilation_cache.leave_compilation_cache()
        if "wandb" in sys.modules and not had_wandb:
            sys.modules["wandb"].teardown()  # its settings are those of our environment
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _dispatch(given: list[str]) -> int:
    if not given or given[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if given[0] == "--version":
        import matrixrl

        print(f"matrixrl {matrixrl.__version__}")
        return 0
    if given[0] in COMPLETION_FLAGS:
        from matrixrl.cli.completion import complete

        return complete(given, COMMANDS, TOP_COMMANDS)
    if given[0] in TOP_COMMANDS:
        return _run(TOP_COMMANDS[given[0]], given[0], given[1:])
    groups = sorted({group for group, _ in COMMANDS})
    if given[0] not in groups:
        system = find_system(given[0])
        if system is not None and system.commands:
            return _dispatch_system(system, given[1:])
        groups = sorted({*groups, *TOP_COMMANDS, *_added_groups()})
        raise ConfigError(
            f"unknown command {given[0]}: must be one of {', '.join(groups)}; see matrixrl --help"
        )
    names = [name for group, name in COMMANDS if group == given[0]]
    if len(given) == 1 or given[1] in ("-h", "--help"):
        print(_overview(given[0]))
        return 0
    if given[1] not in names:
        raise ConfigError(
            f"unknown command {given[0]} {given[1]}: must be one of {', '.join(names)}; see matrixrl {given[0]} --help"
        )
    command = COMMANDS[given[0], given[1]]
    if command.own_parser:
        return importlib.import_module(command.module).run(given[1], given[2:])
    return _run(command, f"{given[0]} {given[1]}", given[2:])


def _run(command: Command, words: str, arguments: list[str]) -> int:
    """Reads the command line of a command, and runs it."""
    module = importlib.import_module(command.module)
    settings = parse(
        getattr(module, command.settings),
        arguments,
        prog=f"matrixrl {words}",
        description=command.summary[0].upper() + command.summary[1:] + ".",
    )
    return module.run_command(settings)


def _dispatch_system(system: System, given: list[str]) -> int:
    """Runs a command of a system that another package provides."""
    name = system.spec.name
    if not given or given[0] in ("-h", "--help"):
        rows = [
            (f"{name} {word}", (command.__doc__ or "").strip().partition("\n")[0])
            for word, command in system.commands.items()
        ]
        print(_table(rows, []))
        return 0
    if given[0] not in system.commands:
        raise ConfigError(
            f"unknown command {name} {given[0]}: must be one of {', '.join(system.commands)}; see matrixrl {name} --help"
        )
    return system.commands[given[0]](given[1:])


def _added_groups() -> list[str]:
    """Returns the names of systems that other packages provide."""
    return [name for name in system_names() if name not in BUILT_IN]


def _overview(group: str | None = None) -> str:
    rows = [(f"{g} {n}", command.summary) for (g, n), command in COMMANDS.items() if group in (None, g)]
    if group is None:
        rows += [(name, command.summary) for name, command in TOP_COMMANDS.items()]
        rows += [
            (f"{name} ...", f"commands of {name}; see matrixrl {name} --help") for name in _added_groups()
        ]
    more = ["", "shell completion: matrixrl --tyro-print-completion bash|zsh|fish"] if group is None else []
    return _table(rows, more)


def _table(rows: list[tuple[str, str]], more: list[str]) -> str:
    width = max(len(name) for name, _ in rows)
    lines = [f"  matrixrl {name:<{width}}  {summary}" for name, summary in rows]
    return "\n".join(["usage: matrixrl GROUP COMMAND [flags]   (each command has --help)", "", *lines, *more])


def run_as_program() -> NoReturn:
    """Runs one command and ends the process with its exit status, at once."""
    # A descriptor that was closed before the start would be given to the next file that is opened.
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    status = main()
    first_calls = sys.modules.get("matrixrl.training.first_calls")
    if first_calls is not None:  # otherwise nothing was compiled
        first_calls.leave(status)
    sys.exit(status)


if __name__ == "__main__":
    run_as_program()
