"""JAX's persistent compilation cache: in the user's cache folder, its entries whole or absent."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax


def use_compilation_cache() -> Path | None:
    """Switch on JAX's persistent compilation cache in the user's cache folder.

    JAX_COMPILATION_CACHE_DIR names another folder; JAX_ENABLE_COMPILATION_CACHE=false leaves it off.

    Returns:
      The folder in use, or None when there is none.
    """
    named = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(named) if named else home / "matrixrl" / "jax"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None  # a read-only home is no reason not to train
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    write_entries_whole()
    return folder


def write_entries_whole() -> None:
    """Have JAX write its cache entries whole, then rename them.

    JAX 0.10 writes an entry in place and never replaces one that exists. A process that is killed while it writes
    leaves half an entry, which every later run reads, warns about and compiles again; two processes that share a
    folder can read each other's half. A JAX whose cache is built another way is left as it is.
    """
    try:
        from jax._src.lru_cache import LRUCache
    except ImportError:
        return
    put = getattr(LRUCache, "put", None)
    if put is None or hasattr(put, "__wrapped__"):
        return
    LRUCache.put = _whole(put)


def _whole(put: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(put)
    def put_whole(cache: Any, key: str, value: bytes) -> None:
        folder = Path(os.fspath(getattr(cache, "path", "")))
        # A cache of bounded size has a lock and books of its own; a bucket writes whole objects.
        if getattr(cache, "eviction_enabled", True) or not folder.is_absolute() or not folder.is_dir():
            put(cache, key, value)
            return
        entry = folder / f"{key}-cache"
        if entry.exists():
            return
        descriptor, unfinished = tempfile.mkstemp(prefix=".", suffix=".unfinished", dir=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(value)
            Path(unfinished).replace(entry)
        except OSError:
            # JAX warns and goes on without the entry: no half of it may stay.
            with contextlib.suppress(OSError):
                Path(unfinished).unlink()
            raise

    return put_whole
