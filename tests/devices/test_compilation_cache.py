"""The compilation cache with processes that die while they write to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from matrixrl.config import ConfigError
from matrixrl.devices.compilation_cache import require_writable_url

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os, signal, sys, warnings
from pathlib import Path

import jax
import jax.numpy as jnp
from matrixrl.devices.compilation_cache import use_compilation_cache

warnings.simplefilter("error")
use_compilation_cache()
use_compilation_cache()  # wraps once
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name))
fault = sys.argv[1]
if fault == "kill":
    Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if fault == "full":
    def replace(*_):
        raise OSError(28, "No space left on device")
    Path.replace = replace
    warnings.simplefilter("default")
if fault == "late":
    from jax._src.lru_cache import LRUCache
    LRUCache(sys.argv[2], max_size=10**9).put("late", b"whole")
print(jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones(3)))
print("hits", events.count("/jax/compilation_cache/cache_hits"))
"""


def run(
    cache: Path, fault: str = "none", status: int = 0, more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, fault, str(cache)],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "src"),
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PLATFORMS": "cpu",
            **(more or {}),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == status, done.stderr
    return done


def hits(done: subprocess.CompletedProcess[str]) -> int:
    return int(done.stdout.split()[-1])


def test_the_second_process_compiles_nothing(tmp_path: Path) -> None:
    first, second = run(tmp_path), run(tmp_path)
    entries = list(tmp_path.glob("*-cache"))
    assert entries
    assert (hits(first), hits(second)) == (0, len(entries))
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_process_killed_while_it_writes_an_entry_leaves_none(tmp_path: Path) -> None:
    run(tmp_path, "kill", -signal.SIGKILL)
    assert list(tmp_path.glob("*-cache")) == []
    assert hits(run(tmp_path)) == 0  # warnings are errors: a half entry would be one
    assert hits(run(tmp_path)) > 0


def test_a_full_disk_is_a_warning_and_leaves_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, "full")
    assert "No space left on device" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_entries_stay_usable_when_the_cache_gets_a_maximum_size(tmp_path: Path) -> None:
    run(tmp_path)
    old = next(tmp_path.glob("*-atime"))
    old.unlink()  # as JAX itself, and versions before 0.2, left entries
    limit = {"JAX_COMPILATION_CACHE_MAX_SIZE": str(10**9)}
    before = len(list(tmp_path.glob("*-cache")))
    assert hits(run(tmp_path, more=limit)) == before
    assert old.exists()
    other = {"XLA_FLAGS": "--xla_cpu_enable_fast_min_max=true --xla_backend_optimization_level=1"}
    run(tmp_path, more=limit | other)  # warnings are errors: new programs are cached too
    assert len(list(tmp_path.glob("*-cache"))) > before


def test_a_cache_with_a_maximum_size_survives_entries_that_others_add(tmp_path: Path) -> None:
    limit = {"JAX_COMPILATION_CACHE_MAX_SIZE": str(10**9)}
    run(tmp_path, more=limit)
    (tmp_path / "other-cache").write_bytes(b"of a program without a maximum")
    run(tmp_path, "late", more=limit)  # warnings are errors
    assert (tmp_path / "other-atime").exists()
    assert (tmp_path / "late-cache").read_bytes() == b"whole"
    assert (tmp_path / "late-atime").exists()


def test_a_process_killed_while_it_writes_to_a_cache_of_maximum_size_leaves_no_entry(tmp_path: Path) -> None:
    run(tmp_path, "kill", -signal.SIGKILL, {"JAX_COMPILATION_CACHE_MAX_SIZE": str(10**9)})
    assert list(tmp_path.glob("*-cache")) == []


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nonsense://bucket/cache", "nonsense://"),
        ("file:///tmp/cache", "give the path itself: /tmp/cache"),
        ("s3://bucket/cache", "s3fs"),
    ],
)
def test_a_url_that_jax_cannot_write_to_is_refused(
    monkeypatch: pytest.MonkeyPatch, url: str, reason: str
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=reason):
        require_writable_url(url)


def test_a_bucket_is_left_to_jax_and_no_folder_of_its_name_is_made(tmp_path: Path) -> None:
    program = (
        "import fsspec, jax\nfsspec.get_filesystem_class = str  # as if gcsfs were installed\nfrom matrixrl.devices.compilation_cache import use_compilation_cache\n"
        "print(use_compilation_cache(), jax.config.jax_compilation_cache_dir)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "JAX_COMPILATION_CACHE_DIR": "gs://bucket/cache"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["gs://bucket/cache"] * 2
    assert list(tmp_path.iterdir()) == []
