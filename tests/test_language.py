"""Docstrings and comments follow the project's language rules, in the packages listed here."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "matrixrl"

# Packages and modules that are finished, below `src/matrixrl`; add each one as it is done.
FINISHED = (
    "agents",
    "api",
    "checkpoints",
    "cli",
    "config",
    "devices",
    "envs/matmul",
    "errors.py",
    "jax_internals.py",
    "networks",
    "presets.py",
    "run_layout.py",
    "schemes",
    "search",
    "systems",
    "tracking/clock.py",
    "tracking/console.py",
    "tracking/delivery.py",
    "tracking/delivery_state.py",
    "tracking/events.py",
    "tracking/journal.py",
    "tracking/packed.py",
    "tracking/processes.py",
    "tracking/recorder.py",
    "tracking/run.py",
    "tracking/screen.py",
    "tracking/sinks",
    "tracking/spec.py",
    "tracking/summary.py",
    "tracking/system.py",
    "tracking/transcript.py",
    "tracking/uploader_client.py",
    "tracking/uploads.py",
    "training",
    "whole_files.py",
)

MAX_COLUMNS = 100

# Function docstrings open with a verb in the third person, never with one of these.
NOT_VERBS = re.compile(r"(The|A|An|What|How|Whether|Which|Of|One|All|Every)\b")

Definition = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def test_function_docstrings_open_with_a_verb() -> None:
    assert [fault for path in _finished() for fault in _without_verb(path.read_text(), path)] == []


def test_docstrings_and_comments_are_wrapped() -> None:
    assert [fault for path in _finished() for fault in _too_long(path.read_text(), path)] == []


def test_the_checks_find_faults() -> None:
    long = "x" * MAX_COLUMNS
    source = (
        f'"""{long}"""\n# {long}\nVALUE = "{long}"\n"""Short."""\nOTHER = 1\n"""{long}"""\n'
        'class C:\n    """A class."""\n    @property\n    def name(self):\n        """The name."""\n'
        '    def size(self):\n        """The size."""\n        def inner():\n            """Whether."""\n'
        'def good():\n    """Returns all."""\n'
    )
    path = SOURCE / "example.py"
    assert _without_verb(source, path) == ["example.py:13: The size.", "example.py:15: Whether."]
    assert _too_long(source, path) == ["example.py:1", "example.py:2", "example.py:6"]


def _finished() -> Iterator[Path]:
    for name in FINISHED:
        path = SOURCE / name
        found = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        assert found, f"{name}: no such package"
        yield from found


def _without_verb(source: str, path: Path) -> list[str]:
    """Returns the function docstrings that open with an article or a question word."""
    faults = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _is_property(node):
            continue
        docstring = ast.get_docstring(node)
        if docstring is not None and NOT_VERBS.match(docstring):
            line = node.body[0].lineno
            faults.append(f"{path.relative_to(SOURCE)}:{line}: {docstring.splitlines()[0]}")
    return faults


def _too_long(source: str, path: Path) -> list[str]:
    """Returns the lines of docstrings and full-line comments beyond `MAX_COLUMNS`."""
    lines = source.split("\n")
    numbers = {
        token.start[0]
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#")
    }
    # Docstrings of attributes are bare strings after an assignment, so take all bare strings.
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Definition):
            for statement in node.body:
                if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                    numbers |= set(range(statement.lineno, (statement.end_lineno or statement.lineno) + 1))
    return [
        f"{path.relative_to(SOURCE)}:{number}"
        for number in sorted(numbers)
        if len(lines[number - 1]) > MAX_COLUMNS
    ]


def _is_property(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    names = {ast.unparse(decorator).rsplit(".", 1)[-1] for decorator in node.decorator_list}
    return bool(names & {"property", "cached_property", "setter"})
