"""Shared by `matrixrl sweep` and `matrixrl tune`: their flags, the study's folder, engines, signals
and answers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import importlib
import json
import math
import re
import secrets
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import tyro

from matrixrl.cli.environment_names import Named, require_names
from matrixrl.cli.main import COMMANDS
from matrixrl.cli.progress import complain
from matrixrl.cli.runs_common import number, table
from matrixrl.cli.runs_studies import setting_text
from matrixrl.config import ConfigError, require
from matrixrl.config.environment import EnvironmentRunConfig, names_gymnasium, swept_settings
from matrixrl.studies.engine import Engine, LocalEngine, cores, default_jobs
from matrixrl.studies.file import BEST_METRIC, SPECIAL, TIME_METRIC, Choice, StudyFile
from matrixrl.studies.launcher import (
    Launcher,
    LaunchOptions,
    MetricMissingError,
    SearchSpaceError,
    TrialSource,
    best_setting,
    words_of,
)
from matrixrl.studies.objective import ObjectiveReader
from matrixrl.studies.perform import ID_FILE
from matrixrl.studies.record import (
    LOCK_FILE,
    RECORD_FILE,
    RUNS_FOLDER,
    Study,
    about_file,
    differences_of,
    obstacle_of,
    read_study,
    save_study,
    study_from_text,
    with_defaults,
)
from matrixrl.studies.schema import Schema
from matrixrl.studies.store import UrlStore, is_url, local_path
from matrixrl.studies.table import is_number, study_table
from matrixrl.systems.spec import find_system
from matrixrl.tracking.identity import check_name
from matrixrl.tracking.locks import Lock, Owner
from matrixrl.tracking.numbers import plural
from matrixrl.tracking.status import Status, use

TRAINING = (("ppo", "train"), ("hackmatrix", "train"), ("matmul", "train"), ("matmul", "flip"))
"""Commands that a study can run."""

REMOVABLE_SECONDS = 600.0
"""A new study that is refused after it trained for longer than this keeps its folder."""


@dataclass(frozen=True, kw_only=True)
class StudyCommand:
    """Flags of both commands."""

    file: tyro.conf.Positional[Path]
    """Study file, in TOML (docs/many_machines.md)."""

    study_dir: str | None = None
    """Folder of the study, or a URL that fsspec can write to, such as s3://bucket/study.
    Default: runs/NAME, with the name of the file.
    """

    on: Literal["local", "ray"] = "local"
    """Where trials run: worker processes on this machine, or a Ray cluster."""

    jobs: int | None = None
    """Maximum number of trials at once. Default: as many as GPUs, otherwise cores, allow."""

    ray_address: str | None = None
    """Address of the Ray cluster's head, HOST:PORT, or auto.
    Default: RAY_ADDRESS, otherwise a cluster of this machine for this command.
    """

    cpus_per_trial: float = 1.0
    """Number of cores that Ray reserves for a trial."""

    gpus_per_trial: float = 0.0
    """Number of GPUs that Ray reserves for a trial."""

    scratch: Path | None = None
    """Folder on each node in which trials run, and from which they are copied to the study.
    Default: the study's folder where a node sees it, otherwise the node's folder for temporary
    files.
    """

    retries: int = 3
    """Number of times that a trial is resumed after its process died. Lost nodes do not count."""

    extend: bool = False
    """Add what a changed file has more of to the existing study."""

    json: bool = False
    """Print one JSON object as the last line of output."""

    def __post_init__(self) -> None:
        require(self.jobs is None or self.jobs >= 1, f"--jobs {self.jobs}: must be 1 or more")
        require(self.retries >= 0, f"--retries {self.retries}: must be 0 or more")
        cpus, gpus = self.cpus_per_trial, self.gpus_per_trial
        require(0 < cpus < math.inf, f"--cpus-per-trial {cpus:g}: must be a number above 0")
        require(0 <= gpus < math.inf, f"--gpus-per-trial {gpus:g}: must be a number of 0 or more")
        require(
            self.ray_address is None or self.on == "ray",
            f"--ray-address {self.ray_address}: is for --on ray; add it, or leave the address out",
        )

    @property
    def location(self) -> str:
        """Absolute folder of the study, or its URL."""
        given = local_path(self.study_dir or f"runs/{self.file.stem}")
        return given.rstrip("/") if is_url(given) else str(Path(given).expanduser().resolve())


def schema_of(command: str, where: str) -> Schema:
    """Returns the settings of a training command.

    Raises:
      ConfigError: if a study cannot run it.
    """
    words = tuple(command.split())
    known = [pair for pair in TRAINING if pair in COMMANDS]
    if words not in known:
        names = ", ".join(" ".join(pair) for pair in known)
        raise ConfigError(f'{where}: command = "{command}": must be one of {names}')
    entry = COMMANDS[words[0], words[1]]
    kind = getattr(importlib.import_module(entry.module), entry.settings)
    system = find_system(entry.system or words[0])
    best = None if system is None else system.spec.best
    vmapped = swept_settings() if kind is EnvironmentRunConfig else ()
    return Schema(command, kind, vmapped, best_is_lowest=best is not None and best.lowest)


class PointChecker:
    """Reads the settings of points as the training command does.

    Args:
      study: the file.
      schema: of its command.
    """

    def __init__(self, study: StudyFile, schema: Schema) -> None:
        self._study, self._schema = study, schema
        entry = COMMANDS[tuple(study.command.split())]  # pyright: ignore[reportArgumentType]
        self._module = importlib.import_module(entry.module)
        self._bases: dict[str, Any] = {}

    def read(self, point: Mapping[str, Any]) -> Any:
        """Returns the settings of a point, as its command line has them.

        Raises:
          ConfigError: if it is impossible.
        """
        given = {**self._study.settings, **point}
        return self._module.read_config([*self._schema.arguments(given), f"--seed={self._study.seeds[0]}"])

    def check(self, point: Mapping[str, Any]) -> Any:
        """Returns the settings of a point. A command line is read for the first one alone, and
        for each combination of names such as a preset, on which other settings may depend.

        Raises:
          ConfigError: if it is impossible.
        """
        names = sorted(name for name, value in point.items() if not is_number(value))
        key = repr([(name, point[name]) for name in names])
        if key not in self._bases:
            self._bases[key] = self.read(point)
        return self._schema.rebuilt(self._bases[key], point)


def checked_schema(study: StudyFile, schema: Schema, points: list[Mapping[str, Any]]) -> tuple[Schema, Any]:
    """Checks the settings of all points as the training command does, before anything starts.

    Returns:
      The schema, without settings of which one program could train several values if the command
      cannot do that with these settings, or has no objective for each of them; and the settings of
      the first point.

    Raises:
      ConfigError: if a point is impossible; the message names the file and the point.
    """
    checker = PointChecker(study, schema)
    try:
        config = checker.check(points[0])
    except ConfigError as error:
        raise ConfigError(f"{study.path}: {error}") from error
    for point in points:
        try:
            checker.check(point)
        except ConfigError as error:
            raise ConfigError(f"{study.path}: {words_of(point) or 'settings'}: {error}") from error
    require_metric(study, config)
    several = [
        value for point in points for name, value in {**study.settings, **point}.items() if name == "env"
    ]
    alone = any(names_gymnasium(str(value)) for value in several) or getattr(config, "auto_tune", False)
    # The best value of a run of several agents is that of the best one.
    alone = alone or (study.objective is not None and study.objective.metric in SPECIAL)
    return (schema.without_vmapped() if alone else schema), config


def require_environments(study: StudyFile, schema: Schema, command: StudyCommand, is_new: bool) -> None:
    """Refuses environments and networks that do not exist, before anything starts. Those of an
    existing study have been checked, except for a file that extends it.

    Raises:
      ConfigError: if one does not exist; the message names the file.
    """
    if schema.kind is not EnvironmentRunConfig or not (is_new or command.extend):
        return
    points = [{**study.settings, **point} for point in study.points or [{}]]
    names: list[Named] = []
    for flag, name in (("--env", "env"), ("--network", "network")):
        dimension = study.space.get(name)
        values = dimension.values if isinstance(dimension, Choice) else [point.get(name) for point in points]
        names += [(flag, str(value)) for value in values if value is not None]
    try:
        with use(status_of(command)):
            require_names(names, trained_elsewhere=command.on == "ray")
    except ConfigError as error:
        raise ConfigError(f"{study.path}: {error}") from error


def require_metric(study: StudyFile, config: Any) -> None:
    """Refuses an objective that no run of these settings has, where that is known before training.

    Raises:
      ConfigError: lists the metrics that there are.
    """
    objective = study.objective
    if objective is None:
        return
    words = tuple(study.command.split())
    entry = COMMANDS[words]  # pyright: ignore[reportArgumentType]
    system = find_system(entry.system or words[0])
    best = None if system is None else system.spec.best
    special = [] if best is None else [BEST_METRIC, *([TIME_METRIC] if best.lowest else [])]
    if objective.metric in special:
        return
    known = None if system is None or system.metrics is None else system.metrics(config)
    if system is None or known is None:
        if objective.metric in SPECIAL:
            raise ConfigError(
                f'{study.path}: [objective] metric = "{objective.metric}": `matrixrl {study.command}` has no such value'
            )
        return
    names = (objective.metric, system.spec.current_name(objective.metric))
    if any(fnmatchcase(name, pattern) for name in names for pattern in known):
        return
    near = difflib.get_close_matches(objective.metric, known, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    raise ConfigError(
        f'{study.path}: [objective] metric = "{objective.metric}": no run of `matrixrl {study.command}` has it; {meant}'
        f"its metrics are {', '.join([*special, *known])}"
    )


class StudyFolder:
    """The folder or URL of a study: its record, its lock, and what is removed if it is refused.

    Args:
      command: the command line.
    """

    def __init__(self, command: StudyCommand) -> None:
        self.location = command.location
        self._lock: Lock | None = None
        self._made: list[Path] = []
        self._opened = False
        self.is_new = True
        self.is_removed = False
        self.url = UrlStore(self.location) if is_url(self.location) else None
        self.study_id = secrets.token_hex(8)

    @property
    def folder(self) -> Path:
        """The local folder."""
        return Path(self.location)

    def read(self) -> Study | None:
        """Returns the existing study; None if there is none."""
        folder = self.folder
        try:
            if self.url is not None:
                return self._read_url(self.url)
            if folder.exists() and not folder.is_dir():
                raise ConfigError(f"--study-dir {folder}: is a file; name a folder")
            found = read_study(folder)
            if found is None and folder.exists() and any(folder.iterdir()):
                raise ConfigError(f"--study-dir {folder}: is no study and not empty; name another folder")
        except OSError as error:
            raise self._refusal(error) from error
        return found

    def _read_url(self, url: UrlStore) -> Study | None:
        content = url.get(RECORD_FILE)
        if content is not None:
            return study_from_text(content.decode(errors="replace"), self.location)
        # A study that is refused is removed with everything that is there.
        require(url.is_empty(), f"--study-dir {self.location}: is no study and not empty; name another one")
        return None

    def _refusal(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"--study-dir {self.location}: {error.strerror or error}; name a folder that this user can write to"
        )

    def open(self, study: Study, is_new: bool) -> None:
        """Makes the folder, takes its lock and writes the record.

        Raises:
          ConfigError: if another process runs the study, or the folder cannot be written.
        """
        self.is_new = is_new
        try:
            if self.url is not None:
                self._opened = True
                known = self.url.get(ID_FILE)
                self.study_id = known.decode() if known else self.study_id
                self.url.put(ID_FILE, self.study_id.encode())
            else:
                self._open_local()
            self._write(study)
        except OSError as error:
            self.remove()
            raise self._refusal(error) from error

    def _open_local(self) -> None:
        folder = self.folder
        self._made = [path for path in (folder, *folder.parents) if not path.exists()]
        (folder / RUNS_FOLDER).mkdir(parents=True, exist_ok=True)
        lock = Lock.take(folder / LOCK_FILE)
        if isinstance(lock, Owner):
            raise ConfigError(
                f"--study-dir {folder}: {lock} runs this study; stop it first, or name another folder"
            )
        self._lock, self._opened = lock, True
        if (folder / ID_FILE).exists():
            self.study_id = (folder / ID_FILE).read_text(encoding="utf-8")
        else:
            (folder / ID_FILE).write_text(self.study_id, encoding="utf-8")

    def save(self, study: Study) -> None:
        """Writes the record.

        Raises:
          ConfigError: if it cannot be written, such as to a full disk.
        """
        try:
            self._write(study)
        except OSError as error:
            raise ConfigError(
                f"--study-dir {self.location}: the record cannot be written ({error.strerror or error}); the runs are "
                "kept: free space, and start the command again"
            ) from error

    def _write(self, study: Study) -> None:
        if self.url is not None:
            self.url.put(RECORD_FILE, study.text().encode())
        else:
            save_study(study, self.folder)

    def close(self) -> None:
        """Releases the lock."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def remove(self) -> None:
        """Removes a new study."""
        self.close()
        self.is_removed = self.is_new
        if not self.is_new or (not self._opened and not self._made):
            return
        if self.url is not None:
            self.url.remove_all()
            return
        if self._made:
            shutil.rmtree(self.folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                for path in self._made[1:]:
                    path.rmdir()
        elif self._opened:  # an empty folder of the user: only what is in it goes
            for path in self.folder.iterdir():
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


def study_name(location: str) -> str:
    """Returns the name of a study, from the last part of its location.

    Raises:
      ConfigError: if its runs cannot be named after it.
    """
    name = re.sub(r"[^\w.-]+", "-", location.rstrip("/").rpartition("/")[2]).strip("-.") or "study"
    return check_name(name, "--study-dir")


def opened_study(
    command: StudyCommand, folder: StudyFolder, file: StudyFile, kind: Literal["sweep", "tune"]
) -> tuple[Study, bool]:
    """Returns the study of the folder, or a new one, and whether it is new. Writes nothing.

    Raises:
      ConfigError: if the folder holds another study, or the file was changed.
    """
    existing, about = folder.read(), about_file(file)
    if existing is None:
        return Study(folder.location, study_name(folder.location), kind, about), True
    if existing.kind != kind:
        raise ConfigError(
            f"--study-dir {folder.location}: was made by `matrixrl {existing.kind}`; name another folder"
        )
    known = with_defaults(existing.about)
    if changes := differences_of(known, about):
        text = "; ".join(changes[:8])
        if obstacle := obstacle_of(known, about, kind):
            raise ConfigError(
                f"{file.path}: differs from the study in {folder.location} {obstacle}: {text}; name another folder with "
                "--study-dir"
            )
        if not command.extend:
            raise ConfigError(
                f"{file.path}: differs from the study in {folder.location}: {text}; add --extend to extend the study, or "
                "name another folder with --study-dir"
            )
        if known.get("objective") != about.get("objective"):
            require_known_metric(folder, file)
    existing.about = about
    existing.location = folder.location
    for trial in existing.trials:
        # Resumed from its run folder; but Optuna knows already that a point of its failed.
        is_told = kind == "tune" and not trial.confirms and trial.status == "failed"
        if trial.status in ("running", "failed") and not is_told:
            trial.status = "waiting"
    if known.get("objective") != about.get("objective"):
        read_objectives(existing)
    return existing, False


def require_known_metric(folder: StudyFolder, file: StudyFile) -> None:
    """Refuses another objective for runs that this machine does not see.

    Raises:
      ConfigError: names the study.
    """
    if folder.url is not None:
        raise ConfigError(
            f"{file.path}: another [objective] than that of the study in {folder.location}, whose runs are not on this "
            "machine; name another folder with --study-dir"
        )


def read_objectives(study: Study) -> None:
    """Reads the objectives of all trials again from their journals: the objective has changed."""
    objective = study.objective
    for trial in study.trials:
        readers = [
            None
            if objective is None
            else ObjectiveReader(Path(study.runs) / trial.run_name, objective, member.agent)
            for member in trial.members
        ]
        trial.objectives = [None if reader is None else reader.value() for reader in readers]


def make_engine(command: StudyCommand, folder: StudyFolder) -> Engine:
    """Returns the engine that `--on` names, connected.

    Raises:
      ConfigError: if the extra is missing, or the address does not answer.
    """
    if command.on == "local":
        runs = None if folder.url is None else UrlStore(f"{folder.location}/{RUNS_FOLDER}")
        if runs is None and command.scratch is not None:
            from matrixrl.studies.store import FolderStore

            return LocalEngine(command.jobs or default_jobs(), FolderStore(folder.folder / RUNS_FOLDER))
        return LocalEngine(command.jobs or default_jobs(), runs)
    from matrixrl.studies.ray_engine import RayEngine

    return RayEngine(
        command.ray_address,
        jobs=command.jobs,
        cpus=command.cpus_per_trial,
        gpus=command.gpus_per_trial,
        runs=f"{folder.location}/{RUNS_FOLDER}",
    )


def opened_engine(command: StudyCommand, folder: StudyFolder, study: Study, is_new: bool) -> Engine:
    """Returns the connected engine, once the study's folder is open: a study that cannot be
    trained leaves no folder.

    Raises:
      ConfigError: as `make_engine` and `StudyFolder.open`.
    """
    engine = make_engine(command, folder)
    try:
        folder.open(study, is_new)
    except ConfigError:
        engine.close()
        raise
    return engine


def require_engine(command: StudyCommand) -> None:
    """Refuses an engine whose extra is missing, before anything else happens."""
    if command.on == "ray":
        from matrixrl.studies.ray_cluster import require_ray

        require_ray()


class StopSignals:
    """Converts the first SIGINT or SIGTERM to a request; a second SIGINT stops at once.

    Attributes:
      signal: the signal that came; None before.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def _handle(self, number: int, frame: object) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)

    @contextmanager
    def handled(self) -> Iterator[StopSignals]:
        """Handles signals inside the block, in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        previous = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def options_of(command: StudyCommand, folder: StudyFolder, file: StudyFile, schema: Schema) -> LaunchOptions:
    """Returns how the trials of a file are run."""
    words = file.command.split()
    jobs = command.jobs or default_jobs()
    return LaunchOptions(
        command=(words[0], words[1]),
        shared=schema.arguments(file.settings),
        arguments=schema.arguments,
        study_id=folder.study_id,
        retries=command.retries,
        scratch=None if command.scratch is None else str(command.scratch.resolve()),
        cores=max(1, int(command.cpus_per_trial) if command.on == "ray" else cores() // jobs),
    )


def launch(
    command: StudyCommand,
    folder: StudyFolder,
    study: Study,
    source: TrialSource,
    options: LaunchOptions,
    engine: Engine,
    status: Status,
) -> signal.Signals | None:
    """Runs the trials, with progress. Returns the signal that stopped the command, if one did.

    Raises:
      ConfigError: if no row has the objective's metric, or the search space no possible point.
    """
    signals = StopSignals()

    def progress(launcher: Launcher) -> None:
        if signals.signal is not None and not launcher.stopping:
            status.line(
                f"{signals.signal.name}: {plural(len(launcher.running), 'trial')} saving; Ctrl-C again stops at once"
            )
            launcher.stop()
        _show_progress(status, launcher)

    launcher = Launcher(study, engine, source, options, save=folder.save, show=status.line, progress=progress)
    with signals.handled(), use(status):
        try:
            launcher.run()
        except (MetricMissingError, SearchSpaceError) as error:
            engine.close()
            if folder.is_new and sum(launcher.ended_seconds) < REMOVABLE_SECONDS:
                folder.remove()
                raise ConfigError(f"{command.file}: {error}") from error
            raise ConfigError(f"{command.file}: {error}; the runs are kept in {study.runs}") from error
        finally:
            engine.close()
            if not folder.is_removed:
                folder.save(study)
    return signals.signal


def status_of(command: StudyCommand) -> Status:
    """Returns the status line of a command: on standard error if the answer is JSON."""
    return Status((lambda: sys.stderr) if command.json else (lambda: sys.stdout))


def _show_progress(status: Status, launcher: Launcher) -> None:
    counts = launcher.study.counts()
    done = counts["finished"] + counts["failed"] + counts["pruned"]
    words = [f"trials, {len(launcher.running)} running"]
    words += [f"{counts[state]} {state}" for state in ("failed", "pruned") if counts[state]]
    best = best_setting(launcher.study)
    text = (
        ""
        if best is None
        else f"best {number(best['objective'])} with {words_of(best['settings']) or 'these settings'}"
    )
    status.progress(launcher.study.kind, done, launcher.source.total, ", ".join(words), text)


def answer_of(study: Study) -> dict[str, Any]:
    """Returns the JSON object of a study."""
    return {
        "study": study.name,
        "study_dir": study.location,
        "kind": study.kind,
        "command": study.about["command"],
        "trials": list(study.entries()),
        "counts": study.counts(),
        "best": study.best or best_setting(study),
    }


def trial_lines(study: Study, limit: int = 40) -> list[str]:
    """Returns the table of a study's settings, the best first."""
    found = study_table(study)
    names = [name for name in found.columns if name != "seed"]
    rows = []
    is_confirmed = any(row["confirmed"] is not None for row in found.settings)
    for row in found.settings[:limit]:
        states = ", ".join(
            f"{count} {state}" if count > 1 else state for state, count in row["status"].items()
        )
        values = [setting_text(row["settings"].get(name)) for name in names]
        objectives = [number(row["objective"]), *([number(row["confirmed"])] if is_confirmed else [])]
        rows.append([*values, str(len(row["seeds"])), states, *objectives])
    heads = [found.metric or "objective", *(["confirmed"] if is_confirmed else [])]
    lines = table([*names, "seeds", "status", *heads], rows)
    more = len(found.settings) - limit
    return [*lines, f"... and {plural(more, 'other setting')}"] if more > 0 else lines


def command_line(command: StudyCommand) -> str:
    """Returns the file and flags with which a study continues as it began."""
    words = [str(command.file)]
    for item in dataclasses.fields(command):
        value = getattr(command, item.name)
        if item.name not in ("file", "extend") and value != item.default:
            flag = "--" + item.name.replace("_", "-")
            words += (
                [flag] if value is True else [flag, f"{value:g}" if isinstance(value, float) else str(value)]
            )
    return shlex.join(words)


def finish(
    command: StudyCommand,
    words: str,
    study: Study,
    stopped: signal.Signals | None,
    more: Callable[[], list[str]],
) -> int:
    """Prints what came out. Returns the exit status.

    Args:
      words: `sweep` or `tune`.
      more: returns further lines for people.
    """
    counts = study.counts()
    if command.json:
        print(json.dumps(answer_of(study)))
    else:
        print("\n".join(trial_lines(study)))
        print("\n".join([*more(), f"trials    matrixrl runs list --study {shlex.quote(study.location)}"]))
    if stopped is not None:
        complain(f"stopped by {stopped.name}; continue with: matrixrl {words} {command_line(command)}")
        return 128 + stopped
    if counts["failed"]:
        failed = [trial for trial in study.trials if trial.status == "failed"]
        complain(f"{plural(len(failed), 'trial')} failed, such as {failed[0].run_name}: {failed[0].error}")
        return 1
    return 0
