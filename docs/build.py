"""`make docs`: the reference from the docstrings, and the pages of this repository, as HTML.

Strict: a warning of pdoc, a link to a missing file and an anchor without a heading are errors.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import warnings
from html import escape
from pathlib import Path
from urllib.parse import unquote

os.environ.setdefault("PDOC_ALLOW_EXEC", "0")  # the reference is read, no program is started
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import pdoc
from pdoc.render_helpers import to_html

ROOT = Path(__file__).resolve().parents[1]

MODULES = (
    "matrixrl.api",
    "matrixrl.schemes.problem",
    "matrixrl.schemes.scheme",
    "matrixrl.schemes.verify",
    "matrixrl.systems.spec",
)
"""Modules of the reference: the Python interface, schemes and problems, and how systems are added."""

TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
body {{ font: 16px/1.5 sans-serif; max-width: 60rem; margin: auto; padding: 1rem; color: #222 }}
nav {{ border-bottom: 1px solid #ccc; padding-bottom: .5rem; margin-bottom: 1rem; font-size: 90% }}
pre, code {{ font: 14px/1.4 monospace; background: #f5f5f5 }} pre {{ padding: .7rem; overflow-x: auto }}
table {{ border-collapse: collapse }} td, th {{ border: 1px solid #ccc; padding: .2rem .5rem; text-align: left }}
img {{ max-width: 100% }}
</style></head><body><nav>{nav}</nav>
{body}
</body></html>
"""


class BuildError(Exception):
    """The pages cannot be built; one line per fault."""


def build(target: Path) -> list[Path]:
    """Builds everything into a folder, which is replaced once it is complete.

    Returns:
      The pages.

    Raises:
      BuildError: at a warning of pdoc or a broken link.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".docs-", dir=target.parent) as folder:
        draft = Path(folder) / "docs"
        _reference(draft / "api")
        faults = _pages(draft)
        if faults:
            raise BuildError("\n".join(faults))
        shutil.rmtree(target, ignore_errors=True)
        draft.rename(target)
    return sorted(target.rglob("*.html"))


def _reference(folder: Path) -> None:
    pdoc.render.configure(docformat="google", search=True, show_source=False, footer_text="matrixrl")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            pdoc.pdoc(*MODULES, output_directory=folder)
        except Warning as warning:
            raise BuildError(f"pdoc: {warning}") from warning


def _pages(draft: Path) -> list[str]:
    """Renders the Markdown pages at their paths in the repository; returns their faults."""
    sources = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
    sources += sorted((ROOT / "docs").rglob("*.md")) + sorted((ROOT / "benchmarks").rglob("*.md"))
    bodies = {source: str(to_html(source.read_text())) for source in sources}
    anchors = {source: set(re.findall(r'\bid="([^"]+)"', body)) for source, body in bodies.items()}
    faults: list[str] = []
    for source, body in bodies.items():

        def link(match: re.Match[str], source: Path = source) -> str:
            attribute, address = match.groups()
            fault, new = _resolved(source, unquote(address), anchors, draft)
            if fault:
                faults.append(f"{source.relative_to(ROOT)}: {fault}")
            return f'{attribute}="{escape(new)}"'

        page = draft / source.relative_to(ROOT).with_suffix(".html")
        page.parent.mkdir(parents=True, exist_ok=True)
        linked = re.sub(r'\b(href|src)="([^"]*)"', link, body)
        page.write_text(
            TEMPLATE.format(title=_title(source), nav=_navigation(page, draft, sources), body=linked)
        )
    shutil.copy(draft / "README.html", draft / "index.html")
    return faults


def _resolved(source: Path, address: str, anchors: dict[Path, set[str]], draft: Path) -> tuple[str, str]:
    """Returns the fault of a link, if any, and its address among the pages; copies linked files."""
    if re.match(r"[a-z]+:", address):
        return "", address
    path, _, anchor = address.partition("#")
    there = (source.parent / path).resolve() if path else source
    if not there.exists() or not there.is_relative_to(ROOT):
        return f"{address}: there is no such file", address
    if there in anchors:
        if anchor and anchor not in anchors[there]:
            return f"{address}: there is no such heading", address
        return "", (path.removesuffix(".md") + ".html" if path else "") + (f"#{anchor}" if anchor else "")
    copy = draft / there.relative_to(ROOT)
    if there.is_file():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(there, copy)
    else:
        copy.mkdir(parents=True, exist_ok=True)
    return "", address


def _title(source: Path) -> str:
    first = re.search(r"^# (.+)$", source.read_text(), re.MULTILINE)
    return escape(first[1] if first else source.stem)


def _navigation(page: Path, draft: Path, sources: list[Path]) -> str:
    up = "../" * len(page.relative_to(draft).parent.parts)
    links = [f'<a href="{up}api/matrixrl/api.html">API reference</a>']
    links += [
        f'<a href="{up}{source.relative_to(ROOT).with_suffix(".html")}">{_title(source)}</a>'
        for source in sources
    ]
    return " · ".join(links)


def main(target: Path) -> int:
    """Builds the pages; returns the exit status."""
    try:
        pages = build(target)
    except BuildError as error:
        sys.stderr.write("".join(f"docs: {line}\n" for line in str(error).splitlines()))
        return 1
    sys.stdout.write(f"{len(pages)} pages in {target}; open {target / 'index.html'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "docs"))
