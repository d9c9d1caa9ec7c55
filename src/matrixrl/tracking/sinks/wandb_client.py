"""The one module that imports wandb: resolves the mode, opens a W&B run, logs rows, reads W&B back.

Used by the delivery process, `runs sync` and `runs audit`; never inside a training process. The
facts about wandb 0.31 that this file is built on are in docs/events.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import struct
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from matrixrl.config import ConfigError
from matrixrl.errors import first_line
from matrixrl.tracking.events import EPISODE_TABLE, Kind, Scalar
from matrixrl.tracking.sinks.base import RefusedError, StoredRow, UnavailableError
from matrixrl.tracking.sinks.wandb_names import Configured, configured

INSTALL_HINT = "install it with `pip install 'matrixrl[wandb]'`"
MAX_TABLE_ROWS = 10_000
"""W&B shows no more rows of a table than these; the rest goes up as Parquet."""

TABLE_ROWS_KEY = f"{EPISODE_TABLE}/rows"
"""Beside a table that does not show every row: `10000 of 25000 rows; ...`."""

IDENTITY_KEY = "run_identity"
"""In the config of a W&B run: the random identity of the run whose rows it holds."""

ATTEMPTS_KEY = "run_attempts"
"""In the config of a W&B run: the tokens of the attempts that delivered to it."""

MODES = ("online", "offline", "disabled", "dryrun", "run", "shared")

AWAY = (
    "did not respond",
    "timed out",
    "timeout",
    "deadline exceeded",
    "connection refused",
    "connection reset",
)
"""In errors of wandb: the server does not answer."""

REFUSALS = (
    "permission",
    "not logged in",
    "unauthorized",
    "forbidden",
    "not found during",
    "entity not found",
    "project not found",
    "invalid project",
    "invalid entity",
)
"""In errors of wandb that come without an HTTP status: the server answered, and the answer is no.
"""

PYTHON_TYPES: Mapping[Kind, type] = {"int": int, "float": float, "bool": bool, "str": str}


class DeliveryMode(NamedTuple):
    """What will happen to the rows of a run.

    Attributes:
        mode: `online`; `offline`: to a file in the run folder; `wait`: stay in the journal until
            the server answers; `none`: stay in the journal.
        reason: for the user, without the remedy.
    """

    mode: Literal["online", "offline", "wait", "none"]
    reason: str


class NameGoneError(RefusedError):
    """A run of this id was deleted on the server, which never gives the id to another one."""


def resolve_mode() -> DeliveryMode:
    """Decides between online, offline and none before wandb.init could block or ask (rule 4).

    Honours WANDB_MODE, WANDB_BASE_URL and W&B's settings files (`wandb offline`, `wandb disabled`).
    The process that calls this has no terminal, so wandb cannot prompt.
    """
    setting = configured("mode")
    mode = "" if setting is None else setting.value.lower()
    os.environ.pop("WANDB_MODE", None)
    by_variable = setting is not None and setting.source == "WANDB_MODE"
    if mode not in MODES:
        if by_variable:
            return DeliveryMode("none", f"WANDB_MODE={mode} is none of {', '.join(MODES)}")
        mode = ""  # wandb ignores such a settings file
    elif by_variable:
        os.environ["WANDB_MODE"] = mode
    said = "" if setting is None else said_by(setting)
    if mode == "disabled":
        return DeliveryMode("none", said)
    try:
        with pandas_hidden():
            import wandb
    except ImportError as error:
        return DeliveryMode("none", f"wandb cannot be imported ({error}); {INSTALL_HINT}")
    if not hasattr(wandb, "init"):
        return DeliveryMode("none", f"wandb is not installed; {INSTALL_HINT}")
    if mode in ("offline", "dryrun"):
        return DeliveryMode("offline", said)
    if problem := key_problem():
        return DeliveryMode("offline", problem)
    host = server_url()
    return DeliveryMode("online", host) if answers(host) else DeliveryMode("wait", f"{host} does not answer")


def said_by(setting: Configured) -> str:
    """Returns who chose the mode, in words: a variable, or a settings file that `wandb offline`
    wrote.
    """
    if setting.source == "WANDB_MODE":
        return f"WANDB_MODE={setting.value.lower()}"
    return f"{setting.source} says mode = {setting.value} (`wandb online` changes that)"


@contextlib.contextmanager
def pandas_hidden() -> Iterator[None]:
    """Hides pandas from a library that is imported meanwhile.

    wandb looks for pandas when it is imported. If it finds it, the first table imports it, which
    costs a second of processor time, only to ask whether a value is a data frame. PyArrow, which
    comes later, has to see pandas.
    """
    if "pandas" in sys.modules:
        yield
        return
    sys.modules["pandas"] = None  # pyright: ignore[reportArgumentType]
    try:
        yield
    finally:
        del sys.modules["pandas"]


def key_problem() -> str | None:
    """Returns what is wrong with the key for the server, without asking the server; None if nothing
    is.
    """
    import wandb
    from wandb import errors

    host = server_url()
    try:
        if wandb.login(verify=False):
            return None
    except (errors.AuthenticationError, ValueError) as error:
        return f"the key for {host} is malformed ({first_line(error)})"
    except errors.UsageError:
        pass
    return f"no key for {host}; get one with `wandb login`"


def require_server() -> None:
    """Checks the key and the server, since wandb's own client would try for minutes.

    Raises:
        UnavailableError: there is no key, or the server does not answer.
    """
    import wandb

    # Whoever asks the server by name means it, whatever `wandb offline` said for new runs.
    wandb.setup(wandb.Settings(mode="online"))
    problem = key_problem()
    if problem is None and not answers(server_url()):
        problem = f"{server_url()} does not answer"
    if problem:
        raise UnavailableError(problem)


@contextlib.contextmanager
def never_asking() -> Iterator[None]:
    """Hides the terminal from wandb, which would otherwise ask for a key and wait."""
    terminal = sys.stdin
    with open(os.devnull, encoding="utf-8") as sys.stdin:
        try:
            yield
        finally:
            sys.stdin = terminal


def forget_settings() -> None:
    """Makes wandb read its environment again at the next call."""
    import wandb

    wandb.teardown()


def server_url() -> str:
    """Returns the server that wandb uses: WANDB_BASE_URL, or the installed version's own."""
    import wandb

    return str(wandb.setup().settings.base_url)


def answers(url: str, timeout: float = 5.0) -> bool:
    """Returns whether a server answers at all, with success or an error."""
    try:
        urllib.request.urlopen(url, timeout=timeout).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
    return True


class ArtifactUpload:
    """An artifact version on its way to the server.

    A `wait` of wandb that times out cancels the upload, so a thread waits without a limit.

    Attributes:
        full_name: entity/project/name:version, once the server has committed it; None before, and
            when it failed.
    """

    def __init__(self, handle: Any) -> None:
        self.full_name: str | None = None
        self._done = threading.Event()
        threading.Thread(target=self._wait, args=(handle,), daemon=True).start()

    def _wait(self, handle: Any) -> None:
        try:
            handle.wait()
            self.full_name = handle.qualified_name
        finally:
            self._done.set()

    def done(self, seconds: float) -> bool:
        """Returns whether it has arrived or failed, waiting at most `seconds`."""
        return self._done.wait(max(seconds, 0.0))


class WandbRun:
    """An open W&B run.

    Args:
        directory: the run folder; wandb's files go below it.
        meta: the `meta` table of the journal, with the name, id and place of the W&B run, and how
            it is to be opened: `resume` is `never` (it must not exist), `must` (it must) or, by
            default, `allow`.
        mode: `online` or `offline`.
        training_pid: the process whose CPU, memory and accelerator W&B shows; None in `runs sync`.
        on_stop: called from a thread of wandb's when the run's page asks to stop.

    Raises:
        UnavailableError: the server does not answer as it should.
        RefusedError: the server does not accept the key or the project.
    """

    def __init__(
        self,
        directory: Path,
        meta: Mapping[str, Any],
        mode: Literal["online", "offline"],
        training_pid: int | None,
        on_stop: Callable[[], None] = lambda: None,
    ) -> None:
        import wandb
        from wandb import errors

        # Bytes that wandb stages for upload stay inside the run folder.
        os.environ.setdefault("WANDB_DATA_DIR", str(directory / "wandb"))
        options: dict[str, Any] = {
            "console": "off",
            "disable_git": True,
            # Its environment would name another run.
            "sagemaker_disable": True,
            "save_code": False,
            # By default wandb interrupts the main thread of this process, which is not the one that
            # trains.
            "stop_fn": on_stop,
        }
        if training_pid is None:
            options["x_disable_stats"] = True
            options["x_disable_machine_info"] = True
        else:
            options["x_stats_pid"] = training_pid
        if "WANDB_INIT_TIMEOUT" not in os.environ:
            options["init_timeout"] = 20
        self._wandb = wandb
        self._errors = errors
        self.mode = mode
        identity = {
            key: meta[name]
            for key, name in ((IDENTITY_KEY, "identity"), (ATTEMPTS_KEY, "attempt_tokens"))
            if meta.get(name)
        }
        try:
            self._run = wandb.init(
                project=meta["project"],
                entity=meta.get("entity") or None,
                id=meta["run_id"],
                name=meta["name"],
                dir=directory,
                resume=meta.get("resume", "allow"),
                mode=mode,
                # With the request that creates the run: no other process can come between.
                config=identity,
                settings=wandb.Settings(**options),
            )
        except (errors.Error, TimeoutError, ValueError) as error:
            # The service keeps the run's id after a failure, and would refuse it at the next try.
            wandb.teardown()
            raise translated(error) from error
        if self._run.id != meta["run_id"]:
            opened = self._run.url or self._run.id
            self.finish(1, 10.0)
            raise RefusedError(
                f"wandb opened the run {opened} instead of {meta['run_id']}: its environment names another run"
            )
        if mode == "online" and meta.get("resume") == "never":
            self._check_created(meta)
        self._run.config.update({**meta["config"], **identity}, allow_val_change=True)
        self._run.define_metric("epoch_*", step_metric="Epoch")

    def _check_created(self, meta: Mapping[str, Any]) -> None:
        """Asks the server whose run it created: two processes may have asked for the same name at
        once.
        """
        path = str(self.place["path"])
        entity, project, run_id = path.split("/", 2)
        found = server_run(project, entity, run_id)
        if found is not None and found.identity != meta.get("identity"):
            self.finish(1, 10.0)
            raise UnavailableError(f"another process created the run {meta['name']} at the same moment")

    @property
    def place(self) -> dict[str, Any]:
        """Where the run is on the server."""
        return {"url": self._run.url, "path": f"{self._run.entity}/{self._run.project}/{self._run.id}"}

    @property
    def starting_step(self) -> int:
        """The first step that the server does not have yet (online only)."""
        return self._run.starting_step

    def log(self, step: int, row: Mapping[str, Any]) -> None:
        """Sends one row; steps must increase."""
        self._run.log(dict(row), step=step, commit=True)

    def table(self, columns: Mapping[str, Kind], rows: list[list[Scalar]]) -> Any:
        """Returns the episode table for a row, at most `MAX_TABLE_ROWS` long."""
        types = [PYTHON_TYPES[kind] for kind in columns.values()]
        table = self._wandb.Table(columns=list(columns), dtype=types, optional=True)
        # Not by add_data, which would check the type of every cell again: 0.3 s per 1000 rows.
        table.data = rows
        return table

    def send_files(
        self, name: str, kind: str, files: Sequence[Path], aliases: Sequence[str], metadata: Mapping[str, Any]
    ) -> ArtifactUpload:
        """Sends files of the run folder as one artifact version, without a copy."""
        artifact = self._wandb.Artifact(name, kind, metadata=dict(metadata))
        for path in files:
            if path.is_dir():
                artifact.add_dir(str(path), policy="immutable", skip_cache=True)
            else:
                artifact.add_file(str(path), policy="immutable", skip_cache=True)
        return ArtifactUpload(self._run.log_artifact(artifact, aliases=list(aliases)))

    def send_again(self, source: Path, name: str) -> None:
        """Sends a file that an earlier process wrote for this run and whose upload was cut off.

        Args:
            name: relative to the run's files, on the server too.
        """
        target = Path(self._run.dir) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copyfile(source, target)
        self._run.save(str(target), base_path=self._run.dir, policy="now")

    def write_table(self, name: str, columns: list[str], rows: list[list[Scalar]]) -> None:
        """Writes the file of an episode table that a row on the server names, and sends it.

        Args:
            name: relative to the run's files, on the server too.
        """
        target = Path(self._run.dir) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps({"columns": columns, "data": rows}), encoding="utf-8")
        self._run.save(str(target), base_path=self._run.dir, policy="now")

    def delete_artifact(self, full_name: str) -> None:
        """Deletes an artifact version; one that does not exist is no error."""
        with contextlib.suppress(self._errors.Error, ValueError):
            self._wandb.Api().artifact(full_name).delete(delete_aliases=True)

    def finish(self, exit_code: int, seconds: float) -> bool:
        """Closes the run; returns whether that was done within `seconds`."""
        done = threading.Event()

        def close() -> None:
            self._run.finish(exit_code=exit_code)
            done.set()

        threading.Thread(target=close, daemon=True).start()
        return done.wait(max(seconds, 0.0))


def translated(error: Exception) -> Exception:
    """Returns what an error of wandb means: refused for good, or not reachable now."""
    from wandb import errors

    text = first_line(error)
    lower = str(error).lower()
    if "previously created and deleted" in lower:
        return NameGoneError(text)
    code = re.search(
        r"\b(?:http|returned|status|error)[^0-9]{0,30}\b([45]\d\d)\b|\b([45]\d\d) (?=[a-z])", lower
    )
    status = int(code[1] or code[2]) if code else 0
    # wandb calls it an authentication error, too, when the server that should check the key does
    # not answer.
    if status >= 500 or status in (408, 425, 429) or any(words in lower for words in AWAY):
        return UnavailableError(text)
    if isinstance(error, errors.UsageError):
        # Another process came between the question whether the run exists and its opening.
        raced = "already exists, but" in lower or "does not exist or has not been initialized" in lower
        return UnavailableError(text) if raced else RefusedError(text)
    # A ValueError is a setting that wandb does not accept.
    refused = isinstance(error, errors.AuthenticationError | ValueError)
    if refused or status or any(words in lower for words in REFUSALS):
        return RefusedError(text)
    return UnavailableError(text)


class ServerRun(NamedTuple):
    """A run as the server has it.

    Attributes:
        path: entity/project/id.
        identity: of the run whose rows it holds; None where an older matrixrl, or another program,
            made it.
        attempts: tokens of the attempts that delivered to it.
        last_step: of its history; 0 where it has no row.
    """

    path: str
    name: str
    url: str
    identity: str | None
    attempts: list[str]
    last_step: int


def server_run(project: str, entity: str | None, run_id: str) -> ServerRun | None:
    """Returns a run of the server, None where it has none of this id.

    Args:
        entity: None for WANDB_ENTITY or the account's own.

    Raises:
        UnavailableError: the server does not answer as it should.
        RefusedError: it refuses the key, the entity or the project.
    """
    import requests
    import wandb
    from wandb import errors

    try:
        api = wandb.Api(timeout=20)
        path = f"{entity or api.default_entity}/{project}/{run_id}"
        run = api.run(path)
        config = dict(run.config)
        attempts = config.get(ATTEMPTS_KEY)
        return ServerRun(
            path,
            str(run.name),
            str(run.url),
            config.get(IDENTITY_KEY),
            [str(token) for token in attempts] if isinstance(attempts, list) else [],
            max(int(run.lastHistoryStep), 0),
        )
    except (errors.Error, requests.RequestException, ValueError, TypeError) as error:
        if "Could not find run" in str(error):  # wandb has no type of its own for it
            return None
        raise translated(error) from error


def last_step_on_server(path: str) -> int:
    """Returns the last step that the server has of a run.

    Raises:
        UnavailableError: the server does not answer.
    """
    import wandb
    from wandb import errors

    try:
        return int(wandb.Api(timeout=20).run(path).lastHistoryStep)
    except (errors.Error, ValueError, TypeError) as error:
        raise UnavailableError(first_line(error)) from error


def server_rows(path: str, first: int | None = None, last: int | None = None) -> Iterator[StoredRow]:
    """Yields history rows of a run in the order of the server, all or those from `first` to `last`.

    Raises:
        UnavailableError: the server does not answer, or does not have the run.
    """
    import wandb
    from wandb import errors

    try:
        run = wandb.Api(timeout=60).run(path)
        until = None if last is None else last + 1
        for row in run.scan_history(use_cache=False, min_step=first or 0, max_step=until):
            yield StoredRow(int(row["_step"]), own_values(row))
    except (errors.Error, ValueError, TypeError) as error:
        raise UnavailableError(first_line(error)) from error


def server_file(path: str, name: str, folder: Path) -> Path:
    """Downloads a file of a run.

    Raises:
        UnavailableError: the server does not answer, or does not have the file.
    """
    import wandb
    from wandb import errors

    try:
        with wandb.Api(timeout=60).run(path).file(name).download(root=str(folder), replace=True) as file:
            return Path(file.name)
    except (errors.Error, ValueError, TypeError, IndexError) as error:
        raise UnavailableError(first_line(error)) from error


def table_steps(path: str) -> set[int]:
    """Returns the steps whose episode table is stored on the server as a file.

    Raises:
        UnavailableError: the server does not answer, or does not have the run.
    """
    import requests
    import wandb
    from wandb import errors

    try:
        files = wandb.Api(timeout=60).run(path).files(per_page=1000)
        # A file whose upload was announced and never came has no bytes.
        names = [file.name for file in files if file.size]
    except (errors.Error, requests.RequestException, ValueError, TypeError) as error:
        raise UnavailableError(first_line(error)) from error
    return {step for step in map(table_step, names) if step is not None}


def table_step(name: str) -> int | None:
    """Returns the step of an episode table by the name of its file; None for another file."""
    found = re.fullmatch(rf"media/table/{EPISODE_TABLE}_(\d+)_\w+\.table\.json", name)
    return int(found[1]) if found else None


def local_tables(directory: Path) -> dict[int, list[tuple[Path, str]]]:
    """Returns the table files that wandb wrote in a run folder, by step, each with its name on the
    server.
    """
    found: dict[int, list[tuple[Path, str]]] = {}
    for path in directory.glob(f"wandb/*run-*/files/media/table/{EPISODE_TABLE}_*.table.json"):
        name = f"media/table/{path.name}"
        step = table_step(name)
        if step is not None:
            found.setdefault(step, []).append((path, name))
    return found


def is_intact(table: Path) -> bool:
    """Returns whether the file of an episode table is whole: its name ends in the beginning of its
    SHA-256.
    """
    begun = table.name.removesuffix(".table.json").rpartition("_")[2]
    try:
        return hashlib.sha256(table.read_bytes()).hexdigest().startswith(begun)
    except OSError:
        return False


def table_file_of_row(path: str, step: int) -> str | None:
    """Returns the name of the table file that a history row on the server refers to; None where it
    names none.

    Raises:
        UnavailableError: the server does not answer, or does not have the run.
    """
    for row in server_rows(path, step, step):
        table = row.values.get(EPISODE_TABLE)
        if row.step == step and isinstance(table, dict):
            name = str(table.get("path", ""))
            if table_step(name) == step:
                return name
    return None


def artifact_digests(full_name: str) -> dict[str, str]:
    """Returns file names of an artifact version and their MD5 in base 64, as the server has them.

    Raises:
        UnavailableError: the server does not answer, or does not have the artifact.
    """
    import wandb
    from wandb import errors

    try:
        entries = wandb.Api(timeout=60).artifact(full_name).manifest.entries
    except (errors.Error, ValueError) as error:
        raise UnavailableError(first_line(error)) from error
    return {name: entry.digest for name, entry in entries.items()}


class LoggedArtifact(NamedTuple):
    """An artifact version that a run logged.

    Attributes:
        name: of its collection, such as `checkpoint-0123abcd-1200`.
        kind: `model` for a checkpoint, `journal` for a copy of the journal, `result` for another
            file.
        full_name: entity/project/name:version.
    """

    name: str
    kind: str
    full_name: str
    aliases: list[str]
    metadata: dict[str, Any]


def logged_artifacts(project: str, entity: str | None, run_id: str) -> list[LoggedArtifact] | None:
    """Returns every artifact version that a run logged and that still exists; None if there is no
    such run.

    Args:
        entity: None for WANDB_ENTITY or the account's own.

    Raises:
        UnavailableError: the server does not answer as it should.
    """
    import wandb
    from wandb import errors

    try:
        api = wandb.Api(timeout=60)
        owner = entity or api.default_entity
        try:
            run = api.run(f"{owner}/{project}/{run_id}")
        except (errors.Error, ValueError) as error:
            if "Could not find run" in str(error):  # wandb has no type of its own for it
                return None
            raise
        return [
            LoggedArtifact(
                artifact.name.partition(":")[0],
                artifact.type,
                artifact.qualified_name,
                list(artifact.aliases),
                dict(artifact.metadata),
            )
            for artifact in run.logged_artifacts()
            if artifact.state == "COMMITTED"
        ]
    except (errors.Error, ValueError, TypeError) as error:
        raise UnavailableError(first_line(error)) from error


def download_artifact(full_name: str, folder: Path) -> None:
    """Downloads the files of an artifact version into a folder.

    Raises:
        UnavailableError: the server does not answer as it should, or the bytes are not those that
            it promised.
        OSError: the folder cannot be written.
    """
    import requests
    import wandb
    from wandb import errors

    try:
        artifact = wandb.Api(timeout=60).artifact(full_name)
        artifact.download(root=str(folder), skip_cache=True)
    except (errors.Error, ValueError, TypeError, requests.RequestException) as error:
        raise UnavailableError(f"{full_name}: {first_line(error)}") from error


def own_values(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a history row without the keys that W&B adds (`_step`, `_runtime`, `_timestamp`)."""
    return {key: value for key, value in row.items() if not key.startswith("_")}


def fragments(directory: Path) -> list[Path]:
    """Returns the offline files of a run folder, oldest first."""
    return sorted(
        directory.glob("wandb/offline-run-*/run-*.wandb"), key=lambda path: (path.parent.name, path.name)
    )


def offline_rows(path: Path) -> Iterator[StoredRow]:
    """Yields history rows of one offline file, as far as it was written.

    Raises:
        ConfigError: the file is no offline file of wandb, or wandb is not installed.
    """
    try:
        from wandb.proto import wandb_internal_pb2
    except ImportError as error:
        raise ConfigError(f"{path}: wandb is needed to read it; {INSTALL_HINT}") from error
    for data in leveldb_records(path):
        record = wandb_internal_pb2.Record.FromString(data)  # pyright: ignore[reportAttributeAccessIssue]
        if record.WhichOneof("record_type") == "history":
            values: dict[str, Any] = {}
            for item in record.history.item:
                *parents, name = item.nested_key or [item.key]
                inner = values
                for parent in parents:
                    inner = inner.setdefault(parent, {})
                inner[name] = json.loads(item.value_json)
            yield StoredRow(record.history.step.num, own_values(values))


def leveldb_records(path: Path) -> Iterator[bytes]:
    """Yields records of a LevelDB log after W&B's 7-byte header; stops where the file was cut off.

    Blocks of 32 KiB; a record header is crc32, length, type (full 1, first 2, middle 3, last 4).
    """
    block_size = 32_768
    with path.open("rb") as file:
        if file.read(7)[:4] != b":W&B":
            raise ConfigError(f"{path}: no offline file of wandb")
        position, parts = 7, b""
        while True:
            left = block_size - position % block_size
            if left < 7:
                file.read(left)
                position += left
                continue
            header = file.read(7)
            if len(header) < 7:
                return
            _, length, kind = struct.unpack("<IHB", header)
            data = file.read(length)
            if len(data) < length or kind not in (1, 2, 3, 4):
                return
            position += 7 + length
            parts = data if kind in (1, 2) else parts + data
            if kind in (1, 4):
                yield parts
