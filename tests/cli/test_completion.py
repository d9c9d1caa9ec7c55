"""Shell completion: the script of each shell knows every command, and bash offers what fits."""

from __future__ import annotations

import dataclasses
import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from matrixrl.cli.completion import SHELLS, script
from matrixrl.cli.main import COMMANDS, main


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "new" / "matrixrl"
    assert main(["--tyro-write-completion", "bash", str(path)]) == 0
    return path


def offered(bash_script: Path, *words: str) -> list[str]:
    """Returns what bash offers for the last word of a command line."""
    code = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tyro_matrixrl; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["bash", "-c", code, "bash", str(bash_script), "matrixrl", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
@pytest.mark.parametrize(
    ("words", "some"),
    [
        (["ma"], {"matmul"}),
        ([""], {"matmul", "hackmatrix", "runs", "schemes"}),
        (["runs", ""], {name for group, name in COMMANDS if group == "runs"}),
        (["runs", "export", "--format", ""], {"parquet", "csv"}),
        (["matmul", "train", "--pretr"], {"--pretraining-steps"}),
        (["matmul", "bench", "--repe"], {"--repeats"}),
        (["hackmatrix", "train", "--total"], {"--total-timesteps"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bash_offers_what_fits(bash_script: Path, words: list[str], some: set[str]) -> None:
    found = offered(bash_script, *words)
    assert some <= set(found)
    assert all(word.startswith(words[-1]) for word in found)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_each_shell_knows_every_command(shell: str, tmp_path: Path) -> None:
    text = script(shell, COMMANDS)
    for group, name in COMMANDS:
        assert f"'{group}'" in text
        assert f"'{name}'" in text
    for flag in ("--pretraining-steps", "--total-timesteps", "--keep-artifacts", "--png"):
        assert flag in text
    if shutil.which(shell) is not None:
        (tmp_path / "script").write_text(text)
        subprocess.run([shell, "-n", str(tmp_path / "script")], check=True)


def test_every_command_names_its_settings() -> None:
    for command in COMMANDS.values():
        module = importlib.import_module(command.module)
        assert dataclasses.is_dataclass(getattr(module, command.settings))
        assert hasattr(module, "run" if command.own_parser else "run_command")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tyro-print-completion"], "bash, zsh, fish"),
        (["--tyro-print-completion", "tcsh"], "tcsh: must be one of bash, zsh, fish"),
        (["--tyro-print-completion", "bash", "more"], "needs SHELL,"),
        (["--tyro-write-completion", "bash"], "needs SHELL PATH"),
        (["--tyro-write-completion", "bash", "/proc/no/such"], "/proc/no"),
    ],
)
def test_completion_that_cannot_be_written_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("matrixrl: --tyro-")
    assert said in line


def test_the_package_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "matrixrl"]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("matrixrl ")
    assert done.stderr == ""
    done = subprocess.run([*command, "nonsense"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("matrixrl: unknown command nonsense")
