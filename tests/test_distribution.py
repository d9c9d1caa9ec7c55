"""Test files are given to workers as `tests/distribution.py` says, and what it names is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import distribution
from tests.distribution import LONGEST, TOGETHER, SharedPrograms, rank, scope_of

TESTS = Path(__file__).resolve().parent


def test_every_name_is_a_test_file_or_files_in_common() -> None:
    files = [file for group in TOGETHER.values() for file in group]
    assert len(files) == len(set(files))
    for name in [*files, *(name for name in LONGEST if name not in TOGETHER)]:
        assert (TESTS / name).is_file(), name
    assert len(LONGEST) == len(set(LONGEST))
    assert not set(LONGEST) & set(files)


def test_files_in_common_are_one_piece_of_work() -> None:
    first, second, *_ = TOGETHER["tiny runs of matmul"]
    assert scope_of(f"tests/{first}::test_a") == scope_of(f"tests/{second}::test_b[1::2]")
    assert scope_of("tests/test_layers.py::test_a") == "test_layers.py"
    assert rank("tests/test_readme.py::test_a") == 0 < rank(f"tests/{first}::test_a")
    assert rank("tests/test_layers.py::test_a") == len(LONGEST)


def test_make_test_uses_this_scheduler(pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Called as by pytest-xdist, whose options `make test` gives."""
    assert "--dist loadfile" in (TESTS.parent / "Makefile").read_text()
    monkeypatch.setattr(pytestconfig.option, "loadscopereorder", True)
    monkeypatch.setattr(pytestconfig.option, "dist", "load")
    assert distribution.scheduler(pytestconfig, None) is None
    monkeypatch.setattr(pytestconfig.option, "dist", "loadfile")
    monkeypatch.setattr(pytestconfig.option, "tx", ["2*popen"])
    made = pytestconfig.pluginmanager.hook.pytest_xdist_make_scheduler(config=pytestconfig, log=None)
    assert isinstance(made, SharedPrograms)
    assert made._split_scope("tests/systems/test_metrics.py::test_a") == "tiny runs of matmul"
    assert not pytestconfig.option.loadscopereorder
