"""`matrixrl runs sync|audit|export|copy|restore`: recorded runs and their uploads.

The other commands have files of their own: `runs_list`, `runs_show`, `runs_compare`, `runs_plot`
and `runs_delete`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from matrixrl.cli.progress import complain, say, working
from matrixrl.cli.runs_common import Common, perform
from matrixrl.cli.runs_list import List, list_runs
from matrixrl.cli.runs_show import Show, show
from matrixrl.config import ConfigError, TrackingConfig, require
from matrixrl.systems.spec import projects
from matrixrl.tracking.audit import audit
from matrixrl.tracking.copy import copy_run
from matrixrl.tracking.delivery_state import delivering, load_states
from matrixrl.tracking.export import default_form, export
from matrixrl.tracking.identity import LOCK_FILE, Lock, find_run, run_folders
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.numbers import plural
from matrixrl.tracking.restore import restore
from matrixrl.tracking.sinks.registry import (
    DEFAULT_SINK,
    Found,
    find_recorded,
    find_sink,
    find_sinks,
    remember_named,
)
from matrixrl.tracking.sinks.wandb import readdress
from matrixrl.tracking.sinks.wandb_client import never_asking
from matrixrl.tracking.sinks.wandb_names import check_entity, check_project, configured
from matrixrl.tracking.summary import keep_summary, summarize
from matrixrl.tracking.uploader_client import DeliveryOutcome, DeliveryProcess, delivery_settings


@dataclass(frozen=True, kw_only=True)
class Sync(Common):
    """Upload pending rows to W&B and other trackers, exactly once."""

    runs: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names or ids of runs, or `latest`."""

    all: bool = False
    """Upload every run that has pending rows."""

    to: tuple[str, ...] = ()
    """Trackers to upload to: `wandb`, `tensorboard`, or a class of your own (`module:Sink`).
    Default: those that the run was tracked by, or W&B.
    """

    no_artifact: bool = False
    """Do not upload checkpoints and other files."""

    keep_artifacts: int = 3
    """Number of checkpoints to keep on W&B in addition to the best one. 0 keeps all."""

    project: str | None = None
    """Deliver to this W&B project, where the one that the run was started with is refused."""

    entity: str | None = None
    """Deliver to this W&B user or team."""

    deadline_seconds: float = 600.0
    """Maximum time in seconds per run. A second call resumes where this one stopped."""


@dataclass(frozen=True, kw_only=True)
class Audit(Common):
    """Prove that console, journal, episode table and W&B agree; exit 1 naming the first gap
    otherwise.
    """

    run: tyro.conf.Positional[str]
    """Name or id of a run, or `latest`."""

    offline: bool = False
    """Do not query the W&B server."""


@dataclass(frozen=True, kw_only=True)
class Export(Common):
    """Write scalars, episodes and moves of a run as Parquet or CSV."""

    run: tyro.conf.Positional[str]
    """Name or id of a run, or `latest`."""

    format: Literal["parquet", "csv", "tensorboard"] | None = None
    """File format. Default: Parquet if pyarrow is installed (extra `wandb`), otherwise CSV.
    `tensorboard` writes the scalars as event files (extra `tensorboard`).
    """

    out: Path | None = None
    """Folder to write to. Default: `export` in the run folder."""


@dataclass(frozen=True, kw_only=True)
class Copy(Common):
    """Copy a complete run folder to a drive, also while the run continues; a later call copies new
    content.
    """

    run: tyro.conf.Positional[str]
    """Name or id of a run, or `latest`."""

    to: Path
    """Folder that will hold a folder of the run's name. Its parent must exist."""


@dataclass(frozen=True, kw_only=True)
class Restore(Common):
    """Rebuild a run folder from W&B, so that the run can be resumed on another machine."""

    run: tyro.conf.Positional[str]
    """Name or id of a run."""

    step: int | None = None
    """Step of the checkpoint to restore. Default: the newest complete one."""

    best: bool = False
    """Restore the checkpoint that is marked as the best."""

    project: str | None = None
    """W&B project. Default: searches the default projects of all systems."""

    entity: str | None = None
    """W&B entity. Default: WANDB_ENTITY, or the default entity of the account."""


def run_command(command: Common) -> int:
    """Runs a command.

    Returns:
      The exit status: 0 for success, 1 if an audit found a gap or rows are still pending, 2 for
        bad input (one line on stderr).
    """
    return perform(command, PERFORM[type(command)])


def sync(command: Sync) -> tuple[int, dict[str, Any]]:
    """Uploads runs one after another, each by its own delivery process."""
    if not command.runs and not command.all:
        raise ConfigError("runs sync: name runs (names, ids or `latest`), or give --all")
    directories = [find_run(command.runs_dir, name, flag="runs sync") for name in command.runs]
    if command.all:
        directories += [
            folder
            for folder in run_folders(command.runs_dir)
            if folder not in directories and summarize(folder).pending_rows
        ]
    if command.project is not None:
        check_project(command.project)
    if command.entity is not None:
        check_entity(command.entity)
    chosen = find_sinks(command.to, "--to")
    for directory in directories:
        remember_named(directory, chosen)
    plans = {directory: chosen or _own_sinks(directory) for directory in directories}
    for found in {found.name: found for sinks in plans.values() for found in sinks}.values():
        found.sink.check_sync()
    results = []
    for directory, sinks in plans.items():
        results.append(_sync_run(directory, sinks, command))
        if not command.json:
            say(results[-1]["message"])
    pending = sum(result["pending_rows"] for result in results)
    return int(pending > 0), {"runs": results, "pending_rows": pending}


def _own_sinks(directory: Path) -> list[Found]:
    """Returns the sinks that a run was tracked by, or the default one."""
    found = []
    for name, state in load_states(directory).items():
        sink = find_recorded(directory, name, state.source, "runs sync")
        if sink is not None:
            found.append(sink)
        else:
            reference = state.source or name
            complain(
                f"warning: {directory.name} was tracked by {reference} too, which this user has not named yet and is not "
                f"imported; `--to {reference}` delivers to it"
            )
    return found or [find_sink(DEFAULT_SINK)]


def _sync_run(directory: Path, sinks: list[Found], command: Sync) -> dict[str, Any]:
    """Delivers one run to its sinks, one after another."""
    name = directory.name
    is_moved = command.project is not None or command.entity is not None
    if is_moved and delivering(directory, DEFAULT_SINK) is None:
        readdress(directory, command.project, command.entity)
    with JournalReader(directory) as reader:
        attempts = reader.attempts()
    status = (attempts[-1].status if attempts else None) or "crashed"
    outcomes = {found.name: _sync_to(directory, found, status, command) for found in sinks}
    if Lock.owner(directory / LOCK_FILE) is None:
        keep_summary(directory)
    joined = DeliveryOutcome.joined(list(outcomes.values()))
    pending = joined.pending_rows
    message = (
        f"{name}: {pending} rows still pending: {joined.reason}" if pending else f"{name}: {joined.reason}"
    )
    each = {sink: {"pending_rows": o.pending_rows, "message": o.reason} for sink, o in outcomes.items()}
    return {"name": name, "pending_rows": pending, "message": message, "sinks": each}


def _sync_to(directory: Path, found: Found, status: str, command: Sync) -> DeliveryOutcome:
    """Delivers one run to one sink, by its delivery process."""
    label = found.sink.label or found.name
    owner = delivering(directory, found.name)
    if owner is not None:
        return DeliveryOutcome(_pending(directory, found.name), f"{owner} is delivering it already", label)
    settings = delivery_settings(
        found,
        training_pid=None,
        backlog_rows=1,
        keep_artifacts=command.keep_artifacts,
        artifacts=not command.no_artifact,
        patient=False,
    )
    with working(f"delivering {directory.name} to {label}"):
        environment = found.sink.sync_environment
        process = DeliveryProcess(directory, found, settings, lambda text, level: None, environment)
        return process.finish(status, command.deadline_seconds)


def _pending(directory: Path, sink: str) -> int:
    state = load_states(directory).get(sink)
    with JournalReader(directory) as reader:
        return reader.count_deliverable(state.confirmed_step if state else 0)


def run_audit(command: Audit) -> tuple[int, dict[str, Any]]:
    """Audits one run."""
    # Output of wandb itself is not part of the result.
    os.environ.setdefault("WANDB_SILENT", "true")
    directory = find_run(command.runs_dir, command.run, flag="runs audit")
    with working(f"auditing {directory.name}"):
        report = audit(directory, server=False if command.offline else None)
    if not command.json:
        for place, count in report.checks.items():
            say(f"{place}: {count:,}")
        for note in report.notes:
            say(f"note: {note}")
        for gap in report.gaps:
            say(f"GAP {gap}")
        say(f"{report.run}: {'everything agrees' if report.agrees else f'first gap: {report.gaps[0]}'}")
    answer = {"run": report.run, "agrees": report.agrees, "checks": report.checks, "notes": report.notes}
    return int(not report.agrees), {**answer, "gaps": [dataclasses.asdict(gap) for gap in report.gaps]}


def run_export(command: Export) -> tuple[int, dict[str, Any]]:
    """Exports one run."""
    directory = find_run(command.runs_dir, command.run, flag="runs export")
    folder = command.out or directory / "export"
    with working(f"exporting {directory.name}"), JournalReader(directory) as reader:
        written = export(reader, folder, command.format or default_form())
        damage = list(reader.damage)
    for text in damage:
        complain(f"warning: {text}; what is good was exported")
    if not command.json:
        for name, count in written.items():
            print(f"{folder / name}: {plural(count, 'row')}")
    return 0, {"folder": str(folder), "rows": written, "damage": damage}


def run_copy(command: Copy) -> tuple[int, dict[str, Any]]:
    """Copies one run folder."""
    directory = find_run(command.runs_dir, command.run, flag="runs copy")
    with working(f"copying {directory.name} to {command.to}"):
        copied = copy_run(directory, command.to)
    if not command.json:
        saved = "no checkpoint yet" if copied.step is None else f"newest checkpoint at step {copied.step:,}"
        say(f"{copied.directory}: rows until step {copied.recorded_until:,}, {saved}")
    answer = dataclasses.asdict(copied) | {"directory": str(copied.directory)}
    return 0, {**answer, "run": copied.directory.name}


def _projects(command: Restore) -> list[str]:
    """Returns the projects to search: the named one, else the configured one and the defaults."""
    if command.project is not None:
        return [check_project(command.project)]
    own = configured("project")
    return list(dict.fromkeys([*([check_project(*own)] if own else []), *projects()]))


def _entity(command: Restore) -> str | None:
    own = configured("entity")
    if command.entity is not None:
        return check_entity(command.entity)
    return check_entity(*own) if own else None


def run_restore(command: Restore) -> tuple[int, dict[str, Any]]:
    """Rebuilds one run folder."""
    require(
        command.step is None or not command.best,
        f"--step {command.step} --best: each names a checkpoint; give one of them",
    )
    require(command.step is None or command.step >= 0, f"--step {command.step}: must be 0 or more")
    require(command.run != "latest", "runs restore latest: W&B is asked by the run's name or id")
    os.environ.setdefault("WANDB_SILENT", "true")
    with working(f"restoring {command.run} from W&B"), never_asking():
        from matrixrl.checkpoints import format as checkpoint_format
        from matrixrl.cli.session import resume_command

        restored = restore(
            command.run,
            command.runs_dir,
            projects=_projects(command),
            entity=_entity(command),
            check=lambda folder: dict(checkpoint_format.read(folder).record),
            step=command.step,
            best=command.best,
        )
    name = restored.directory.name
    tracking = TrackingConfig(runs_dir=command.runs_dir)
    resume = resume_command(restored.system, tracking, name)
    for text in restored.warnings:
        complain(f"warning: {text}")
    if not command.json:
        say(f"{name} restored to {restored.directory} at step {restored.step:,}; continue with: {resume}")
    answer = dataclasses.asdict(restored) | {"directory": str(restored.directory), "run": name}
    return 0, {**answer, "command": resume}


PERFORM: dict[type[Common], Callable[[Any], tuple[int, dict[str, Any]]]] = {
    List: list_runs,
    Show: show,
    Sync: sync,
    Audit: run_audit,
    Export: run_export,
    Copy: run_copy,
    Restore: run_restore,
}
