"""Docstrings, comments, messages and documentation follow the project's language rules."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "matrixrl"
FILES = sorted(SOURCE.rglob("*.py"))
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/RESULTS.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))

MAX_COLUMNS = 100

MAX_BODY = 60
"""Maximum number of lines in the body of a function, its docstring not counted."""

# Function docstrings open with a verb in the third person.
VERB = re.compile(r"(?!(This|Its|Always|As)\b)[A-Z][a-z-]*s\b")

# Words that the language rules replace: "resumes" or "continues", "warns", "again", "instead of", "Number of".
AVOIDED = re.compile(
    r"\b(told|tells|anew|besides|goes on|go on|going on|went on|in place of|so many|so often"
    r"|as many as there are|without what|what is left of)\b",
    re.IGNORECASE,
)

# Names that two modules share on purpose: a game and its referee or its worker process, which
# imports nothing of the package, the public interface, and results of two learners or policies.
SHARED_CLASSES = frozenset(
    [
        "Agent",
        "Episode",
        "Evaluated",
        "GameState",
        "Moments",
        "Probe",
        "Refinement",
        "Run",
        "Spaces",
        "Update",
    ]
)

Definition = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def test_function_docstrings_open_with_a_verb() -> None:
    assert [fault for path in FILES for fault in _without_verb(path.read_text(), path)] == []


def test_docstrings_and_comments_are_wrapped() -> None:
    assert [fault for path in FILES for fault in _too_long(path.read_text(), path)] == []


def test_functions_are_short() -> None:
    assert [fault for path in FILES for fault in _long_bodies(path.read_text(), path)] == []


def test_class_names_are_unique() -> None:
    names = Counter(
        node.name
        for path in FILES
        for node in ast.walk(_tree(path.read_text()))
        if isinstance(node, ast.ClassDef)
    )
    shared = {name for name, count in names.items() if count > 1}
    assert shared == SHARED_CLASSES


def test_code_and_documentation_use_plain_words() -> None:
    assert [fault for path in [*FILES, *PAGES] for fault in _avoided(path.read_text(), path)] == []


def test_the_readme_links_every_page() -> None:
    readme = PAGES[0].read_text()
    pages = [_name(path) for path in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if f"({page}" not in readme] == []


def test_documents_named_in_code_exist() -> None:
    missing = [
        f"{_name(path)}: {document}"
        for path in FILES
        for document in re.findall(r"[\w/]+\.md\b", path.read_text().replace("hashlib.md5", ""))
        if not (ROOT / document).exists()
    ]
    assert missing == []


def test_the_checks_find_faults() -> None:
    long = "x" * MAX_COLUMNS
    source = (
        f'"""{long}"""\n# {long}\nVALUE = "{long}"\n"""Short."""\nOTHER = 1\n"""{long}"""\n'
        'class C:\n    """A class."""\n    @property\n    def name(self):\n        """The name."""\n'
        '    def size(self):\n        """The size."""\n        def inner():\n            """Whether."""\n'
        'def good():\n    """Returns all."""\n'
    )
    path = SOURCE / "example.py"
    name = "src/matrixrl/example.py"
    assert _without_verb(source, path) == [f"{name}:13: The size.", f"{name}:15: Whether."]
    assert _without_verb('def f():\n    """Copy a file."""\n', path) == [f"{name}:2: Copy a file."]
    assert _too_long(source, path) == [f"{name}:1", f"{name}:2", f"{name}:6"]
    found = [f"{name}:2: goes on", f"{name}:3: Told", f"{name}:3: anew"]
    assert _avoided("The run\ngoes on.\nAll is Told anew.", path) == found
    body = "    pass\n" * MAX_BODY
    assert _long_bodies(f'def f():\n    """Does nothing."""\n{body}', path) == []
    assert _long_bodies(f"def f():\n    pass\n{body}", path) == [f"{name}:1: f has {MAX_BODY + 1} lines"]


_tree = cache(ast.parse)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _long_bodies(source: str, path: Path) -> list[str]:
    """Returns the functions whose bodies have more than `MAX_BODY` lines."""
    faults = []
    for node in ast.walk(_tree(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[ast.get_docstring(node) is not None :]
            length = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            if length > MAX_BODY:
                faults.append(f"{_name(path)}:{node.lineno}: {node.name} has {length} lines")
    return faults


def _avoided(text: str, path: Path) -> list[str]:
    """Returns the words of a text that the language rules replace."""
    return [
        f"{_name(path)}:{number}: {match[0]}"
        for number, line in enumerate(text.splitlines(), start=1)
        for match in AVOIDED.finditer(line)
    ]


def _without_verb(source: str, path: Path) -> list[str]:
    """Returns the function docstrings that do not open with a verb in the third person."""
    faults = []
    for node in ast.walk(_tree(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _is_property(node):
            continue
        docstring = ast.get_docstring(node)
        if docstring is not None and not VERB.match(docstring):
            line = node.body[0].lineno
            faults.append(f"{_name(path)}:{line}: {docstring.splitlines()[0]}")
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
    for node in ast.walk(_tree(source)):
        if isinstance(node, Definition):
            for statement in node.body:
                if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                    numbers |= set(range(statement.lineno, (statement.end_lineno or statement.lineno) + 1))
    return [f"{_name(path)}:{number}" for number in sorted(numbers) if len(lines[number - 1]) > MAX_COLUMNS]


def _is_property(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    names = {ast.unparse(decorator).rsplit(".", 1)[-1] for decorator in node.decorator_list}
    return bool(names & {"property", "cached_property", "setter"})
