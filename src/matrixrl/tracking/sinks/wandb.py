"""The sink of Weights & Biases: online, or offline to a file in the run folder."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from matrixrl.config import ConfigError, require
from matrixrl.tracking.delivery_state import DeliveryState
from matrixrl.tracking.events import EPISODE_TABLE
from matrixrl.tracking.identity import run_id
from matrixrl.tracking.parquet import has_pyarrow
from matrixrl.tracking.sinks import wandb_client, wandb_identity
from matrixrl.tracking.sinks.base import (
    AheadError,
    EpisodeTable,
    Opened,
    RefusedError,
    Row,
    Sink,
    SinkContext,
    TakenOverError,
    UnavailableError,
    Upload,
    UploadItem,
)
from matrixrl.tracking.sinks.wandb_names import (
    artifact_part,
    configured,
    next_names,
    set_identity_variables,
)

OWNER_SECONDS = 60.0
"""Interval between two checks whether another copy of the run took the W&B run over."""

NAME = "wandb"


class WandbSink(Sink):
    """A W&B run. What it can hold and be named is checked by `wandb_identity` and `wandb_names`."""

    name: ClassVar[str] = NAME
    label: ClassVar[str] = "W&B"
    uploads: ClassVar[frozenset[str]] = frozenset({"checkpoint", "artifact", "journal", "episode_history"})
    sync_environment: ClassVar[Mapping[str, str]] = {"WANDB_MODE": "online"}
    unset_variables: ClassVar[tuple[str, ...]] = wandb_identity.UNSET_VARIABLES

    def __init__(self, context: SinkContext) -> None:
        super().__init__(context)
        self._run: wandb_client.WandbRun | None = None
        self._is_closed = False
        self._known_step = 0
        self._next_check = time.monotonic() + OWNER_SECONDS
        sweep = context.reader.meta.get("sweep")
        if unused := set_identity_variables(sweep if not context.state.name else None):
            self._notify(
                f"{', '.join(unused)} is not used: a run takes its W&B run from its own name, see --run-name"
            )

    @property
    def max_table_rows(self) -> int | None:
        """Number of rows of a table that W&B shows."""
        return wandb_client.MAX_TABLE_ROWS

    def open(self) -> Opened:
        """Opens or continues the run's W&B run, or an offline file."""
        plan = wandb_client.resolve_mode()
        if plan.mode == "none":
            raise RefusedError(plan.reason, is_expected=True)
        if plan.mode == "wait":
            raise UnavailableError(plan.reason)
        try:
            if plan.mode == "offline":
                self._run = self._open_run(self._offline_meta(), "offline")
                return Opened(self._last_offline_step(), {}, plan.reason, "an offline file")
            self._run = self._open_online()
        except RefusedError as error:
            raise RefusedError(
                f"{plan.reason} refused the run ({error})",
                advice="; another project is named with `runs sync --project`",
            ) from error
        except UnavailableError as error:
            raise UnavailableError(f"{plan.reason} failed ({error})") from error
        self._known_step = max(self._run.starting_step - 1, 0)
        self._send_missing_tables(self._run)
        return Opened(self._known_step, self._run.place)

    def write(self, rows: Sequence[Row]) -> None:
        """Logs rows, with the episode table where one is due."""
        run = self._opened
        for row in rows:
            run.log(row.step, row.metrics if row.table is None else self._with_table(row.metrics, row.table))

    def confirmed_step(self) -> int:
        """Asks the server once the run is closed; while it is open, returns what the server had at
        its opening.
        """
        if not self._is_closed:
            return self._known_step
        try:
            return wandb_client.last_step_on_server(self._opened.place["path"])
        except UnavailableError:
            return 0

    def close(self, status: str, seconds: float) -> bool:
        """Finishes the W&B run; returns whether wandb ended within `seconds`."""
        self._is_closed = self._opened.finish(0 if status == "finished" else 1, seconds)
        return self._is_closed

    def check(self) -> None:
        """Raises `TakenOverError` if another copy of this run continues the W&B run by now."""
        if time.monotonic() < self._next_check:
            return
        self._next_check = time.monotonic() + OWNER_SECONDS
        entity, project, identity = str(self._opened.place["path"]).split("/", 2)
        try:
            found = wandb_client.server_run(project, entity, identity)
        except (UnavailableError, RefusedError):
            return
        if found is not None and not set(found.attempts) <= set(
            self.context.reader.meta.get("attempt_tokens", ())
        ):
            raise TakenOverError(f"another copy of this run continues {found.url}")

    def upload(self, item: UploadItem) -> Upload:
        """Sends a file or folder as an artifact version."""
        identity = self._server_id
        name, kind = artifact_name(item, identity)
        metadata = {"run_id": identity, **item.metadata}
        if item.kind in ("checkpoint", "artifact"):
            metadata["step"] = item.step
        return self._opened.send_files(name, kind, [item.path], item.aliases, metadata)

    def delete_upload(self, full_name: str) -> None:
        """Deletes an artifact version."""
        self._opened.delete_artifact(full_name)

    @classmethod
    def check_sync(cls) -> None:
        """Raises `ConfigError` if W&B is disabled."""
        mode = configured("mode")
        if mode is not None and mode.value.lower() == "disabled":
            remedy = "unset WANDB_MODE" if mode.source == "WANDB_MODE" else "allow it with `wandb enabled`"
            raise ConfigError(f"runs sync: {wandb_client.said_by(mode)}, which forbids it; {remedy}")

    @property
    def _opened(self) -> wandb_client.WandbRun:
        assert self._run is not None
        return self._run

    @property
    def _server_id(self) -> str:
        """The id of the open W&B run."""
        return str(self._opened.place["path"]).rpartition("/")[2]

    def _notify(self, text: str, level: str = "info") -> None:
        self.context.notify(text, level)

    def _open_run(self, meta: Mapping[str, Any], mode: Any) -> wandb_client.WandbRun:
        context = self.context
        return wandb_client.WandbRun(context.directory, meta, mode, context.training_pid, self._on_stop)

    def _on_stop(self) -> None:
        self.context.stop_training("the stop button of the W&B page")

    def _open_online(self) -> wandb_client.WandbRun:
        """Opens the W&B run that belongs to this run, under the next free name where its own is
        gone.
        """
        state = self.context.state
        while True:
            meta = self._choose()
            try:
                return self._open_run(meta, "online")
            except wandb_client.NameGoneError as error:
                state.name = next(next_names(state.name or str(self.context.reader.meta["name"])))
                state.forget_destination()
                self._notify(f"{error}; this run is delivered as {state.name}", "warning")

    def _choose(self) -> dict[str, Any]:
        """Returns the W&B run to open, as the journal's `meta` with its name, id, project and
        entity.

        Raises:
            AheadError: if the server has rows that this copy of the run has not computed yet.
        """
        reader, state = self.context.reader, self.context.state
        in_sweep = bool(reader.meta.get("sweep")) and not state.name
        target = wandb_identity.choose(reader, state)
        if target.news:
            self._notify(target.news, "warning")
        if in_sweep and not target.meta.get("sweep"):
            # The trial's run belongs to another training: this one is delivered outside of the
            # sweep.
            wandb_client.forget_settings()
            set_identity_variables(None)
            wandb_client.resolve_mode()
        if target.waits:
            raise AheadError(target.last_step, {"url": target.url, "path": target.path})
        return target.meta

    def _offline_meta(self) -> dict[str, Any]:
        meta, renamed = self.context.reader.meta, self.context.state.name
        return {
            **meta,
            "name": renamed or str(meta["name"]),
            "run_id": run_id(renamed) if renamed else meta["run_id"],
        }

    def _last_offline_step(self) -> int:
        """Returns the step at which earlier offline files end: a kill loses rows that wandb was
        given.
        """
        for fragment in reversed(wandb_client.fragments(self.context.directory)):
            last = 0
            for row in wandb_client.offline_rows(fragment):
                last = row.step
            if last:
                return last
        return 0

    def _with_table(self, metrics: Mapping[str, Any], table: EpisodeTable) -> dict[str, Any]:
        values = {**metrics, EPISODE_TABLE: self._opened.table(table.columns, table.rows)}
        if table.total > len(table.rows):
            everything = f"artifact episode-history-{self._server_id}" if has_pyarrow() else "journal"
            values[wandb_client.TABLE_ROWS_KEY] = (
                f"the last {len(table.rows)} of {table.total} rows; all of them are in the {everything}"
            )
        return values

    def _send_missing_tables(self, run: wandb_client.WandbRun) -> None:
        """Sends the episode tables whose rows the server has but whose files it lacks, after a kill
        in between.
        """
        reader = self.context.reader
        steps = [mark.step for mark in reader.marks() if mark.step <= self._known_step]
        if not steps:
            return
        try:
            there = wandb_client.table_steps(run.place["path"])
        except UnavailableError:
            return  # the next attempt, or `runs sync`, tries again
        missing = [step for step in steps if step not in there]
        files = wandb_client.local_tables(self.context.directory) if missing else {}
        for step in missing:
            intact = [file for file in files.get(step, []) if wandb_client.is_intact(file[0])]
            for path, name in intact:
                run.send_again(path, name)
            if not intact:
                self._rebuild_table(run, step)

    def _rebuild_table(self, run: wandb_client.WandbRun, step: int) -> None:
        """Sends an episode table whose file is not in this run folder, as after `runs restore`,
        from the journal.
        """
        reader = self.context.reader
        try:
            name = wandb_client.table_file_of_row(run.place["path"], step)
        except UnavailableError:
            return  # the next attempt, or `runs sync`, tries again
        if name is not None:
            rows = reader.last_episodes(step, wandb_client.MAX_TABLE_ROWS)
            run.write_table(name, list(reader.episode_columns), rows)


def artifact_name(item: UploadItem, identity: str) -> tuple[str, str]:
    """Returns name and type of the artifact of a file.

    Args:
        identity: of the W&B run; it is in the name, so that no two runs share an artifact.
    """
    match item.kind:
        case "checkpoint":
            return f"checkpoint-{identity}-{item.step}", "model"
        case "journal":
            return f"journal-{identity}", "journal"
        case "episode_history":
            return f"episode-history-{identity}", "episode_history"
    return artifact_part(f"{item.path.stem[:80]}-{identity}{item.path.suffix}"), "result"


def readdress(directory: Path, project: str | None, entity: str | None) -> None:
    """Delivers a run to another project or entity from now on.

    Raises:
        ConfigError: if the server has rows of it elsewhere already.
    """
    state = DeliveryState.load(directory, NAME) or DeliveryState()
    if state.place:
        entity_there, project_there, _ = str(state.place["path"]).split("/", 2)
        moved = (project or project_there, entity or entity_there) != (project_there, entity_there)
        require(
            not moved,
            f"runs sync {directory.name}: it is at {state.place.get('url')} already; a run is moved on its page of W&B",
        )
        return
    chosen = {"project": project, "entity": entity}
    state.own |= {name: value for name, value in chosen.items() if value}
    state.save(directory, NAME)
