"""Flags of every command that have one type in common: paths, which are no URLs, and whole numbers."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from matrixrl.cli import hackmatrix, matmul
from matrixrl.cli.main import COMMANDS, main
from matrixrl.cli.parse import _flags_of, _whole_numbers, parse, whole_number
from matrixrl.cli.processes import _process_settings
from matrixrl.config import ConfigError


def settings_of(command: tuple[str, str]) -> Any:
    return getattr(importlib.import_module(COMMANDS[command].module), COMMANDS[command].settings)


def with_flags_of(kind: type) -> list[tuple[str, str, str]]:
    return [
        (*command, flag) for command in COMMANDS for flag in sorted(_flags_of(settings_of(command), kind))
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        *[(group, name, f"{flag}=gs://bucket/x") for group, name, flag in with_flags_of(Path)],
        ("hackmatrix", "train", "--checkpoint-dir", "s3://bucket/x"),
        ("matmul", "train", "--resume-run", "latest", "--runs-dir", "gs://bucket/x"),
        ("schemes", "verify", "gs://bucket/x"),
        ("schemes", "show", "--json", "gs://bucket/x"),
        ("schemes", "show", "--png", "a.png", "gs://bucket/x"),
        ("runs", "list", "--runs-dir", "file:///somewhere"),
    ],
    ids=" ".join,
)
def test_a_url_as_a_path_is_refused_and_makes_no_folder(
    arguments: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("matrixrl: ")
    assert "a URL" in line
    assert list(tmp_path.iterdir()) == []


def read(kind: Any, flag: str, value: str) -> Any:
    """What a command line with one flag means: the settings, or why it is refused."""
    for positional in ([], ["x"]):
        try:
            return parse(kind, [*positional, flag, value], prog="p", description="d")
        except ConfigError as error:
            if "missing" not in str(error):
                return str(error)
    raise AssertionError(flag)


@pytest.mark.parametrize(("group", "name"), sorted({flag[:2] for flag in with_flags_of(int)}))
def test_whole_numbers_are_read_in_every_notation_and_others_refused(group: str, name: str) -> None:
    kind = settings_of((group, name))
    flags = _flags_of(kind, int)
    for flag in flags:
        assert _whole_numbers([flag, "1e1"], flags) == [flag, "10"]
        assert _whole_numbers([f"{flag}=1e-3"], flags) == [f"{flag}=1e-3"]
    flag = min(flags)
    plain = read(kind, flag, "10")
    assert read(kind, flag, "1e1") == read(kind, flag, "1_0") == plain
    for value in ("1.5", "1e-3"):
        refused = read(kind, flag, value)
        assert isinstance(refused, str)
        assert flag in refused


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1e6", 1_000_000),
        ("1_000", 1000),
        ("2.5e1", 25),
        ("0", 0),
        ("1.5", None),
        ("1e-3", None),
        ("x", None),
    ],
)
def test_whole_number(text: str, number: int | None) -> None:
    assert whole_number(text) == number


def test_the_flags_that_join_processes_are_read_alike() -> None:
    flags = ["--distributed", "--coordinator", "h:1", "--num-processes", "1e0", "--process-id", "0"]
    settings = _process_settings([*flags, "--join-seconds", "1e2"])
    assert (settings.num_processes, settings.process_id, settings.join_seconds) == (1, 0, 100)
    with pytest.raises(ConfigError, match=r"--join-seconds 1\.5: must be a whole number"):
        _process_settings([*flags, "--join-seconds", "1.5"])


@pytest.mark.parametrize(
    ("read_config", "flags", "message"),
    [
        (
            hackmatrix.read_config,
            ["--total-timesteps", "1e15"],
            "--total-timesteps 1000000000000000: .* at most",
        ),
        (hackmatrix.read_config, ["--time-limit", "1e10"], "--time-limit 10000000000: must be at most"),
        (
            hackmatrix.read_config,
            ["--num-envs", "1e6", "--num-steps=1e6", "--total-timesteps=1e12"],
            "steps; at most",
        ),
        (matmul.read_config, ["--num-epochs", "1e9"], "--num-epochs 1000000000 .* at most"),
        (matmul.read_config, ["--rewriting-rounds", "1e100"], "--rewriting-rounds 1.* must be at most"),
    ],
)
def test_numbers_that_no_device_counts_to_are_refused(
    read_config: Any, flags: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(flags)


def test_command_lines_are_read_in_several_threads_at_once() -> None:
    from concurrent.futures import ThreadPoolExecutor

    from matrixrl.cli.matmul import read_config

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: read_config(["--seed", str(seed)]).seed, range(40)))
    assert found == list(range(40))
