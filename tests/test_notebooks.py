"""The notebooks are true: what they call exists, and they run from top to bottom on a CPU, without anybody at a keyboard."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient

from matrixrl import presets
from matrixrl.cli.main import COMMANDS
from matrixrl.cli.parse import parse
from matrixrl.tracking.journal_reader import JournalReader
from tests.tracking.conftest import offline_environment

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code(path: Path) -> list[str]:
    return [cell.source for cell in read(path).cells if cell.cell_type == "code"]


def parameters_cell(book: nbformat.NotebookNode) -> int:
    (index,) = [i for i, cell in enumerate(book.cells) if "parameters" in cell.metadata.get("tags", [])]
    return index


def parameters(path: Path) -> dict[str, Any]:
    """The parameters of a notebook, with their values."""
    book = read(path)
    found: dict[str, Any] = {}
    exec(book.cells[parameters_cell(book)].source, {}, found)
    return found


def commands(texts: list[str], given: dict[str, Any]) -> Iterator[list[str]]:
    """The words of every `matrixrl` command in some texts, with the values of `{NAME}` and `"$NAME"` filled in."""
    for source in texts:
        for line in re.findall(r"^\s*!?(matrixrl .*)$", source, flags=re.MULTILINE):
            filled = re.sub(r"\{(\w+)\}|\$(\w+)", lambda m: str(given[m[1] or m[2]]) or "x", line)
            yield shlex.split(re.split(r"[<>|&#]", filled)[0])[1:]


def understood(there: list[list[str]], preset: str | None = None) -> None:
    """Read every command with the parser that the command itself uses."""
    for group, name, *arguments in there:
        command = COMMANDS[group, name]
        module = importlib.import_module(command.module)
        kind = getattr(module, command.settings)
        default = getattr(presets, group)(preset) if preset and name == "train" else None
        parse(kind, arguments, prog=f"matrixrl {group} {name}", description="", default=default)


def test_there_are_notebooks_of_both_systems() -> None:
    assert len(NOTEBOOKS) == 2
    for path, system in zip(NOTEBOOKS, ("matmul", "hackmatrix"), strict=True):
        called = [tuple(words[:2]) for words in commands(code(path), parameters(path))]
        assert {(system, "train"), (system, "evaluate"), ("runs", "copy"), ("runs", "restore")} <= set(called)


@each_notebook
def test_a_notebook_is_valid_and_holds_no_outputs(path: Path) -> None:
    book = read(path)
    nbformat.validate(book)
    for cell in book.cells:
        assert cell.source.strip()
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@each_notebook
def test_a_notebook_defines_nothing_and_leaves_the_device_to_the_commands(path: Path) -> None:
    for source in code(path):
        if source.startswith("%%bash"):
            continue
        for node in ast.walk(ast.parse(TransformerManager().transform_cell(source))):
            assert not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda)
            if isinstance(node, ast.ImportFrom | ast.Import):
                names = (
                    [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                )
                assert not [name for name in names if name.split(".")[0] in ("jax", "wandb")]


@each_notebook
def test_the_first_cell_says_what_to_set(path: Path) -> None:
    first, *_ = read(path).cells
    assert "nothing has to be set" in first.source
    assert "`REPOSITORY`" in first.source
    assert parameters(path)["REPOSITORY"] == ""


@each_notebook
def test_what_a_notebook_imports_is_what_its_install_cell_brings(path: Path) -> None:
    (install,) = [source for source in code(path) if "%pip install" in source]
    brought = {name for text in re.findall(r'extras = "([\w,]+)"', install) for name in text.split(",")}
    brought |= {name for text in re.findall(r'else "([\w,]+)"', install) for name in text.split(",")}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert brought <= set(extras)
    assert {"wandb", "plots"} <= brought


@each_notebook
def test_every_command_of_a_notebook_is_understood(path: Path) -> None:
    given = parameters(path)
    there = list(commands(code(path), given))
    assert len(there) >= 6
    understood(there, given["PRESET"])


def test_every_command_of_the_page_on_tpus_is_understood() -> None:
    text = (ROOT / "docs" / "tpu.md").read_text()
    blocks = re.findall(r"```\w*\n(.*?)```", text, flags=re.DOTALL)
    given = {
        "NAME": "r",
        "FLAGS": re.findall(r'^FLAGS="(.*)"$', text, flags=re.MULTILINE)[0],
        "HOME": "/home",
    }
    there = list(commands(blocks, given))
    assert len(there) == 9
    understood(there)


EVERY_PANEL_SHOWS_A_CURVE = """
for axis in axes:
    (line,) = axis.lines
    assert len(set(line.get_xdata())) > 1, axis.get_title()
"""


def execute(path: Path, folder: Path, **values: Any) -> tuple[str, list[str]]:
    """Run a notebook in a folder, as a user without a W&B key does.

    A command that fails ends the run: after each there is a look at its exit status.

    Args:
      values: other values of the notebook's parameters.

    Returns:
      Everything that was printed, and the types of the pictures that were shown.
    """
    folder.mkdir()
    book = read(path)
    given = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    assert set(values) <= set(parameters(path))
    cells = []
    for index, cell in enumerate(book.cells):
        cells.append(cell)
        if index == parameters_cell(book):
            cells.append(nbformat.v4.new_code_cell(given))
        elif cell.cell_type == "code" and re.search(r"^\s*!", cell.source, flags=re.MULTILINE):
            cells.append(nbformat.v4.new_code_cell("assert globals().get('_exit_code', 0) == 0"))
        elif cell.cell_type == "code" and "plt.subplots" in cell.source:
            cells.append(nbformat.v4.new_code_cell(EVERY_PANEL_SHOWS_A_CURVE))
    book.cells = cells
    environment = os.environ | offline_environment(folder)
    # The kernel's own commands have to be found by the notebook itself: an editor starts kernels with any path.
    environment["PATH"] = os.pathsep.join(
        folder
        for folder in os.environ["PATH"].split(os.pathsep)
        if Path(folder).resolve() != Path(sys.executable).parent.resolve()
    )
    environment.pop("XLA_FLAGS", None)  # it trains for a minute, which wants well optimised code
    del environment["WANDB_MODE"]  # that there is no key has to be enough
    client = NotebookClient(
        book, timeout=1200, kernel_name="python3", resources={"metadata": {"path": folder}}
    )
    client.execute(env=environment)
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "".join(output.text for output in outputs if output.output_type == "stream")
    pictures = [kind for output in outputs for kind in output.get("data", {}) if kind.startswith("image/")]
    return text, pictures


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_matmul_notebook_finds_strassen_after_a_disconnect(tmp_path: Path) -> None:
    (path,) = [path for path in NOTEBOOKS if "matmul" in path.name]
    drive = str(tmp_path / "drive")
    shown, _ = execute(
        path, tmp_path / "first", NUM_EPOCHS=1, GAMES=2, DRIVE=drive, COPY_SECONDS=5, WANDB="--wandb"
    )
    assert "no key for" in shown
    assert "everything agrees" in shown
    assert "newest checkpoint" in (tmp_path / "first" / "copies.log").read_text()

    shown, pictures = execute(path, tmp_path / "second", GAMES=2, DRIVE=drive, COPY_SECONDS=3600)
    assert f"colab-matmul is back from {drive}" in shown
    assert "2x2x2 in 7 multiplications, verified over the integers, nothing shown" in shown
    assert "everything agrees" in shown
    assert pictures.count("image/png") == 2  # the scheme and the curves
    with JournalReader(tmp_path / "drive" / "colab-matmul") as reader:
        assert len(reader.attempts()) == 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_hackmatrix_notebook_trains_evaluates_and_films(tmp_path: Path) -> None:
    (path,) = [path for path in NOTEBOOKS if "hackmatrix" in path.name]
    shown, pictures = execute(path, tmp_path / "only", GAMES=4, WATCH_STEPS=8)  # trains as shipped
    assert re.search(r"(\d+) of \1 updates", shown)
    assert "greedy" in shown
    assert pictures == ["image/png", "image/gif"]
