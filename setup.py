"""The metadata that depends on where the repository is published; everything else is in pyproject.toml.

An index page shows README.md outside the repository, where relative links lead nowhere. With
MATRIXRL_REPOSITORY=https://HOST/OWNER/matrixrl in the environment of the build, its links and pictures
point there, and the wheel names the address. Without it the pictures are left out and links become text,
so that nothing on the page is broken.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]\n]*)\]\((?P<target>[^)\s]+)\)")


def repository(environment: dict[str, str]) -> str | None:
    """Returns the address of the repository, or None where the build does not name one.

    Raises:
      ValueError: if it is no https address, or holds a user or a password.
    """
    address = environment.get("MATRIXRL_REPOSITORY", "").rstrip("/").removesuffix(".git")
    if not address:
        return None
    if not re.fullmatch(r"https://[A-Za-z0-9.-]+(:\d+)?(/[\w.~-]+)+", address):
        raise ValueError(
            "MATRIXRL_REPOSITORY: must read https://HOST/OWNER/NAME, without a user or a password"
        )
    return address


def index_page(text: str, address: str | None) -> str:
    """Returns a README with links that work outside the repository."""

    def rewritten(match: re.Match[str]) -> str:
        target, is_picture = match["target"], bool(match["picture"])
        if re.match(r"https?:|mailto:|#", target):
            return match[0]
        if address is None:
            return "" if is_picture else match["text"]
        kind = "raw" if is_picture else "blob"
        return f"{match['picture']}[{match['text']}]({address}/{kind}/HEAD/{target})"

    return re.sub(r"\n{3,}", "\n\n", LINK.sub(rewritten, text))


def project_urls(address: str | None) -> dict[str, str]:
    """Returns the addresses of the index page's side bar."""
    if address is None:
        return {}
    return {
        "Repository": address,
        "Documentation": f"{address}/blob/HEAD/docs/architecture.md",
        "Changelog": f"{address}/blob/HEAD/CHANGELOG.md",
        "Issues": f"{address}/issues",
    }


if __name__ == "__main__":
    from setuptools import setup

    ADDRESS = repository(dict(os.environ))
    setup(
        long_description=index_page(
            Path(__file__).with_name("README.md").read_text(encoding="utf-8"), ADDRESS
        ),
        long_description_content_type="text/markdown",
        project_urls=project_urls(ADDRESS),
    )
