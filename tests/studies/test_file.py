"""Study files: what they mean, and one line for what they must not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from matrixrl.cli.study_commands import checked_schema, schema_of
from matrixrl.config import ConfigError
from matrixrl.studies.file import Choice, Objective, Range, StudyFile, read_study_file
from matrixrl.studies.record import about_file, differences_of, obstacle_of
from matrixrl.studies.schema import Schema
from matrixrl.studies.trials import plan_trials

HEAD = 'command = "ppo train"\nseeds = [1, 2]\n[settings]\nenv = "gymnax:CartPole-v1"\n'


def read(folder: Path, text: str, *, tunes: bool = False) -> tuple[StudyFile, Schema]:
    path = folder / "study.toml"
    path.write_text(text)
    return read_study_file(path, schema_of, tunes=tunes, samplers=("tpe", "grid"), pruners=("none", "median"))


def test_the_file_of_the_documentation(tmp_path: Path) -> None:
    study, schema = read(
        tmp_path,
        """
command = "hackmatrix train"
seeds = [1, 2]
[settings]
num_envs = 16
[grid]
learning_rate = [1e-4, 3e-4]
[objective]
metric = "episode/return"
mode = "max"
""",
    )
    assert (study.command, study.settings) == ("hackmatrix train", {"num_envs": 16})
    assert study.points == ({"learning_rate": 1e-4}, {"learning_rate": 3e-4})
    assert study.objective == Objective("episode/return")
    plans = plan_trials(study, schema)  # HackMatrix trains one agent per run
    assert [dict(plan.flags) for plan in plans] == [
        {"learning_rate": 1e-4, "seed": 1}, {"learning_rate": 1e-4, "seed": 2},
        {"learning_rate": 3e-4, "seed": 1}, {"learning_rate": 3e-4, "seed": 2},
    ]  # fmt: skip


def test_arguments_of_the_program_stay_together(tmp_path: Path) -> None:
    text = HEAD + "[grid]\nnum_steps = [64, 128]\nlearning_rate = [1e-4, 3e-4]\nent_coef = [0.0, 0.1]\n"
    study, schema = read(tmp_path, text)
    plans = plan_trials(study, schema)
    assert [dict(plan.flags) for plan in plans] == [
        {"num_steps": steps, "seed": seed, "sweep": ["learning_rate=0.0001,0.0003", "ent_coef=0.0,0.1"]}
        for steps in (64, 128)
        for seed in (1, 2)
    ]
    first = plans[0].members
    assert [(m.agent, m.settings["learning_rate"], m.settings["ent_coef"], m.seed) for m in first] == [
        (0, 1e-4, 0.0, 1), (1, 1e-4, 0.1, 1), (2, 3e-4, 0.0, 1), (3, 3e-4, 0.1, 1),
    ]  # fmt: skip
    # The agents are numbered as the run numbers them.
    from matrixrl.cli.ppo import read_config
    from matrixrl.systems.ppo.agents import agents_of

    config = read_config([*schema.arguments(study.settings), *schema.arguments(plans[0].flags)])
    assert [(a.values["ppo.learning_rate"], a.values["ppo.ent_coef"], a.seed) for a in agents_of(config)] == [
        (m.settings["learning_rate"], m.settings["ent_coef"], m.seed) for m in first
    ]


def test_seeds_together_and_everything_apart(tmp_path: Path) -> None:
    grid = "[grid]\nlearning_rate = [1e-4, 3e-4]\n"
    both, schema = read(tmp_path, 'together = ["settings", "seeds"]\n' + HEAD + grid)
    (plan,) = plan_trials(both, schema)
    assert dict(plan.flags) == {"seed": 1, "num_seeds": 2, "sweep": ["learning_rate=0.0001,0.0003"]}
    apart, schema = read(tmp_path, "together = []\n" + HEAD + grid)
    assert len(plan_trials(apart, schema)) == 4
    # Points that are no grid are runs of their own.
    listed, schema = read(
        tmp_path,
        HEAD
        + "[[trial]]\nlearning_rate = 1e-4\nent_coef = 0.0\n[[trial]]\nlearning_rate = 3e-4\nent_coef = 0.1\n",
    )
    assert [len(plan.members) for plan in plan_trials(listed, schema)] == [1] * 4


def test_an_extended_grid_has_only_what_is_missing(tmp_path: Path) -> None:
    study, schema = read(tmp_path, HEAD + "[grid]\nlearning_rate = [1e-4, 3e-4]\n")
    done = [member.key for plan in plan_trials(study, schema) for member in plan.members]
    more, schema = read(tmp_path, HEAD + "[grid]\nlearning_rate = [1e-4, 3e-4, 1e-3]\n")
    assert [dict(plan.flags) for plan in plan_trials(more, schema, done)] == [
        {"learning_rate": 1e-3, "seed": 1}, {"learning_rate": 1e-3, "seed": 2},
    ]  # fmt: skip
    old, new = about_file(study), about_file(more)
    assert differences_of(old, new) == ["learning_rate 0.0001, 0.0003 -> 0.0001, 0.0003, 0.001"]
    assert obstacle_of(old, new, "sweep") == ""
    assert "lacks point learning_rate 0.001" in obstacle_of(new, old, "sweep")
    assert "lacks seed 2" in obstacle_of(old, {**old, "seeds": [1]}, "sweep")
    assert obstacle_of(old, {**old, "seeds": [2, 1, 3]}, "sweep") == ""
    assert obstacle_of(old, {**old, "seeds": [1, 2, 3]}, "tune")  # Optuna knows the first two alone
    assert differences_of(old, {**old, "settings": {**old["settings"], "num_envs": 8}}) == [
        "num_envs none -> 8"
    ]
    assert obstacle_of(old, {**old, "settings": {}}, "sweep")


def test_a_random_sample(tmp_path: Path) -> None:
    text = HEAD + (
        "[random]\ntrials = {n}\nlearning_rate = {{low = 1e-5, high = 1e-1, log = true}}\n"
        "num_minibatches = [2, 4]\nupdate_epochs = {{low = 1, high = 8}}\n"
    )
    ten = read(tmp_path, text.format(n=10))[0].points
    assert len(ten) == 10
    assert read(tmp_path, text.format(n=10))[0].points == ten
    assert read(tmp_path, text.format(n=12))[0].points[:10] == ten
    for point in ten:
        assert 1e-5 <= point["learning_rate"] <= 1e-1
        assert point["num_minibatches"] in (2, 4)
        assert point["update_epochs"] in range(1, 9)
    assert min(p["learning_rate"] for p in ten) < 1e-3 < max(p["learning_rate"] for p in ten)


def test_a_search_space(tmp_path: Path) -> None:
    study, _ = read(
        tmp_path,
        HEAD + "[space]\nlearning_rate = {low = 1e-5, high = 1e-1, log = true}\ngamma = [0.9, 0.99]\n"
        '[objective]\nmetric = "episode/return"\nvalue = "area"\nover_seeds = "lower quartile"\n'
        '[tune]\ntrials = 7\nsampler = "tpe"\npruner = "none"\n',
        tunes=True,
    )
    assert study.space == {"learning_rate": Range(1e-5, 1e-1, log=True), "gamma": Choice((0.9, 0.99))}
    assert (study.tune.trials, study.points) == (7, ())
    # A file for `sweep` is a search space, too.
    both = HEAD + '[random]\ntrials = 3\ngamma = [0.9, 0.99]\n[objective]\nmetric = "episode/return"\n'
    assert read(tmp_path, both, tunes=True)[0].tune.trials == 3


BAD = {
    "": "command is missing",
    'command = "ppo evaluate"': "must be one of ppo train",
    "command = 1": "must be text",
    'command = "ppo train"\ncolour = 1': "unknown key",
    HEAD + "[grid]": "[grid] is empty",
    HEAD + "[grid]\nlearning_rate = []": "must have a value or more",
    HEAD + "[grid]\nlearning_rate = [-1.0]": "must be above 0",
    HEAD + '[grid]\nlearning_rate = ["high"]': "must be a number",
    HEAD + "[grid]\nlearning_rates = [1.0]": "did you mean learning_rate?",
    HEAD + "[grid]\nlearning_rate = 1.0": "must be a list of values",
    HEAD + "[grid]\nlearning_rate = [1.0, 1.0]": "stands there twice",
    HEAD + "[grid]\nseed = [1]": "give `seeds`",
    HEAD + "[grid]\nrun_name = ['a']": "the study names its runs",
    HEAD + "[grid]\nenv = ['gymnax:Acrobot-v1']": "stands in [settings] and varies too",
    HEAD + "[grid]\ngamma = [0.9]\n[random]\ngamma = [0.9]": "give one of them",
    HEAD + "[random]\ngamma = [0.9]": "trials is missing",
    HEAD + "[random]\ntrials = 2\ngamma = [0.9]": "only 1 different points",
    HEAD + "[random]\ntrials = 2\ngamma = {low = 0.9, high = 0.8}": "must be below high",
    HEAD + "[random]\ntrials = 2\ngamma = {low = 0, high = 0.8, log = true}": "must be above 0",
    HEAD + "[objective]\nmode = 'max'": "metric is missing",
    HEAD + "[objective]\nmetric = 'a'\nmode = 'best'": "must be one of max, min",
    HEAD + "[objective]\nmetric = 'time_to_rank'": "given together",
    HEAD + "[tune]\ntrials = 2": "is for `matrixrl tune",
    "seeds = [1, 1]\n" + HEAD.replace("seeds = [1, 2]\n", ""): "must be a list of different whole numbers",
    "seeds = 3\n" + HEAD.replace("seeds = [1, 2]\n", ""): "must be a list of different whole numbers",
    "not toml": "not TOML",
}


@pytest.mark.parametrize("text", BAD, ids=BAD.values())
def test_bad_files_are_refused_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert BAD[text] in message
    assert "study.toml" in message
    assert "\n" not in message


def test_a_point_that_does_not_fit_is_refused_before_anything_starts(tmp_path: Path) -> None:
    study, schema = read(tmp_path, HEAD + "[grid]\nnum_minibatches = [8, 7]\n")
    with pytest.raises(ConfigError, match=r"study.toml: num_minibatches 7: .*does not divide"):
        checked_schema(study, schema, list(study.points))
