"""Study files: what they mean, and one line for what they must not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from matrixrl.cli.study_commands import PointChecker, checked_schema, schema_of
from matrixrl.cli.study_tune import start_point
from matrixrl.config import ConfigError
from matrixrl.config.environment import EnvironmentRunConfig
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
    HEAD + "[random]\ntrials = 0\ngamma = [0.9]": "must be a whole number from 1",
    HEAD + "[random]\ntrials = 2\ngamma = {low = 0.8, high = 0.9, step = nan}": "must be a number above 0",
    HEAD + "[random]\ntrials = 2\ngamma = {low = 0.8, high = 0.9, step = 1.0}": "at most high - low",
    HEAD
    + "[random]\ntrials = 2\nnum_steps = {low = 1, high = 9, step = 0.5}": "must be a whole number above 0",
    HEAD + "[random]\ntrials = 2\ngamma = {low = 0.8, min = 0.7, high = 0.9}": "mean the same",
    HEAD + "[random]\ntrials = 2\ngamma = {low = 0.8, choices = [0.9]}": "a list of values or a range",
    HEAD + "[random]\ntrials = 2\nlearning_rate = {low = 0.8, high = inf}": "must be a finite number",
    HEAD + '[grid]\n"bad\\nname" = [1]': "unknown setting",
    HEAD + "[[trial]]\n[[trial]]": "equals [[trial]] 1",
    HEAD + "[objective]\nmetric = 'best'\nvalue = 'area'": "is one number; leave value out",
    HEAD + "[objective]\nmetric = 'best'\nmode = 'min'": 'the highest "best" is the best',
    'command = "matmul train"\n[objective]\nmetric = "best"\nmode = "max"': 'the lowest "best" is the best',
    HEAD + "[objective]\nmode = 'max'": "metric is missing",
    HEAD + "[objective]\nmetric = 'a'\nmode = 'best'": "must be one of max, min",
    HEAD + "[objective]\nmetric = 'time_to_rank'": "given together",
    HEAD + "[tune]\ntrials = 2": "is for `matrixrl tune",
    "seeds = [1, 1]\n" + HEAD.replace("seeds = [1, 2]\n", ""): "must be a list of different whole numbers",
    "seeds = 3\n" + HEAD.replace("seeds = [1, 2]\n", ""): "must be a list of different whole numbers",
    "not toml": "not TOML",
}


OBJECTIVE = "[objective]\nmetric = 'episode/return'\n"
SPACE = "[space]\ngamma = {low = 0.8, high = 0.9}\n" + OBJECTIVE

BAD_SEARCH = {
    HEAD + "[space]\ngamma = [0.9]\nsample_seed = 1\n" + OBJECTIVE: "unknown setting sample_seed",
    HEAD + "[[trial]]\ngamma = 0.9\n" + OBJECTIVE: "is for `matrixrl sweep`",
    HEAD + OBJECTIVE: "the search space is missing",
    HEAD + "[space]\ngamma = [0.9]\n": "[objective] is missing",
    HEAD + "gamma = 0.95\n" + SPACE: "the search begins there",
    HEAD + SPACE + "[tune]\nsampler = 'grid'": "a range without a step",
    HEAD + SPACE + "[tune]\nsampler = 'magic'": "must be one of tpe, grid",
    HEAD + SPACE + "[tune]\nseed = 5_000_000_000": "must be from 0 to 4294967295",
    HEAD + SPACE + "[tune]\ntrials = 5_000_000_000": "must be from 1 to 100000",
    HEAD + SPACE + "[tune]\ntrials = 90_000": "180,000 trials",
    HEAD + SPACE + "[tune]\nstart = 1": "must be true or false",
    HEAD + SPACE + "[tune]\nconfirm = -1": "must be from 0",
    HEAD + SPACE + "[tune]\nconfirm_seeds = [5]": "belongs to confirm",
    HEAD + SPACE + "[tune]\nconfirm = 1\nconfirm_seeds = []": "must be a list of different whole numbers",
    HEAD + SPACE + "[tune]\nconfirm = 1\nconfirm_seeds = [5, 2]": "2 stands in seeds too",
}


@pytest.mark.parametrize("text", [*BAD, *BAD_SEARCH], ids=[*BAD.values(), *BAD_SEARCH.values()])
def test_bad_files_are_refused_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text, tunes=text in BAD_SEARCH)
    message = str(caught.value)
    assert {**BAD, **BAD_SEARCH}[text] in message
    assert "study.toml" in message
    assert "\n" not in message


def test_a_search_begins_with_the_present_settings(tmp_path: Path) -> None:
    space = (
        "[space]\nlearning_rate = {low = 1e-6, high = 1e-2, log = true}\ngamma = [0.9, 0.95]\n" + OBJECTIVE
    )
    for text, expected in (
        (
            HEAD + "learning_rate = 2.5e-6\n" + space,
            {"learning_rate": 2.5e-6},
        ),  # the default of gamma is not there
        (HEAD + "learning_rate = 2.5e-6\ngamma = 0.9\n" + space, {"learning_rate": 2.5e-6, "gamma": 0.9}),
        (HEAD + "learning_rate = 2.5e-6\n" + space + "[tune]\nstart = false\n", {}),
    ):
        study, schema = read(tmp_path, text, tunes=True)
        assert study.settings == {"env": "gymnax:CartPole-v1"}
        assert start_point(study, schema, PointChecker(study, schema)) == expected
    study, schema = read(tmp_path, HEAD + space, tunes=True)
    default = start_point(study, schema, PointChecker(study, schema))
    assert default == {"learning_rate": EnvironmentRunConfig().ppo.learning_rate}


def test_seeds_that_confirm_are_other_ones(tmp_path: Path) -> None:
    study, _ = read(tmp_path, HEAD + SPACE + "[tune]\nconfirm = 2\n", tunes=True)
    assert (study.tune.confirm, study.tune.confirm_seeds) == (2, (3, 4, 5))
    highest = HEAD.replace("[1, 2]", f"[0, {2**32 - 1}]") + SPACE + "[tune]\nconfirm = 1\n"
    assert read(tmp_path, highest, tunes=True)[0].tune.confirm_seeds == (1, 2, 3)


def test_what_is_best_follows_from_the_command(tmp_path: Path) -> None:
    """The best rank is the lowest one, also where the file does not say so."""
    text = '[objective]\nmetric = "best"\n'
    for command, mode in (("matmul train", "min"), ("matmul flip", "min"), ("hackmatrix train", "max")):
        study, _ = read(tmp_path, f'command = "{command}"\n{text}')
        assert study.objective is not None
        assert study.objective.mode == mode
    study, schema = read(tmp_path, HEAD + "[grid]\nlearning_rate = [1e-4, 1e-3]\n" + text)
    checked, _ = checked_schema(study, schema, list(study.points))
    # The best value of a run of several agents is that of the best one: each is a run of its own.
    assert [len(plan.members) for plan in plan_trials(study, checked)] == [1] * 4
    study, schema = read(tmp_path, f'command = "matmul train"\n[settings]\nsizes = ["2x2x2"]\n{text}')
    assert checked_schema(study, schema, list(study.points))[0].best_is_lowest
    study, schema = read(tmp_path, HEAD + '[objective]\nmetric = "time_to_rank"\nrank = 7\n')
    with pytest.raises(ConfigError, match="no run of `matrixrl ppo train` has it"):
        checked_schema(study, schema, list(study.points))


def test_a_preset_in_the_grid_brings_its_own_settings(tmp_path: Path) -> None:
    text = 'command = "hackmatrix train"\n[grid]\npreset = ["default", "tuned"]\nnum_envs = [8, 16]\n'
    study, schema = read(tmp_path, text)
    checker = PointChecker(study, schema)
    for point in study.points:
        assert checker.check(point) == checker.read(point)


def test_a_point_that_does_not_fit_is_refused_before_anything_starts(tmp_path: Path) -> None:
    study, schema = read(tmp_path, HEAD + "[grid]\nnum_minibatches = [8, 7]\n")
    with pytest.raises(ConfigError, match=r"study.toml: num_minibatches 7: .*does not divide"):
        checked_schema(study, schema, list(study.points))
