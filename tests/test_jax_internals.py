"""The private parts of JAX that matrixrl uses exist in the pinned version, and one module alone uses them."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jax._src import distributed, xla_bridge
from jax._src.lru_cache import LRUCache

from matrixrl import jax_internals

ROOT = Path(__file__).resolve().parents[1]


def test_the_installed_version_is_the_pinned_one() -> None:
    pins = dict(re.findall(r"^(jax|jaxlib)==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert pins == {name: version(name) for name in ("jax", "jaxlib")}


def test_the_cache_has_the_parts_that_its_replacement_uses(tmp_path: Path) -> None:
    assert list(inspect.signature(LRUCache.put).parameters) == ["self", "key", "value"]
    cache = LRUCache(str(tmp_path), max_size=1000)
    assert Path(str(cache.path)) == tmp_path
    assert cache.eviction_enabled
    assert cache.max_size == 1000
    with cache.lock.acquire(timeout=cache.lock_timeout_secs):
        cache._evict_if_needed(additional_size=10)


def test_the_writer_of_the_cache_is_wrapped_once_and_restored() -> None:
    before = LRUCache.put
    jax_internals.restore_cache_put()  # the test process may use the cache
    original = LRUCache.put
    wrapped: list[Any] = []

    def wrap(put: Any) -> Any:
        wrapped.append(put)
        return functools.wraps(put)(lambda cache, key, value: None)

    try:
        jax_internals.wrap_cache_put(wrap)
        jax_internals.wrap_cache_put(wrap)
        assert wrapped == [original]
        assert LRUCache.put is not original
        jax_internals.restore_cache_put()
        assert LRUCache.put is original
    finally:
        LRUCache.put = before


def test_the_address_of_the_coordinator_is_read() -> None:
    assert jax_internals.coordinator_address() == ""
    assert hasattr(distributed.global_state, "coordinator_address")


def test_asking_whether_jax_was_used_does_not_use_it() -> None:
    assert callable(xla_bridge.backends_are_initialized)
    program = (
        "from matrixrl.jax_internals import backends_are_initialized as used; import jax; "
        "before = used(); jax.devices(); print(before, used())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == "False True\n"


def test_one_module_alone_imports_private_modules_of_jax() -> None:
    users = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.startswith("jax._src") for name in names):
                users.add(path.name)
    assert users == {"jax_internals.py"}
