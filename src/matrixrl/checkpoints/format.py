"""Format of a checkpoint on disk; writing and validation.

    <step>/
      checkpoint.json   text: format version, step, run, config, progress, versions, table of arrays
      arrays/           the arrays, written by orbax as one flat tree of names
      <other files>     small files that are part of the state, such as the best scheme
      manifest.json     sha256 and size of every file above

The folder is filled under a hidden name, synced to the disk, and renamed: a reader finds a complete
checkpoint or none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from matrixrl.checkpoints.migrations import FORMAT_VERSION, MIGRATIONS, migrated
from matrixrl.config import ConfigError
from matrixrl.devices.coordinator import Coordinator
from matrixrl.devices.groups import is_partially_addressable
from matrixrl.run_layout import MANIFEST_FILE
from matrixrl.whole_files import sync

RECORD_FILE = "checkpoint.json"
ARRAYS_FOLDER = "arrays"
PACKAGES = ("matrixrl", "jax", "jaxlib", "flax", "optax", "mctx", "orbax-checkpoint", "numpy")


Tree = TypeVar("Tree")


class DamagedCheckpointError(ValueError):
    """Error for a damaged checkpoint: a file is missing or its bytes differ from those written."""


@dataclass(frozen=True)
class Snapshot:
    """Complete state from which a run continues, copied to the host.

    Attributes:
      step: current value of the clock.
      arrays: by name, as returned by `flatten`; partially addressable arrays are still on their
        devices.
      progress: progress of the trainer as plain JSON values.
      files: small text files by name.
      score: higher is better; used by `keep_best`. None is worse than any number.
      recorded_until: the last step recorded in the journal, used to detect a lost tail.
    """

    step: int
    arrays: Mapping[str, np.ndarray | jax.Array]
    progress: Mapping[str, Any]
    files: Mapping[str, str] = field(default_factory=dict)
    score: float | None = None
    recorded_until: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was validated as complete.

    Attributes:
      folder: where it is stored.
      record: the content of `checkpoint.json`.
    """

    folder: Path
    record: Mapping[str, Any]

    @property
    def step(self) -> int:
        """Value of the clock."""
        return self.record["step"]

    @property
    def progress(self) -> dict[str, Any]:
        """Progress of the trainer, as stored in the snapshot."""
        return self.record["progress"]

    @property
    def score(self) -> float | None:
        """Score used by `keep_best`."""
        return self.record["score"]

    @property
    def recorded_until(self) -> int:
        """Last step recorded in the journal; 0 if unknown."""
        return self.record.get("recorded_until", 0)

    def text(self, name: str) -> str | None:
        """Returns the content of a small file, or None if the checkpoint has none of this name."""
        path = self.folder / name
        return path.read_text() if path.exists() else None

    def restore(self, template: Tree, recorded_names: Mapping[str, str] | None = None) -> Tree:
        """Restores the saved arrays in the structure of `template`, on the devices that its leaves
        name.

        Args:
          template: arrays or `jax.ShapeDtypeStruct`s; a subset of the saved arrays is allowed.
            Leaves with a sharding are placed by it, for any number of devices at the time of
            saving; others go to the default device.
          recorded_names: names of arrays in the checkpoint, where they differ from `names_of`.

        Raises:
          ConfigError: if an array is missing, or has another shape or type than requested.
        """
        names = names_of(template, recorded_names)
        saved = self._load(dict(zip(names, jax.tree.leaves(template), strict=True)))
        leaves = []
        for name, wanted in zip(names, jax.tree.leaves(template), strict=True):
            if name not in saved:
                raise ConfigError(
                    f"{self.folder}: holds no array {name}; it was saved by another kind of run or another matrixrl "
                    f"({self.record['versions'].get('matrixrl', 'unknown')})"
                )
            leaves.append(_with_sharding(name, saved[name], wanted, self.folder))
        return jax.tree.unflatten(jax.tree.structure(template), leaves)

    def host_arrays(self, prefix: str = "") -> dict[str, np.ndarray]:
        """Returns the saved arrays on the host as they were saved, 64 bits included, by the rest of
        their names after `prefix`.
        """
        names = [name for name in self.record["arrays"] if name.startswith(prefix)]
        loaded = self._load(dict.fromkeys(names))
        return {name.removeprefix(prefix): np.asarray(loaded[name]) for name in names}

    def _load(self, wanted: Mapping[str, Any]) -> dict[str, np.ndarray | jax.Array]:
        """Loads the saved arrays by name; of partially addressable ones it reads only the shards of
        this process.
        """
        table = {name: entry for name, entry in self.record["arrays"].items() if name in wanted}
        # orbax refuses arrays without elements, so those are only in the table.
        found: dict[str, np.ndarray | jax.Array] = {
            name: np.zeros(shape, dtype)
            for name, (dtype, shape) in table.items()
            if np.prod(shape, dtype=int) == 0
        }
        if len(found) < len(table):
            how = {
                name: _restore_args(entry, wanted.get(name))
                for name, entry in self.record["arrays"].items()
                if np.prod(entry[1], dtype=int)
            }
            found |= _checkpointer().restore(self.folder.resolve() / ARRAYS_FOLDER, restore_args=how)
        return found


def _restore_args(entry: tuple[str, list[int]], wanted: Any) -> Any:
    """Returns orbax's restore arguments for an array that the table lists with this type and
    shape.
    """
    import orbax.checkpoint as ocp

    dtype, shape = entry
    sharding = getattr(wanted, "sharding", None)
    if (
        sharding is None
        or sharding.is_fully_addressable
        or sharding.is_fully_replicated
        or (str(wanted.dtype), list(wanted.shape)) != (dtype, list(shape))
    ):
        return ocp.RestoreArgs(restore_type=np.ndarray)
    return ocp.ArrayRestoreArgs(sharding=sharding, global_shape=tuple(shape), dtype=np.dtype(dtype))


def _with_sharding(name: str, saved: np.ndarray | jax.Array, wanted: Any, folder: Path) -> jax.Array:
    """Returns a saved array on the devices that `wanted` names."""
    if isinstance(saved, jax.Array):
        return saved
    is_key = jnp.issubdtype(wanted.dtype, jax.dtypes.prng_key)
    like = jax.eval_shape(jax.random.key_data, wanted) if is_key else wanted
    if saved.shape != like.shape or saved.dtype != like.dtype:
        raise ConfigError(
            f"{folder}: {name} is {saved.dtype}{list(saved.shape)}, this run needs {like.dtype}{list(like.shape)}; "
            "resume with the settings that the run was started with"
        )
    sharding = getattr(wanted, "sharding", None)
    if sharding is None:
        array = jnp.asarray(saved)
    else:
        # Every process has the complete array and places the shards of its own devices. Keys have
        # one more axis, which is not sharded.
        array = jax.make_array_from_callback(saved.shape, sharding, lambda index: saved[index])
    if is_key:
        array = jax.random.wrap_key_data(array, impl=jax.random.key_impl(jnp.empty((), wanted.dtype)))
    return array


def names_of(tree: Any, recorded_names: Mapping[str, str] | None = None) -> list[str]:
    """Returns the names of a tree's leaves, in order: their paths, written with slashes.

    Args:
      recorded_names: replaces some of them: a checkpoint keeps the names under which its arrays
        were first recorded.

    Raises:
      ValueError: if two leaves have the same name.
    """
    names = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    ]
    names = [(recorded_names or {}).get(name, name) for name in names]
    if len(set(names)) < len(names):
        raise ValueError(f"two leaves of one name: {sorted(n for n in set(names) if names.count(n) > 1)}")
    return names


def flatten(tree: Any, recorded_names: Mapping[str, str] | None = None) -> dict[str, np.ndarray | jax.Array]:
    """Copies a tree's leaves to the host by name. The arrays may be donated or overwritten after it
    returns.

    Random keys are stored as their key data. Partially addressable arrays stay on their devices:
    they must be gathered (`gather`) or written (`write_together`) before they change.

    Args:
      recorded_names: as for `names_of`.
    """
    leaves = [
        jax.random.key_data(leaf) if jnp.issubdtype(jnp.asarray(leaf).dtype, jax.dtypes.prng_key) else leaf
        for leaf in jax.tree.leaves(tree)
    ]
    here = [None if is_partially_addressable(leaf) else leaf for leaf in leaves]
    # On a CPU device_get returns views of device memory: copy it.
    copies = [
        leaf if copy is None else np.array(copy, copy=True)
        for leaf, copy in zip(leaves, jax.device_get(here), strict=True)
    ]
    return dict(zip(names_of(tree, recorded_names), copies, strict=True))


def gather(snapshot: Snapshot, coordinator: Coordinator) -> Snapshot:
    """Returns the snapshot with every array completely on this host. Collective."""
    arrays = {name: coordinator.gather(array) for name, array in snapshot.arrays.items()}
    return dataclasses.replace(snapshot, arrays=arrays)


def write_together(folder: Path, snapshot: Snapshot) -> None:
    """Writes the arrays of a checkpoint by all processes, each its own shards. Collective; blocks
    until done.

    Args:
      folder: exists and is visible to all processes.

    Raises:
      OSError, ValueError, RuntimeError: if it could not be written (the last two come from orbax).
    """
    import orbax.checkpoint as ocp

    saved = {name: array for name, array in snapshot.arrays.items() if array.size}
    with _quiet_orbax():
        ocp.Checkpointer(ocp.PyTreeCheckpointHandler()).save(folder.resolve() / ARRAYS_FOLDER, saved)


def write(folder: Path, snapshot: Snapshot, about: Mapping[str, Any]) -> None:
    """Fills a folder with a checkpoint and syncs it to the disk.

    Args:
      folder: does not exist, or holds only the files written by `write_together`.
      about: further entries of `checkpoint.json`: run, system, config.

    Raises:
      OSError, ValueError, RuntimeError: if it could not be written (the last two come from orbax).
    """
    folder.mkdir(exist_ok=True)
    saved = {name: array for name, array in snapshot.arrays.items() if array.size}
    if saved and not (folder / ARRAYS_FOLDER).exists():
        with _quiet_orbax():
            _checkpointer().save(folder.resolve() / ARRAYS_FOLDER, saved)
    for name, text in snapshot.files.items():
        (folder / name).write_text(text)
    record = {
        "format_version": FORMAT_VERSION,
        "step": snapshot.step,
        "score": snapshot.score,
        "recorded_until": snapshot.recorded_until,
        **about,
        "progress": dict(snapshot.progress),
        "versions": versions(),
        "arrays": {name: [str(array.dtype), list(array.shape)] for name, array in snapshot.arrays.items()},
    }
    (folder / RECORD_FILE).write_text(render(record))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {path.relative_to(folder).as_posix(): checksum(path) for path in files}
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n")
    for path in [*folder.rglob("*"), folder]:
        sync(path)


def read(folder: Path) -> Checkpoint:
    """Validates every byte of a checkpoint, and its format version.

    Raises:
      DamagedCheckpointError: if it is incomplete; the message names the file.
      ConfigError: if it has another format version; the message names both.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST_FILE).read_text())
        for name, expected in manifest.items():
            if not (folder / name).is_file():
                raise DamagedCheckpointError(f"{name} is missing")
            if checksum(folder / name) != expected:
                raise DamagedCheckpointError(f"the bytes of {name} are not those that were written")
        if RECORD_FILE not in manifest:
            raise DamagedCheckpointError(f"{RECORD_FILE} is missing")
        record = json.loads((folder / RECORD_FILE).read_text())
    except (OSError, ValueError, AttributeError) as error:
        if isinstance(error, DamagedCheckpointError):
            raise
        raise DamagedCheckpointError(f"{MANIFEST_FILE} cannot be read ({error})") from error
    return Checkpoint(folder, migrated(record, folder, MIGRATIONS))


def render(record: Mapping[str, Any]) -> str:
    """Renders a record as JSON, one array per line."""
    arrays = record["arrays"]
    text = json.dumps({**record, "arrays": {}}, indent=2)
    lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(entry)}" for name, entry in arrays.items())
    return text.removesuffix("{}\n}") + f"{{\n{lines}\n  }}\n}}\n"


def checksum(path: Path) -> list[str | int]:
    """Computes sha256 and size of a file."""
    with path.open("rb") as file:
        return [hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size]


@functools.cache
def versions() -> dict[str, str]:
    """Returns versions of the packages that a checkpoint depends on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def plain(value: Any) -> dict[str, Any]:
    """Converts a frozen dataclass of plain numbers to JSON values."""
    return {
        name: list(item) if isinstance(item, tuple) else item
        for name, item in dataclasses.asdict(value).items()
    }


@contextlib.contextmanager
def _quiet_orbax() -> Iterator[None]:
    """Prevents orbax from printing the traceback of an error that it raises as well."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


@functools.cache
def _checkpointer() -> Any:
    import orbax.checkpoint as ocp  # takes half a second; needed only to save or restore

    if jax.process_count() == 1:
        return ocp.PyTreeCheckpointer()
    # One process writes host copies, and each process reads for itself: orbax must not wait for
    # the others.
    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process{me}"
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)
