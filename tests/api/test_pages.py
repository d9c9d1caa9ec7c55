"""docs/python.md and the examples of the docstrings are true, and `make docs` builds the reference without a warning."""

from __future__ import annotations

import doctest
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import matrixrl
import matrixrl.api

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "python.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

SHORTER = {
    "total_timesteps=500_000)": "total_timesteps=4096, num_envs=8, num_steps=16)",
    "total_timesteps=1_000_000": "total_timesteps=8192",
    'size=(2, 2, 3), time="10m"': 'size=(1, 1, 2), time="10m"',
    'size=(2, 2, 2), ring="F2"': 'size=(1, 2, 1), ring="F2"',
}
"""Texts of the page that a test shortens."""

NEEDS_TRAINING = re.compile(r"latest|matrixrl\.train\(|next\(|for found in")


def public() -> Iterator[tuple[str, Any]]:
    """Public functions and classes, and the public methods of the classes."""
    for name in matrixrl.api.__all__:
        value = getattr(matrixrl.api, name)
        yield name, value
        if inspect.isclass(value) and value.__module__.startswith("matrixrl.api"):
            for inner, member in vars(value).items():
                if not inner.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
                    yield f"{name}.{inner}", member


NAMES = dict(public())


def missing(value: Any) -> list[str]:
    """Sections that the docstring of a public name lacks."""
    text = inspect.getdoc(value) or ""
    wanted = [] if value is matrixrl.ConfigError or isinstance(value, property) else ["Example"]
    if inspect.isfunction(value) and "..." not in inspect.getsource(value).splitlines()[-1]:
        parameters = [name for name in inspect.signature(value).parameters if name not in ("self", "_", "__")]
        wanted += ["Args"] if parameters else []
        source = inspect.getsource(value)
        wanted += (
            ["Returns"]
            if re.search(r"-> (?!None|Any:)", source.partition('"""')[0]) and "return" in source
            else []
        )
        wanted += ["Raises"] if re.search(r"^ +raise \w", source, re.MULTILINE) else []
    elif not inspect.isfunction(value):
        return [] if text and all(f"{section}:" in text for section in wanted) else ["Example or text"]
    else:
        wanted = []  # of a protocol, documented where it is implemented
    return [section for section in wanted if f"\n{section}:\n" not in text] + ([] if text else ["text"])


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_documented(name: str) -> None:
    assert missing(NAMES[name]) == []


def test_what_is_missing_is_found() -> None:
    def bare(number: int) -> int:
        """Returns a number."""
        if number:
            raise ValueError(number)
        return number

    assert missing(bare) == ["Example", "Args", "Returns", "Raises"]
    assert missing(lambda: None) != []


def test_the_interface_is_one_list() -> None:
    assert set(matrixrl.__all__) - {"__version__"} <= set(matrixrl.api.__all__)
    for name in matrixrl.__all__:
        assert f"matrixrl.{name}" in PAGE or name in (
            "Agent",
            "Discovery",
            "Run",
            "TrainingSettings",
            "__version__",
        ), name


class Checker(doctest.OutputChecker):
    """Expects the lines of an example among those that a training prints meanwhile."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        among = set(want.splitlines()) <= set(got.splitlines())
        return among or super().check_output(want, got, optionflags)


def run_examples(names: list[str]) -> None:
    finder = doctest.DocTestFinder(recurse=False)
    runner = doctest.DocTestRunner(
        Checker(), optionflags=doctest.IGNORE_EXCEPTION_DETAIL | doctest.ELLIPSIS, verbose=False
    )
    output: list[str] = []
    for name in names:
        value = NAMES[name]
        for example in finder.find(value, name, module=False, globs={}):  # pyright: ignore[reportArgumentType]
            runner.run(example, out=output.append)
    assert not runner.failures, "".join(output)
    assert runner.tries


def test_examples_that_train_nothing_run() -> None:
    run_examples(
        [name for name, value in NAMES.items() if not NEEDS_TRAINING.search(inspect.getdoc(value) or "")]
    )


@pytest.mark.slow
def test_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    names = [name for name, value in NAMES.items() if NEEDS_TRAINING.search(inspect.getdoc(value) or "")]
    run_examples(sorted(names, key=lambda name: (name != "train", name in ("discover", "Discovery.send"))))


@pytest.mark.slow
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = "".join(BLOCKS)
    for text, shorter in SHORTER.items():
        assert text in code
        code = code.replace(text, shorter)
    names: dict[str, Any] = {}
    exec(compile(code, "python.md", "exec"), names)
    assert len(names["table"]["Return"]) == len(names["table"]["step"]) > 0
    assert names["actions"].shape == (64,)
    assert names["first"].rank == 2


def builder() -> Any:
    spec = importlib.util.spec_from_file_location("build_docs", ROOT / "docs" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_broken_links_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pdoc")
    build = builder()
    page, anchors = ROOT / "docs" / "python.md", {ROOT / "docs" / "schemes.md": {"files"}}
    for address, fault in (
        ("absent.md", "no such file"),
        ("schemes.md#absent", "no such heading"),
        ("/etc/hosts", "file"),
    ):
        assert fault in build._resolved(page, address, anchors, tmp_path)[0]
    assert build._resolved(page, "schemes.md#files", anchors, tmp_path) == ("", "schemes.html#files")
    assert build._resolved(page, "images/strassen_found.png", anchors, tmp_path) == (
        "",
        "images/strassen_found.png",
    )
    assert (tmp_path / "docs" / "images" / "strassen_found.png").is_file()


@pytest.mark.slow
def test_the_reference_is_built_without_a_warning(tmp_path: Path) -> None:
    target = tmp_path / "docs"
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "build.py"), str(target)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    reference = (target / "api" / "matrixrl" / "api.html").read_text()
    for name in matrixrl.api.__all__:
        assert f'id="{name}"' in reference or name == "ConfigError"
    assert (target / "docs" / "python.html").is_file()
    assert (target / "index.html").is_file()
