"""JAX's persistent compilation cache: stored in the user's cache folder, entries complete or
absent.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from matrixrl.config import ConfigError
from matrixrl.devices.machine import require_backend
from matrixrl.jax_internals import restore_cache_put, wrap_cache_put
from matrixrl.whole_files import whole_file

_FOLDER, _MIN_COMPILE_TIME = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"

_before: dict[str, Any] = {}  # values of the settings before they were changed here


def use_compilation_cache() -> str | None:
    """Switches on JAX's persistent compilation cache in the user's cache folder.

    JAX_COMPILATION_CACHE_DIR names another folder, or a bucket that JAX can write to (gs://...),
    which JAX itself handles; JAX_ENABLE_COMPILATION_CACHE=false leaves the cache off.
    `leave_compilation_cache` puts back what this changes.

    Returns:
      The folder or URL in use, or None when there is none.

    Raises:
      ConfigError: if JAX cannot use the platform that it is asked for, or cannot write to the URL.
    """
    require_backend()
    named = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if named and "://" in named:
        if jax.config.values["jax_enable_compilation_cache"]:
            require_writable_url(named)
        _use_folder(named)
        return named
    folder = Path(named) if named else _user_cache_folder()
    if folder is None:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if jax.config.values["jax_compilation_cache_max_size"] != -1:
            add_access_times(folder)
    except OSError:
        return None  # a read-only home is no reason not to train
    _use_folder(str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update(_MIN_COMPILE_TIME, 0.2)
    write_entries_whole()
    return str(folder)


def _use_folder(folder: str) -> None:
    for name in (_FOLDER, _MIN_COMPILE_TIME):
        _before.setdefault(name, getattr(jax.config, name))
    moved = getattr(jax.config, _FOLDER) != folder
    jax.config.update(_FOLDER, folder)
    if moved:
        reset_cache()  # JAX opens the cache once, and keeps to its folder


def require_writable_url(url: str) -> None:
    """Refuses a URL that JAX has no means to write to. The network is not asked.

    Raises:
      ConfigError: if the scheme is unknown, or the package that serves it is not installed.
    """
    given, scheme = f"JAX_COMPILATION_CACHE_DIR={url}", url.partition("://")[0]
    if scheme == "file":
        raise ConfigError(f"{given}: give the path itself: {url.removeprefix('file://')}")
    try:
        from etils import epath  # what JAX writes buckets with
        from fsspec import get_filesystem_class

        epath.Path(url)
        get_filesystem_class(scheme)
    except ImportError as error:
        if importlib.util.find_spec("tensorflow") is not None:
            return  # it brings its own access to buckets
        reason = str(error).strip().rstrip(".")
    except (KeyError, ValueError):
        reason = f"it knows no {scheme}://"
    else:
        return
    raise ConfigError(f"{given}: JAX cannot write there ({reason}); install that, or name a local folder")


def _user_cache_folder() -> Path | None:
    """Returns the folder for this user's compiled programs; None if no home is known (a bare
    container).
    """
    cache = os.environ.get("XDG_CACHE_HOME")
    try:
        home = Path(cache) if cache else Path.home() / ".cache"
    except RuntimeError:
        return None
    return home / "matrixrl" / "jax"


def add_access_times(folder: Path) -> None:
    """Writes for every entry the file with its access time, which JAX needs once the cache has a
    maximum size.

    JAX writes those files only while a maximum is set. An entry without one makes every later write
    to the cache fail, so entries of runs without a maximum get the time when they were written.

    Raises:
      OSError: if the folder cannot be written.
    """
    for entry in folder.glob("*-cache"):
        accessed = entry.with_name(entry.name.removesuffix("-cache") + "-atime")
        if not accessed.exists():
            accessed.write_bytes(entry.stat().st_mtime_ns.to_bytes(8, "little"))


def leave_compilation_cache() -> None:
    """Puts JAX's settings and its cache class back as they were before `use_compilation_cache`."""
    if not _before:
        return
    moved = _before[_FOLDER] != getattr(jax.config, _FOLDER)
    for name, value in _before.items():
        jax.config.update(name, value)
    _before.clear()
    if moved:
        reset_cache()
    restore_cache_put()


def write_entries_whole() -> None:
    """Makes JAX write its cache entries completely, then rename them.

    JAX 0.10 writes an entry in place and never replaces one that exists. A process that is killed
    while writing leaves a partial entry, which every later run reads, warns about and recompiles;
    two processes that share a folder can read each other's partial entries. A JAX version with a
    different cache is not changed.
    """
    wrap_cache_put(_put_whole)


def _put_whole(put: Callable[..., None]) -> Callable[..., None]:
    """Returns a replacement of JAX's `put` that writes an entry completely, then renames it."""

    @functools.wraps(put)
    def put_whole(cache: Any, key: str, value: bytes) -> None:
        folder = Path(os.fspath(getattr(cache, "path", "")))
        if not folder.is_absolute() or not folder.is_dir():
            put(cache, key, value)  # a bucket writes whole objects
            return
        if not os.access(folder, os.W_OK):
            return  # a cache that may only be read is no reason to warn about every program
        if not getattr(cache, "eviction_enabled", False):
            _write_entry(folder, key, value)
            return
        if len(value) > cache.max_size:
            put(cache, key, value)  # warns
            return
        with cache.lock.acquire(timeout=cache.lock_timeout_secs):
            # Programs without a maximum size may have added entries since.
            add_access_times(folder)
            if not (folder / f"{key}-cache").exists():
                cache._evict_if_needed(additional_size=len(value))
            _write_entry(folder, key, value)

    return put_whole


def _write_entry(folder: Path, key: str, value: bytes) -> None:
    entry, access_time = folder / f"{key}-cache", folder / f"{key}-atime"
    if entry.exists():
        return
    try:
        with whole_file(entry) as draft:
            draft.write_bytes(value)
            # Write the access time before the entry appears: a process whose cache has a maximum
            # size reads it for every entry.
            access_time.write_bytes(time.time_ns().to_bytes(8, "little"))
    except OSError:
        # JAX warns and continues without the entry.
        with contextlib.suppress(OSError):
            access_time.unlink()
        raise
