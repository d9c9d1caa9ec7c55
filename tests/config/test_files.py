"""Settings files: what `runs show --config` prints is what `--config` reads, and a wrong file is one line."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matrixrl import presets
from matrixrl.cli import hackmatrix, matmul
from matrixrl.cli.main import COMMANDS, main
from matrixrl.config import (
    ConfigError,
    HackmatrixConfig,
    MatmulConfig,
    as_record,
    differences,
    read_settings_file,
    settings_toml,
    to_toml,
)
from matrixrl.tracking.run import open_run

READERS: dict[str, Callable[..., Any]] = {"matmul": matmul.read_config, "hackmatrix": hackmatrix.read_config}
OF_RUN = {"tracking.run_name", "tracking.run_suffix", "tracking.runs_dir", "json"}

FLAGS = {
    "matmul": [
        "--preset", "dev", "--seed", "9", "--sizes", "2x2x2", "2x2x3", "--ring", "F2", "--learning-rate", "1e-5",
        "--refinement-rounds", "5", "--demonstrations", "synthetic", "--devices", "1", "--time", "1h30m",
        "--no-stop-at-record", "--keep-last", "7", "--project", 'a "b" é', "--json",
    ],
    "hackmatrix": [
        "--preset", "tuned", "--final-ent-coef", "None", "--num-envs", "128", "--torso", "mlp", "--no-artifact",
        "--precision", "bfloat16", "--run-suffix", "x", "--time-limit", "77",
    ],
}  # fmt: skip


def file_of(tmp_path: Path, text: str) -> str:
    path = tmp_path / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("system", READERS)
def test_printed_settings_of_a_run_start_the_same_run(
    system: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read = READERS[system]
    config = read(["--runs-dir", str(tmp_path / "runs"), *FLAGS[system]])
    with open_run(
        config.tracking, system=system, name_prefix="t", run_config={**as_record(config), "device_count": 1}
    ) as run:
        run.finish()
    capsys.readouterr()
    assert main(["runs", "show", run.name, "--runs-dir", str(tmp_path / "runs"), "--config"]) == 0
    text = capsys.readouterr().out
    again = read(["--config", file_of(tmp_path, text)])
    assert set(differences(config, again)) <= OF_RUN
    assert differences(read([]), again)
    # Flags override the file, wherever they stand.
    flags = ["--seed", "3", "--config", file_of(tmp_path, text), "--keep-last", "2"]
    assert (read(flags).seed, read(flags).checkpoint.keep_last) == (3, 2)
    # For scripts.
    assert main(["runs", "show", run.name, f"--runs-dir={tmp_path / 'runs'}", "--config", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["settings"] == json.loads(json.dumps(as_record(config)))


@pytest.mark.parametrize("name", presets.MATMUL)
def test_every_preset_of_matmul_survives(name: str, tmp_path: Path) -> None:
    config = presets.matmul(name)
    assert matmul.read_config(["--config", file_of(tmp_path, settings_toml(config))]) == dataclasses.replace(
        config, config=tmp_path / "settings.toml"
    )


@pytest.mark.parametrize("name", presets.HACKMATRIX)
def test_every_preset_of_hackmatrix_survives(name: str, tmp_path: Path) -> None:
    config = presets.hackmatrix(name)
    assert not differences(
        hackmatrix.read_config(["--config", file_of(tmp_path, settings_toml(config))]), config
    )


def test_the_file_overrides_the_preset_and_flags_override_the_file(tmp_path: Path) -> None:
    file = file_of(tmp_path, 'preset = "tuned"\n[ppo]\nnum_envs = 64\nfinal_ent_coef = "none"\n')
    config = hackmatrix.read_config(["--config", file])
    assert (config.preset, config.ppo.num_envs, config.ppo.final_ent_coef) == ("tuned", 64, None)
    assert config.ppo.learning_rate == presets.hackmatrix("tuned").ppo.learning_rate
    config = hackmatrix.read_config([f"--config={file}", "--preset", "dev", "--ent-coef", "0"])
    assert (config.preset, config.ppo.num_envs, config.ppo.ent_coef) == ("dev", 64, 0)
    assert config.ppo.learning_rate == presets.hackmatrix("dev").ppo.learning_rate


def test_settings_may_stand_at_the_top_level_like_flags_and_under_former_names(tmp_path: Path) -> None:
    file = file_of(tmp_path, "rewriting_rounds = 4\nseed = 2\nnum_epochs = 1e2\n[game]\nsize = [3, 2, 2]\n")
    config = matmul.read_config(["--config", file])
    assert (config.selfplay.refinement_rounds, config.seed, config.game.size) == (4, 2, (3, 2, 2))
    assert config.selfplay.num_epochs == 100
    file = file_of(tmp_path, "[selfplay]\nleftover_fraction = 0.5\n")
    assert matmul.read_config(["--config", file]).selfplay.partial_solution_fraction == 0.5


def test_values_of_a_file_and_flags_need_to_fit_only_together(tmp_path: Path) -> None:
    file = file_of(tmp_path, "num_envs = 6\nnum_steps = 5\n")
    assert hackmatrix.read_config(["--config", file, "--num-minibatches", "3"]).ppo.batch_size == 30
    with pytest.raises(ConfigError, match="30 steps"):
        hackmatrix.read_config(["--config", file])


def test_help_needs_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["matmul", "train", "--config", "nowhere.toml", "--help"])
    assert stopped.value.code == 0
    assert "--config" in capsys.readouterr().out


WRONG: list[tuple[str, str]] = [
    ("nonsense = 1", "unknown setting nonsense"),
    ("seeds = 1", "did you mean seed?"),
    ("[selfplay]\nwidth = 8", "unknown setting selfplay.width; did you mean network.width?"),
    ("[nowhere]\nwidth = 8", "unknown setting nowhere"),
    ("selfplay = 3", "selfplay = 3: must be a table"),
    ("width = '64'", 'width = "64": must be a whole number'),
    ("width = 64.5", "width = 64.5: must be a whole number"),
    ("width = true", "width = true: must be a whole number"),
    ("width = 1979-05-27", "width = 1979-05-27: must be a whole number"),
    ("width = 4", "width = 4: must be 8 or more"),
    ("[network]\nwidth = 'none'", 'network.width = "none": must be a whole number'),
    ("wandb = 1", "wandb = 1: must be true or false"),
    ("size = [2, 2]", "must be a list of 3 entries"),
    ("ring = 'R'", "must be one of Z, F2"),
    ("demonstrations = ['other']", "each entry must be one of synthetic, standard, known"),
    ("preset = 'nope'", 'preset = "nope": must be one of quick, discover'),
    ("preset = 3", "must be text"),
    ("num_epochs = 10000000000", "must be at most 2147483647"),
    (f"num_epochs = {'9' * 5000}", "not TOML"),
    ("learning_rate = nan", "learning_rate = nan: must be above 0"),
    ("time = 30", "time = 30: must be text"),
    ("time = '30'", "--time 30: must be a duration"),
    ("width = 64\n[network]\nwidth = 64", "network.width: given twice"),
    ("rewriting_rounds = 1\nrefinement_rounds = 1", "given twice"),
    ("width = 64\nwidth = 64", "not TOML"),
    ("width", "not TOML"),
    ("a = " + "[" * 5000, "nested too deeply"),
    ("resume_run = 'r'", "resume_run: cannot stand in a file; give --resume-run on the command line"),
    ("distributed = true", "give --distributed on the command line"),
    ("[processes]\njoin_seconds = 3", "give --join-seconds on the command line"),
    ("config = 'a'", "give --config on the command line"),
    ('"\\u001b[1m" = 1', "unknown setting '\\x1b[1m'"),
]


@pytest.mark.parametrize(("text", "said"), WRONG, ids=[said[:40] for _, said in WRONG])
def test_a_wrong_file_is_one_line_and_leaves_nothing(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = file_of(tmp_path, text)
    assert main(["matmul", "train", "--runs-dir", str(tmp_path / "runs"), "--config", file]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("matrixrl: ")
    assert said in line
    assert said.startswith("--time") or f"--config {file}" in line
    assert captured.out == ""
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("what", ["missing", "folder", "pipe", "binary", "large", "last"])
@pytest.mark.parametrize("system", READERS)
def test_an_unreadable_file_is_one_line(
    what: str, system: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "file"
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "binary":
        path.write_bytes(b"\xff\xfe\x00")
    elif what == "large":
        path.write_text("# " + "x" * 2**21)
    flags = ["--config"] if what == "last" else ["--config", str(path)]
    assert main([system, "train", "--runs-dir", str(tmp_path / "runs"), *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("matrixrl: --config")
    assert not (tmp_path / "runs").exists()


def test_a_file_on_resume_changes_what_may_change(tmp_path: Path) -> None:
    where = ["--runs-dir", str(tmp_path / "runs")]
    config = matmul.read_config([*where, "--run-name", "r", "--time", "5s"])
    open_run(config.tracking, system="matmul", name_prefix="t", run_config=as_record(config)).finish()
    file = file_of(
        tmp_path, f'runs_dir = "{tmp_path / "runs"}"\nnum_epochs = 3\npreset = "quick"\nwidth = 64\n'
    )
    resumed = matmul.read_config(["--resume-run", "r", "--config", file])
    # The time limit is that of a command, not of the run.
    assert (resumed.selfplay.num_epochs, resumed.time) == (3, None)
    assert matmul.read_config([*where, "--resume-run", "r", "--time", "7m"]).time_seconds == 420
    with pytest.raises(ConfigError, match="--width 128: r was started with 64"):
        matmul.read_config([*where, "--resume-run", "r", "--config", file_of(tmp_path, "width = 128")])


def test_flags_that_are_read_first_have_two_spellings(tmp_path: Path) -> None:
    config = matmul.read_config(["--runs_dir", str(tmp_path), "--run_name=r", "--seed", "7"])
    open_run(config.tracking, system="matmul", name_prefix="t", run_config=as_record(config)).finish()
    assert matmul.read_config(["--runs_dir", str(tmp_path), "--resume_run", "r"]).seed == 7
    assert matmul.read_config(["--checkpoint_dir", str(tmp_path), "--resume_run=r"]).seed == 7


def test_a_run_of_a_system_without_a_trainer_has_no_settings_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = matmul.read_config(["--runs-dir", str(tmp_path), "--run-name", "r"])
    open_run(config.tracking, system="matmul", name_prefix="t", run_config=as_record(config)).finish()
    capsys.readouterr()
    monkeypatch.delitem(COMMANDS, ("matmul", "train"))
    assert main(["runs", "show", "r", "--runs-dir", str(tmp_path), "--config"]) == 2
    assert "matmul has no settings file" in capsys.readouterr().err


def test_show_prints_settings_without_metrics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = matmul.read_config(["--runs-dir", str(tmp_path), "--run-name", "r"])
    open_run(config.tracking, system="matmul", name_prefix="t", run_config=as_record(config)).finish()
    capsys.readouterr()
    assert main(["runs", "show", "r", "--runs-dir", str(tmp_path), "--config", "--metric", "x"]) == 2
    assert "leave --metric out" in capsys.readouterr().err


KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
)
VALUES = SCALARS | st.lists(SCALARS, max_size=4)
TABLES = st.recursive(
    st.dictionaries(KEYS, VALUES, max_size=4),
    lambda inner: st.dictionaries(KEYS, VALUES | inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60)
@given(TABLES)
def test_any_table_is_written_as_toml(table: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(table)) == table


def test_special_numbers_and_surrogates() -> None:
    assert math.isnan(tomllib.loads(to_toml({"a": math.nan}))["a"])
    with pytest.raises(ConfigError, match="not UTF-8"):
        to_toml({"a": "\udc80"})


@settings(max_examples=30)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(0, 1e300, exclude_min=True),
    st.none() | st.floats(0, 1e300),
    st.none() | st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: text != "none"),
    st.sampled_from(["quiet", "epochs", "episodes", "steps"]),
)
def test_any_settings_survive_a_file(
    seed: int, rate: float, final: float | None, project: str | None, console: Any
) -> None:
    config = HackmatrixConfig()
    config = dataclasses.replace(
        config,
        seed=seed,
        ppo=dataclasses.replace(config.ppo, learning_rate=rate, final_ent_coef=final),
        tracking=dataclasses.replace(config.tracking, project=project, console=console),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.toml"
        path.write_text(settings_toml(config), encoding="utf-8", newline="")
        values = read_settings_file(HackmatrixConfig, path)
    assert (values["seed"], values["ppo.learning_rate"], values["ppo.final_ent_coef"]) == (seed, rate, final)
    assert values.get("tracking.project") == project
    assert values["tracking.console"] == console


def test_a_file_of_one_system_is_refused_by_another(tmp_path: Path) -> None:
    file = file_of(tmp_path, settings_toml(MatmulConfig()))
    with pytest.raises(ConfigError, match=r"--config .*: (unknown setting|preset)"):
        hackmatrix.read_config(["--config", file])
