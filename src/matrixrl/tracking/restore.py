"""Restores a run folder from W&B: a checkpoint, and the copy of the journal that reaches it."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matrixrl.config import ConfigError
from matrixrl.run_layout import CHECKPOINTS_FOLDER
from matrixrl.tracking.delivery_state import DeliveryState
from matrixrl.tracking.files import sha256_of
from matrixrl.tracking.identity import (
    RUN_FILE,
    check_name,
    names_at_sinks,
    run_folders,
    run_id,
)
from matrixrl.tracking.journal import JOURNAL_FILE, JournalError
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.packed import unpack_journal
from matrixrl.tracking.sinks import wandb_client
from matrixrl.tracking.sinks.base import RefusedError, UnavailableError
from matrixrl.tracking.sinks.wandb import NAME as WANDB
from matrixrl.tracking.sinks.wandb_client import LoggedArtifact, ServerRun
from matrixrl.tracking.transcript import complete_transcript

RUN_ID = re.compile(r"[0-9a-z]{8}")


@dataclass(frozen=True)
class Restored:
    """A run folder that can be resumed.

    Attributes:
        step: where its checkpoint stands.
        recorded_until: the last step of its journal; 0 where W&B holds no copy of the journal.
        warnings: what is not as it should be, one line each.
    """

    directory: Path
    run_id: str
    system: str
    step: int
    recorded_until: int
    warnings: list[str]


def restore(
    reference: str,
    runs_dir: Path,
    *,
    projects: Sequence[str],
    entity: str | None,
    check: Callable[[Path], dict[str, Any]],
    step: int | None = None,
    best: bool = False,
) -> Restored:
    """Downloads a run from W&B into a new run folder.

    Taken is the newest whole checkpoint that the copy of the journal reaches, unless `step` or
    `best` says another. The folder is filled under a hidden name and renamed when it is whole.

    Args:
        reference: name or id of the run.
        projects: where to look for it, in this order.
        entity: None for WANDB_ENTITY or the account's own.
        check: is given a checkpoint's folder; returns its record, or raises ValueError where it is
            not whole.
        step: take the checkpoint of this step.
        best: take the best one.

    Raises:
        ConfigError: W&B cannot be used, there is no such run or checkpoint, the folder exists, or
            cannot be written.
    """
    try:
        wandb_client.require_server()
        server, there = _find(reference, projects, entity)
        identity = server.path.rpartition("/")[2]
        for folder in run_folders(runs_dir):
            if identity in {run_id(folder.name), *names_at_sinks(folder)}:
                raise ConfigError(
                    f"runs restore {reference}: {folder} exists; continue it with --resume-run {folder.name}, or name another "
                    "folder with --runs-dir"
                )
        runs_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".restore-{os.getpid()}-", dir=runs_dir) as draft:
            return _fill(Path(draft), reference, server, there, runs_dir, check, step, best)
    except (UnavailableError, RefusedError) as error:
        raise ConfigError(f"runs restore {reference}: {error}") from error
    except JournalError as error:
        raise ConfigError(
            f"runs restore {reference}: the copy of the journal is damaged ({error})"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"--runs-dir {runs_dir}: {error.strerror or error}; name a folder that this user can write to"
        ) from error


def _find(
    reference: str, projects: Sequence[str], entity: str | None
) -> tuple[ServerRun, list[LoggedArtifact]]:
    """Returns the run on the server, and the artifacts that it logged."""
    identities = [reference] if RUN_ID.fullmatch(reference) else []
    for identity in [*identities, run_id(reference)]:
        for project in projects:
            server = wandb_client.server_run(project, entity, identity)
            if server is not None:
                return server, wandb_client.logged_artifacts(project, entity, identity) or []
    raise ConfigError(
        f"runs restore {reference}: no run of this name or id at {wandb_client.server_url()} in {' or '.join(projects)}; "
        "see --project and --entity"
    )


def _fill(
    draft: Path,
    reference: str,
    server: ServerRun,
    there: Sequence[LoggedArtifact],
    runs_dir: Path,
    check: Callable[[Path], dict[str, Any]],
    step: int | None,
    best: bool,
) -> Restored:
    run = draft / "run"
    run.mkdir()
    identity = server.path.rpartition("/")[2]
    warnings: list[str] = []
    recorded = _fetch_journal(there, identity, draft, run)
    if recorded is None:
        warnings.append(
            "W&B holds no copy of the journal: what was recorded until the checkpoint is not restored"
        )
    chosen, record = _fetch_checkpoint(
        there, reference, identity, recorded, draft, run, check, step, best, warnings
    )
    if recorded is None:
        recorded = 0
        _write_run_file(run, server, record)
    elif recorded < chosen:
        warnings.append(
            f"the copy of the journal ends at step {recorded}: rows until step {chosen} are not restored"
        )
    about = json.loads((run / RUN_FILE).read_text())
    name = check_name(str(about["name"]), "the run's name")
    if (run / JOURNAL_FILE).exists():
        _fetch_files(there, draft, run)
        complete_transcript(run)
    target = runs_dir / name
    if target.exists():
        raise ConfigError(f"runs restore {reference}: {target} exists; name another folder with --runs-dir")
    run.rename(target)
    return Restored(target, identity, str(about.get("system")), chosen, recorded, warnings)


def _fetch_journal(there: Sequence[LoggedArtifact], identity: str, draft: Path, run: Path) -> int | None:
    """Unpacks the newest copy of the journal. Returns its last step; None if there is no copy."""
    copies = [artifact for artifact in there if artifact.name == f"journal-{identity}"]
    if not copies:
        return None
    newest = max(copies, key=_version)
    folder = draft / "journal"
    wandb_client.download_artifact(newest.full_name, folder)
    unpack_journal(folder, run, str(newest.metadata.get("sha256")))
    shutil.rmtree(folder)
    return int(newest.metadata.get("step", 0))


def _fetch_checkpoint(
    there: Sequence[LoggedArtifact],
    reference: str,
    identity: str,
    recorded: int | None,
    draft: Path,
    run: Path,
    check: Callable[[Path], dict[str, Any]],
    step: int | None,
    best: bool,
    warnings: list[str],
) -> tuple[int, dict[str, Any]]:
    """Downloads the requested complete checkpoint. Returns its step and record."""
    # Before their names held the run's id, runs of one project shared collections; these versions
    # are the run's own.
    pattern = re.compile(rf"checkpoint-(?:{re.escape(identity)}-)?(\d+)")
    saved = [(int(match[1]), a) for a in there if (match := pattern.fullmatch(a.name))]
    # Of one step the newest version: a run that went back to a checkpoint passes a step again.
    saved.sort(key=lambda item: (item[0], _version(item[1])), reverse=True)
    steps = sorted({at for at, _ in saved})
    if not saved:
        raise ConfigError(
            f"runs restore {reference}: W&B holds no checkpoint of this run (it was started with --no-artifact, or saved "
            "none yet)"
        )
    if step is not None:
        wanted = [item for item in saved if item[0] == step]
        missing = f"--step {step}: W&B holds the checkpoints {', '.join(map(str, steps))}"
    elif best:
        wanted = [item for item in saved if "best" in item[1].aliases]
        missing = f"--best: none of the checkpoints {', '.join(map(str, steps))} is marked as the best"
    else:
        # First those that the journal reaches: with them nothing is lost.
        wanted = sorted(saved, key=lambda item: recorded is None or item[0] <= recorded, reverse=True)
        missing = ""
    if not wanted:
        raise ConfigError(f"runs restore {reference} {missing}")
    damaged = []
    for at, artifact in wanted:
        folder = draft / f"checkpoint-{at}"
        try:
            wandb_client.download_artifact(artifact.full_name, folder)
            record = check(folder)
        except (UnavailableError, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            damaged.append(f"the checkpoint at step {at} is damaged on W&B ({error})")
            continue
        warnings += damaged
        target = run / CHECKPOINTS_FOLDER / str(at)
        target.parent.mkdir()
        folder.rename(target)
        return at, record
    raise ConfigError(f"runs restore {reference}: {'; '.join(damaged)}")


def _version(artifact: LoggedArtifact) -> int:
    return int(artifact.full_name.rpartition(":v")[2])


def _write_run_file(run: Path, server: ServerRun, record: dict[str, Any]) -> None:
    """Writes `run.json` of a run whose journal is lost, from its checkpoint and the server."""
    name, system = record.get("run"), record.get("system")
    identity = server.path.rpartition("/")[2]
    same = record.get("identity", server.identity) == server.identity
    if not isinstance(name, str) or system is None or not same:
        raise ConfigError(
            f"runs restore {identity}: without a copy of the journal, and its checkpoint does not say which run it belongs to"
        )
    about = {"name": name, "run_id": run_id(name), "system": system, "config": record.get("config", {})}
    if server.identity:
        about |= {"identity": server.identity, "attempt_tokens": server.attempts}
    (run / RUN_FILE).write_text(json.dumps(about, indent=2) + "\n")
    # The rows until here are on the server alone: the new journal continues them.
    state = DeliveryState(mode="online", place={"url": server.url, "path": server.path})
    state.confirmed_step = server.last_step
    state.name = "" if run_id(name) == identity else server.name
    state.save(run, WANDB)


def _fetch_files(there: Sequence[LoggedArtifact], draft: Path, run: Path) -> None:
    """Downloads the other files that the journal lists, such as the best scheme."""
    state = DeliveryState.load(run, WANDB)
    if state is None:
        return
    logged = {artifact.full_name for artifact in there}
    with JournalReader(run) as reader:
        records = [record for record in reader.files() if record.kind == "artifact"]
    for record in records:
        sent = state.artifacts.get(record.path, {})
        if sent.get("sha256") != record.sha256 or sent.get("name") not in logged or "/" in record.path:
            continue
        folder = draft / "file"
        wandb_client.download_artifact(sent["name"], folder)
        if (folder / record.path).exists() and sha256_of(folder / record.path)[0] == record.sha256:
            (folder / record.path).rename(run / record.path)
        shutil.rmtree(folder)
