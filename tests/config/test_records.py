"""Recorded settings are formats: a former name is read, and an unknown one refused, never ignored."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrixrl import presets
from matrixrl.cli import hackmatrix, matmul
from matrixrl.cli.main import main
from matrixrl.cli.resume import recorded_settings
from matrixrl.config import (
    ConfigError,
    HackmatrixConfig,
    MatmulConfig,
    as_record,
    differences,
    from_record,
    value_at,
)
from matrixrl.config.fields import rules_of, settings_of
from matrixrl.config.records import convert, is_beside
from matrixrl.tracking.run import open_run

ARCHIVE = Path(__file__).parents[1] / "golden" / "runs_before_0.2.tar.xz"
ALIASES = [
    (kind, name, alias)
    for kind in (MatmulConfig, HackmatrixConfig)
    for name, item, _ in settings_of(kind)
    for alias in rules_of(item).aliases
]


def with_entry(record: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """A copy of a record with one more entry, by dotted name."""
    copy = json.loads(json.dumps(record))
    table = copy
    *groups, last = name.split(".")
    for group in groups:
        table = table[group]
    table[last] = value
    return copy


@pytest.mark.parametrize(("kind", "name", "alias"), ALIASES)
def test_a_former_name_is_read_from_a_record(kind: Any, name: str, alias: str) -> None:
    record = as_record(kind())
    group, _, own = name.rpartition(".")
    former = f"{group}.{alias}" if group else alias
    value = {"int": 128, "float": 0.5}.get(type(value_at(kind(), name)).__name__, "elsewhere")
    both = with_entry(record, former, value)
    with pytest.raises(ConfigError, match=f"{former}: given twice"):
        from_record(kind, both)
    table = both[group] if group else both
    del table[own]
    assert str(value_at(from_record(kind, both), name)) == str(value)


def test_renamed_settings_of_matmul_keep_their_former_names() -> None:
    renamed = {name: alias for kind, name, alias in ALIASES if kind is MatmulConfig}
    assert renamed["selfplay.refinement_rounds"] == "rewriting_rounds"
    assert renamed["selfplay.partial_solution_fraction"] == "leftover_fraction"
    config = matmul.read_config(["--rewriting-rounds", "7", "--leftover_fraction=0.25"])
    assert (config.selfplay.refinement_rounds, config.selfplay.partial_solution_fraction) == (7, 0.25)
    assert config == matmul.read_config(["--refinement-rounds", "7", "--partial-solution-fraction", "0.25"])


def test_a_former_flag_is_named_as_it_was_given() -> None:
    for flag in ("--rewriting-rounds", "--refinement-rounds"):
        with pytest.raises(ConfigError, match=f"{flag} -1: must be 0 or more"):
            matmul.read_config([flag, "-1"])


def test_former_flags_are_not_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["matmul", "train", "--help"])
    text = capsys.readouterr().out
    assert "--refinement-rounds" in text
    assert "--rewriting-rounds" not in text
    assert "--leftover-fraction" not in text


def test_an_old_run_resumes_with_its_refinement_rounds(tmp_path: Path) -> None:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    shutil.move(tmp_path / "matmul", tmp_path / "matmul-half")
    folder = tmp_path / "matmul-half"
    (folder / "journal.sqlite").unlink()
    path = folder / "run.json"
    content = json.loads(path.read_text())
    content["config"]["selfplay"]["rewriting_rounds"] = 128
    path.write_text(json.dumps(content))
    flags = ["--runs-dir", str(tmp_path), "--resume-run", "matmul-half"]
    assert matmul.read_config(flags).selfplay.refinement_rounds == 128
    with pytest.raises(ConfigError, match="--refinement-rounds 5: matmul-half was started with 128"):
        matmul.read_config([*flags, "--rewriting-rounds", "5"])
    assert matmul.read_config([*flags, "--rewriting-rounds", "128"]).selfplay.refinement_rounds == 128


@pytest.mark.parametrize("name", ["nonsense", "selfplay.rewriting_round", "tracking.nonsense"])
def test_an_unknown_setting_of_a_run_is_refused_by_name(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = matmul.read_config(["--runs-dir", str(tmp_path), "--run-name", "r"])
    record = with_entry(as_record(config), name, 128)
    open_run(config.tracking, system="matmul", name_prefix="t", run_config=record).finish()
    before = sorted(path.name for path in tmp_path.rglob("*"))
    capsys.readouterr()
    assert main(["matmul", "train", "--runs-dir", str(tmp_path), "--resume-run", "r"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{name}: no setting of this name is known" in line
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_what_is_recorded_beside_the_settings_is_known() -> None:
    from matrixrl.devices.machine import describe_machine

    for kind in (MatmulConfig, HackmatrixConfig):
        assert [name for name in describe_machine() if not is_beside(kind, name)] == []
    assert is_beside(HackmatrixConfig, "environment_version")
    assert is_beside(MatmulConfig, "shown")
    quick = matmul.matmul_session(presets.quick())
    default = hackmatrix.hackmatrix_session(HackmatrixConfig())
    for session in (quick, default):
        for name in (*session.about, *session.versions):
            assert is_beside(type(session.config), name), name


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("selfplay", 3, "selfplay: must be a table of settings"),
        ("selfplay.num_epochs", "many", "selfplay.num_epochs = 'many': must be a whole number"),
        ("selfplay.num_epochs", 1.5, "must be a whole number"),
        ("selfplay.num_epochs", True, "must be a whole number"),
        ("optimizer.learning_rate", "fast", "must be a number"),
        ("game.size", [2, 2], "must be a list of 3 entries, each a whole number"),
        ("game.size", [2, 2, "2"], "each entry must be a whole number"),
        ("game.ring", "R", "must be one of Z, F2"),
        ("tracking.wandb", 1, "must be true or false"),
        ("tracking.project", 5, "must be text"),
        ("network.width", -1, "--width -1: must be 8 or more"),
    ],
)
def test_a_record_with_a_value_of_another_type_is_refused(name: str, value: Any, said: str) -> None:
    record = with_entry(as_record(MatmulConfig()), name, value)
    with pytest.raises(ConfigError) as error:
        from_record(MatmulConfig, record)
    assert said in str(error.value)


@pytest.mark.parametrize("value", ["", "mine.toml", None, 3])
def test_the_path_of_a_settings_file_is_not_read_from_a_record(value: Any) -> None:
    record = with_entry(as_record(MatmulConfig()), "config", value)
    assert from_record(MatmulConfig, record) == MatmulConfig()


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from([name for name, _, _ in settings_of(MatmulConfig)]), ANY)
def test_any_value_of_a_record_is_read_or_refused_in_words(name: str, value: Any) -> None:
    record = as_record(MatmulConfig())
    table = record
    *groups, last = name.split(".")
    for group in groups:
        table = table[group]
    table[last] = value
    try:
        config = from_record(MatmulConfig, record)
    except ConfigError:
        return
    assert from_record(MatmulConfig, as_record(config)) == config


def test_whole_floats_are_whole_numbers_and_huge_ones_are_refused() -> None:
    assert convert(1e6, int) == 1_000_000
    assert isinstance(convert(1e6, int), int)
    with pytest.raises(ValueError, match="number"):
        convert(10**400, float)


@pytest.mark.parametrize(
    ("system", "kind", "read"),
    [("matmul", MatmulConfig, matmul.read_config), ("hackmatrix", HackmatrixConfig, hackmatrix.read_config)],
)
def test_a_run_of_an_earlier_version_has_a_settings_file(
    system: str, kind: Any, read: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    name = f"{system}-half"
    shutil.move(tmp_path / system, tmp_path / name)
    assert main(["runs", "show", name, "--runs-dir", str(tmp_path), "--config"]) == 0
    file = tmp_path / "settings.toml"
    file.write_text(capsys.readouterr().out)
    changed = differences(recorded_settings(kind, tmp_path / name), read(["--config", str(file)]))
    assert set(changed) <= {"tracking.run_name", "tracking.runs_dir", "json"}
