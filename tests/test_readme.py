"""README and docs are true: their commands run, their code runs, the files they name exist."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
setup = runpy.run_path(str(ROOT / "setup.py"), run_name="setup")

# What makes a command of the README short enough for a test; the command itself runs as it stands.
TINY = [
    "--pretraining-steps",
    "2",
    "--num-epochs",
    "1",
    "--updates-per-epoch",
    "1",
    "--episodes-per-epoch",
    "2",
    "--num-simulations",
    "2",
]
TINY += ["--num-candidates", "4", "--width", "16"]
# What contractions report is most of what there is to compile. The slow test runs the first command as it stands, and
# the small runs of tests/systems have the policy of the presets.
CHEAP = ["--policy", "tokens", "--no-rank-profile"]
TINY += CHEAP
SMALL_NETWORK = ["--torso", "mlp", "--features", "observation", "--hidden-dim", "8", "--num-layers", "1"]
SHORTER: dict[str, list[str]] = {
    "matmul train --preset quick": [*TINY, "--no-stop-at-record"],
    "matmul train --preset discover": TINY,
    "matmul train --preset integers": TINY,
    "matmul train --preset discover --size 2 2 3": TINY,
    "matmul train --sizes 2x2x2 2x2x3": TINY,
    "matmul train --preset dev": ["--num-epochs", "1", *CHEAP],
    "hackmatrix train --preset dev": ["--num-envs", "16", "--total-timesteps", "1024", *SMALL_NETWORK],
    "hackmatrix evaluate latest": ["--games", "4", "--time-limit", "20"],
    "hackmatrix watch latest": ["--max-steps", "5"],
    "hackmatrix watch pretrained": ["--max-steps", "5"],
    "hackmatrix bench": ["--num-envs", "8", "--seconds", "0.1"],
    "matmul flip --size 3 4 4": ["--target-rank", "46", "--num-walkers", "2"],
    "matmul flip --size 5 5 5 --symmetry cyclic": ["--target-rank", "119", "--num-walkers", "2"],
    "matmul flip --all --max 5": ["--max", "2", "--num-walkers", "2"],
    "matmul evaluate latest": ["--games", "2", "--num-simulations", "2"],
    "matmul bench": [
        "--repeats",
        "1",
        "--num-simulations",
        "4",
        "--batch-size",
        "8",
        "--width",
        "16",
        *CHEAP,
    ],
}


def commands() -> list[str]:
    # Blocks that name a language are shell set-up, which writes into the home folder.
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
    blocks = [text for language, text in fenced if not language]
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("matrixrl ")]


def test_readme_names_commands() -> None:
    assert len(commands()) >= 8


# Trainings beside the main one of each system: each compiles programs of its own for a minute.
MAIN = "matmul train --preset quick"
FURTHER = [
    line for line in SHORTER if line != MAIN and (line.startswith("matmul train") or line.endswith("bench"))
]
# Compiles the game twice more.
FURTHER.append("hackmatrix evaluate latest")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("hackmatrix", [False, True], ids=["matmul", "hackmatrix"])
def test_the_commands_of_the_readme_run_in_order(hackmatrix: bool, tmp_path: Path) -> None:
    """The commands of one system, which need none of the other's runs."""
    run_in_order(hackmatrix, tmp_path, [words for words in word_lists() if " ".join(words) not in FURTHER])


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("hackmatrix", [False, True], ids=["matmul", "hackmatrix"])
def test_every_command_of_the_readme_runs_in_order(hackmatrix: bool, tmp_path: Path) -> None:
    run_in_order(hackmatrix, tmp_path, word_lists(), main_in_full=True)


def test_the_further_trainings_of_the_readme_are_accepted() -> None:
    """Their settings fit together; the slow test runs them."""
    from matrixrl.cli.matmul import read_config

    lines = [words for words in word_lists() if " ".join(words) in FURTHER and words[1] == "train"]
    assert len(lines) >= 4
    for words in lines:
        read_config([*words[2:], *SHORTER[" ".join(words)]])


def word_lists() -> list[list[str]]:
    lines = [shlex.split(line)[1:] for line in commands()]
    # It serves until it is stopped; the tests of the dashboard start it.
    return [words for words in lines if words != ["dashboard"]]


def run_in_order(hackmatrix: bool, folder: Path, lines: list[list[str]], main_in_full: bool = False) -> None:
    """Runs the commands of one system.

    The commands share a process, which imports JAX once. The main one can run as it stands: in a process of its own
    with well optimised code.
    """
    shortened = []
    for words in lines:
        if (words[0] == "hackmatrix") != hackmatrix:
            continue
        if main_in_full and words == MAIN.split():
            environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
            output = run([sys.executable, "-m", "matrixrl", *words], folder, environment)
            assert "2x2x2 in 7 multiplications, verified over the integers, nothing shown" in output
        else:
            shortened.append([*words, *SHORTER.get(" ".join(words), [])])
    run([sys.executable, "-m", "tests.command_lines", json.dumps(shortened)], folder, dict(os.environ))


def run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    """Runs a command that has to succeed; returns its standard output."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])},
        capture_output=True,
        text=True,
        timeout=800,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("target", "installs"), [("train", "-e ."), ("bench", "-e ."), ("test", '-e ".[test]"'), ("venv", '-e ".[test]"')]
)  # fmt: skip
def test_make_installs_what_a_target_needs(target: str, installs: str, tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "setup.py", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    shown = subprocess.run(
        ["make", "-n", target], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    pip = [line for line in shown.splitlines() if "pip install" in line]
    assert pip[-1].endswith(installs)
    assert len(pip) == (1 if installs == "-e ." else 2)
    # A set-up that is finished is not done again.
    (tmp_path / ".venv").mkdir()
    for stamp in (".installed-base", ".installed"):
        (tmp_path / ".venv" / stamp).touch()
    again = subprocess.run(
        ["make", "-n", target], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert "pip install" not in again


def test_the_readme_names_every_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    section = README.partition("## Installing")[2].partition("\n## ")[0]
    for extra in project["optional-dependencies"]:
        assert f"`{extra}`" in section or f"[{extra}]" in section
    assert f"Python {project['requires-python'].removeprefix('>=')} or newer" in section


@pytest.mark.parametrize("address", [None, "https://example.org/owner/matrixrl"])
def test_nothing_on_an_index_page_is_broken(address: str | None) -> None:
    text = setup["index_page"](README, address)
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert all(re.match("https?://", target) for target in targets)
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    if address is None:
        assert pictures == []
        assert setup["project_urls"](address) == {}
    else:
        assert f"{address}/raw/HEAD/docs/images/strassen_found.png" in pictures
        assert all(url.startswith(address) for url in setup["project_urls"](address).values())
    assert text.count("\n## ") == README.count("\n## ")


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("", None),
        ("https://example.org/owner/matrixrl.git", "https://example.org/owner/matrixrl"),
        ("https://example.org/a/b/matrixrl/", "https://example.org/a/b/matrixrl"),
    ],
)
def test_the_address_of_the_repository_is_taken_from_the_build(given: str, address: str | None) -> None:
    assert setup["repository"]({"MATRIXRL_REPOSITORY": given}) == address


@pytest.mark.parametrize(
    "given",
    ["http://example.org/a/b", "https://user:secret@example.org/a/b", "git@example.org:a/b", "https://x"],
)
def test_an_address_that_must_not_be_published_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="MATRIXRL_REPOSITORY"):
        setup["repository"]({"MATRIXRL_REPOSITORY": given})


@pytest.mark.parametrize(
    ("target", "calls"),
    [
        ("train", "matrixrl matmul train --preset quick"),
        ("test", "-m pytest"),
        ("bench", "matrixrl matmul bench"),
    ],
)
def test_make_targets_call_what_the_readme_says(target: str, calls: str) -> None:
    shown = subprocess.run(
        ["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert calls in shown


def test_ci_runs_the_readmes_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    assert "make test" in script
    assert "make lint" in script


@pytest.mark.parametrize(
    "path",
    [
        "README.md",
        "CONTRIBUTING.md",
        *sorted(f"docs/{p.relative_to(ROOT / 'docs')}" for p in (ROOT / "docs").rglob("*.md")),
    ],
)
def test_links_and_pictures_exist(path: str) -> None:
    text = (ROOT / path).read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        if not link.startswith(("http:", "https:")):
            assert ((ROOT / path).parent / link).exists(), f"{path} names {link}"


# tests/api/test_pages.py runs the blocks of python.md, which continue one another, and
# tests/systems/test_hackmatrix_evaluation.py the one of hackmatrix_training.md, whose programs it has anyway.
RUN_ELSEWHERE = {"python.md", "hackmatrix_training.md"}
PAGES_WITH_CODE = sorted(
    page
    for page in (ROOT / "docs").rglob("*.md")
    if "```python\n" in page.read_text() and page.name not in RUN_ELSEWHERE
)
# Its blocks compile the whole game three times, for 256 games at once.
SLOW_PAGES = {"hackmatrix.md"}


def test_the_pages_of_both_games_show_code() -> None:
    assert {"hackmatrix.md", "matmul.md"} <= {page.name for page in PAGES_WITH_CODE}


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(page, id=page.name, marks=[pytest.mark.slow] * (page.name in SLOW_PAGES))
        for page in PAGES_WITH_CODE
    ],
)
def test_code_in_the_pages_runs(path: Path, tmp_path: Path) -> None:
    """In a folder of its own: some pages write files."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    for block in re.findall(r"```python\n(.*?)```", path.read_text(), flags=re.DOTALL):
        subprocess.run([sys.executable, "-c", block], check=True, timeout=250, cwd=tmp_path, env=environment)
