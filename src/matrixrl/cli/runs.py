"""`matrixrl runs list|show|sync|audit|export|copy|restore`: recorded runs and their uploads."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from matrixrl.cli.progress import complain, say, working
from matrixrl.cli.resume import recorded_settings
from matrixrl.cli.settings import settings_of_system
from matrixrl.config import ConfigError, TrackingConfig, as_record, require, settings_toml
from matrixrl.tracking import wandb as tracking_wandb
from matrixrl.tracking.audit import audit
from matrixrl.tracking.chart import chart
from matrixrl.tracking.copy import copy_run
from matrixrl.tracking.courier import DELIVERY_LOCK_FILE, DeliveryProcess, DeliverySettings, DeliveryState
from matrixrl.tracking.export import default_form, export
from matrixrl.tracking.identity import LOCK_FILE, Lock, find_run, run_folders
from matrixrl.tracking.journal import TrackingError
from matrixrl.tracking.local import JournalReader
from matrixrl.tracking.numbers import plural
from matrixrl.tracking.restore import restore
from matrixrl.tracking.run import PROJECTS
from matrixrl.tracking.series import read_series
from matrixrl.tracking.summary import RunSummary, keep_summary, summarize
from matrixrl.tracking.wandb_names import check_entity, check_project, configured

MAIN_METRICS: Mapping[str, tuple[str, ...]] = {
    "matmul": ("pretrain/loss", "episode/reward", "epoch_loss", "epoch_best_rank", "eval/rank"),
    "ppo": ("train/mean_reward", "episode/return", "train/entropy"),
    "hackmatrix": ("train/mean_reward", "episode/return", "episode/highest_stage", "train/entropy"),
}


def _main_metrics(system: str, there: Iterable[str]) -> list[str]:
    """Returns the main metrics that a run has; for a matmul run of several formats those of each
    format.
    """
    there = list(there)
    found = []
    for name in MAIN_METRICS.get(system, ()):
        found += [other for other in there if other == name or re.fullmatch(rf"{name}_\d+x\d+x\d+", other)]
    return found


@dataclass(frozen=True, kw_only=True)
class Common:
    """Flags of every command."""

    runs_dir: Path = Path("runs")
    """Folder that holds one folder per run."""

    json: bool = False
    """Print one JSON object as the last line of output."""


@dataclass(frozen=True, kw_only=True)
class List(Common):
    """List runs with their state, best value and rows waiting for W&B."""


@dataclass(frozen=True, kw_only=True)
class Show(Common):
    """Show a run: state, attempts, warnings, and charts of its main metrics."""

    run: tyro.conf.Positional[str]
    """Name or id of a run, or `latest`."""

    metric: tuple[str, ...] = ()
    """Metrics to draw instead of the main ones."""

    config: bool = False
    """Print the run's settings only, as TOML that `--config FILE` of its trainer reads."""


@dataclass(frozen=True, kw_only=True)
class Sync(Common):
    """Upload pending rows to W&B, exactly once."""

    runs: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names or ids of runs, or `latest`."""

    all: bool = False
    """Upload every run that has pending rows."""

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

    format: Literal["parquet", "csv"] | None = None
    """File format. Default: Parquet if pyarrow is installed (extra `wandb`), otherwise CSV."""

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
    """W&B project. Default: searches `rlmm` and `hackmatrix`."""

    entity: str | None = None
    """W&B entity. Default: WANDB_ENTITY, or the default entity of the account."""


RunsCommand = (
    Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[Sync, tyro.conf.subcommand("sync")]
    | Annotated[Audit, tyro.conf.subcommand("audit")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Copy, tyro.conf.subcommand("copy")]
    | Annotated[Restore, tyro.conf.subcommand("restore")]
)


def run_command(command: List | Show | Sync | Audit | Export | Copy | Restore) -> int:
    """Runs a command.

    Returns:
        The exit status: 0 for success, 1 if an audit found a gap or rows are still pending, 2 for
          bad input (one line on stderr).
    """
    try:
        match command:
            case List():
                status, answer = list_runs(command)
            case Show():
                status, answer = show(command)
            case Sync():
                status, answer = sync(command)
            case Audit():
                status, answer = run_audit(command)
            case Export():
                status, answer = run_export(command)
            case Copy():
                status, answer = run_copy(command)
            case Restore():
                status, answer = run_restore(command)
    except (ConfigError, TrackingError) as error:
        complain(str(error))
        return 2
    if command.json:
        print(json.dumps(answer))
    return status


def list_runs(command: List) -> tuple[int, dict[str, Any]]:
    """Prints a table of all runs, the newest last."""
    summaries = [summarize(folder) for folder in run_folders(command.runs_dir)]
    if not command.json:
        if not summaries:
            print(f"no runs in {command.runs_dir}")
        else:
            rows = [_row(summary) for summary in summaries]
            _table(["run", "id", "state", "steps", "episodes", "best", "W&B pending", "last active"], rows)
    return 0, {"runs": [dataclasses.asdict(summary) for summary in summaries]}


def _row(summary: RunSummary) -> list[str]:
    best = "-" if summary.best is None else f"{summary.best_label} {summary.best:g}"
    pending = "-" if summary.pending_rows is None else str(summary.pending_rows)
    active = time.strftime("%Y-%m-%d %H:%M", time.localtime(summary.last_activity))
    return [
        summary.name,
        summary.run_id,
        summary.state,
        str(summary.last_step),
        str(summary.episodes),
        best,
        pending,
        active,
    ]


def _table(head: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def show(command: Show) -> tuple[int, dict[str, Any]]:
    """Shows one run: its summary, attempts, last warnings and charts."""
    directory = find_run(command.runs_dir, command.run, flag="runs show")
    summary = summarize(directory)
    if command.config:
        return 0, _show_settings(directory, summary, command)
    with JournalReader(directory) as reader:
        names, series = read_series(
            reader, lambda name: name in command.metric or bool(_main_metrics(summary.system, [name]))
        )
        attempts = [attempt._asdict() for attempt in reader.attempts()]
        warnings = [note.text for note in reader.notes() if note.level == "warning"]
        if summary.state == "damaged" and not reader.damage:
            reader.fault()
        damage = list(reader.damage)
    if unknown := [name for name in command.metric if name not in series]:
        raise ConfigError(
            f"--metric {unknown[0]}: not in {directory.name}; it has {', '.join(names) or 'no metrics'}"
            + (f" ({damage[0]})" if damage else "")
        )
    metrics = command.metric or _main_metrics(summary.system, names)
    if not command.json:
        _table(
            ["run", "id", "state", "steps", "episodes", "best", "W&B pending", "last active"], [_row(summary)]
        )
        for attempt in attempts:
            ended = attempt["status"] or ("running" if summary.state == "running" else "no end recorded")
            print(
                f"attempt {attempt['attempt']}: {ended}, process {attempt['pid']} on {attempt['host']}, "
                f"from step {attempt['start_step']}"
            )
        for text in [*damage, *warnings[-5:]]:
            print(f"warning: {text}")
        for name in metrics:
            label, shown = "epoch" if name.startswith("epoch_") else "step", series[name]
            last = shown.last if isinstance(shown.last, int | float) else None
            print("\n" + chart(name, shown.xs, shown.ys, x_label=label, last_value=last))
    last = {name: series[name].last for name in metrics}
    answer = {**dataclasses.asdict(summary), "attempt_list": attempts, "warnings": warnings, "damage": damage}
    return 0, {**answer, "last": last}


def _show_settings(directory: Path, summary: RunSummary, command: Show) -> dict[str, Any]:
    """Prints the settings of a run's newest attempt as TOML, and returns them for `--json`."""
    if command.metric:
        raise ConfigError("runs show: --config prints the settings only: leave --metric out")
    kind = settings_of_system(summary.system)
    if kind is None:
        raise ConfigError(f"runs show {directory.name} --config: {summary.system} has no settings file")
    settings = recorded_settings(kind, directory)
    if not command.json:
        trainer = f"matrixrl {summary.system} train --config FILE"
        say(settings_toml(settings, f"Settings of {directory.name}, for: {trainer}").rstrip("\n"))
    return {"name": summary.name, "run_id": summary.run_id, "settings": as_record(settings)}


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
    mode = configured("mode")
    if mode is not None and mode.value.lower() == "disabled":
        remedy = "unset WANDB_MODE" if mode.source == "WANDB_MODE" else "allow it with `wandb enabled`"
        raise ConfigError(f"runs sync: {tracking_wandb.said_by(mode)}, which forbids it; {remedy}")
    results = []
    for directory in dict.fromkeys(directories):
        results.append(_sync_one(directory, command))
        if not command.json:
            say(results[-1]["message"])
    pending = sum(result["pending_rows"] for result in results)
    return int(pending > 0), {"runs": results, "pending_rows": pending}


def _sync_one(directory: Path, command: Sync) -> dict[str, Any]:
    settings = DeliverySettings(
        training_pid=None,
        backlog_rows=1,
        keep_artifacts=command.keep_artifacts,
        artifacts=not command.no_artifact,
        patient=False,
    )
    name = directory.name
    owner = Lock.owner(directory / DELIVERY_LOCK_FILE)
    if owner is not None:
        pending = summarize(directory).pending_rows or 0
        return {"name": name, "pending_rows": pending, "message": f"{name}: {owner} is delivering it already"}
    if command.project is not None or command.entity is not None:
        _readdress(directory, command)
    with JournalReader(directory) as reader:
        attempts = reader.attempts()
    status = (attempts[-1].status if attempts else None) or "crashed"
    with working(f"delivering {name} to W&B"):
        process = DeliveryProcess(directory, settings, lambda text, level: None, {"WANDB_MODE": "online"})
        outcome = process.finish(status, command.deadline_seconds)
    if Lock.owner(directory / LOCK_FILE) is None:
        keep_summary(directory)
    pending = outcome.pending_rows
    message = (
        f"{name}: {pending} rows still pending: {outcome.reason}" if pending else f"{name}: {outcome.reason}"
    )
    return {"name": name, "pending_rows": pending, "message": message}


def _readdress(directory: Path, command: Sync) -> None:
    """Delivers a run to another project or entity from now on.

    Raises:
        ConfigError: the server has rows of it elsewhere already.
    """
    state = DeliveryState.load(directory) or DeliveryState()
    if state.place:
        entity, project, _ = str(state.place["path"]).split("/", 2)
        moved = (command.project or project, command.entity or entity) != (project, entity)
        require(
            not moved,
            f"runs sync {directory.name}: it is at {state.place.get('url')} already; a run is moved on its page of W&B",
        )
        return
    state.project, state.entity = command.project or state.project, command.entity or state.entity
    state.save(directory)


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
    defaults = sorted(set(PROJECTS.values()), reverse=True)
    return list(dict.fromkeys([*([check_project(*own)] if own else []), *defaults]))


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
    with working(f"restoring {command.run} from W&B"), tracking_wandb.never_asking():
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
    resume = resume_command("hackmatrix" if restored.system == "hackmatrix" else "matmul", tracking, name)
    for text in restored.warnings:
        complain(f"warning: {text}")
    if not command.json:
        say(f"{name} restored to {restored.directory} at step {restored.step:,}; continue with: {resume}")
    answer = dataclasses.asdict(restored) | {"directory": str(restored.directory), "run": name}
    return 0, {**answer, "command": resume}
