"""Runs on other tensors than those of matrices: training, resume, evaluation and proof."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from matrixrl.cli.main import main
from matrixrl.config import (
    ConfigError,
    DemonstrationConfig,
    GameConfig,
    MatmulConfig,
    SelfPlayConfig,
    from_record,
)
from matrixrl.schemes.families import problem_named
from matrixrl.schemes.formulas import formulas
from matrixrl.schemes.problem import TensorProblem
from matrixrl.schemes.scheme import Scheme
from matrixrl.schemes.verify import verify
from matrixrl.systems.matmul.program import MatmulProgram
from matrixrl.systems.matmul.solutions import games_of, schemes_of
from tests.systems.conftest import TINY, Result, read, train

# z0 = x0 y0 - x1 y2: sides 2, 3 and 1 are no products of three sizes.
PLAYED = np.zeros((2, 3, 1), np.int64)
PLAYED[0, 0, 0], PLAYED[1, 2, 0] = 1, -1

# z0 = x0 y0, z1 = 2 x0 y1 - x1 y2.
ENTRIES = np.zeros((2, 3, 2), np.int64)
ENTRIES[0, 0, 0], ENTRIES[0, 1, 1], ENTRIES[1, 2, 1] = 1, 2, -1

assert TINY[2:6] == ["--size", "1", "2", "1"]
BASE = [
    *TINY[:2],
    *TINY[6:],
    "--step-margin",
    "2",
    "--episodes-per-epoch",
    "24",
    "--parallel-games",
    "8",
    "--replay-size",
    "32",
]


@pytest.fixture(scope="module")
def tensor_run(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A finished run whose file is gone."""
    folder = tmp_path_factory.mktemp("tensor")
    np.savez(folder / "mine.npz", PLAYED)
    result = train(folder / "runs", "--tensor", str(folder / "mine.npz"), base=BASE)
    (folder / "mine.npz").unlink()
    return result


@pytest.mark.slow
def test_a_run_on_a_file_finds_and_proves_schemes(tensor_run: Result) -> None:
    assert tensor_run.status == 0
    assert tensor_run.directory.name.startswith("matmul-mine")
    scheme = Scheme.load(tensor_run.scheme)
    assert scheme.problem == TensorProblem("mine", PLAYED)
    assert verify(scheme)
    assert scheme.rank == tensor_run.summary["formats"]["mine"]["best_rank"] >= 2
    assert f"mine in {scheme.rank} multiplications, verified over the integers" in tensor_run.output
    assert (tensor_run.directory / "scheme.txt").read_text() == formulas(scheme) + "\n"
    assert (tensor_run.directory / "scheme.png").exists()


@pytest.mark.slow
def test_it_resumes_without_the_file(tensor_run: Result, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tensor_run.directory.parent
    command = [
        "--resume-run",
        tensor_run.directory.name,
        "--runs-dir",
        str(runs),
        "--num-epochs",
        "3",
        "--json",
    ]
    assert main(["matmul", "train", *command]) == 0
    output = capsys.readouterr().out
    again = read(tensor_run.directory, 0, output, "")
    assert again.summary["epochs"] == 3
    assert len(again.stream) > len(tensor_run.stream)
    assert verify(Scheme.load(again.scheme))


@pytest.mark.slow
def test_a_resumed_run_keeps_its_tensor(tensor_run: Result, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--resume-run", tensor_run.directory.name, "--runs-dir", str(tensor_run.directory.parent)]
    assert main(["matmul", "train", *command, "--tensor", "complex"]) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith("matrixrl: --tensor complex: ")
    assert "was started with mine=2x3x1:" in line


@pytest.mark.slow
def test_the_scheme_commands_know_it(tensor_run: Result) -> None:
    assert main(["schemes", "verify", str(tensor_run.directory)]) == 0
    assert main(["schemes", "show", str(tensor_run.directory)]) == 0


@pytest.mark.slow
def test_it_is_evaluated(tensor_run: Result, capsys: pytest.CaptureFixture[str]) -> None:
    runs, name = str(tensor_run.directory.parent), tensor_run.directory.name
    assert main(["matmul", "evaluate", name, "--runs-dir", runs, "--games", "2", "--json"]) == 0
    evaluation = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (evaluation["problem"], evaluation["size"], evaluation["games"]) == ("mine", None, 2)


def program_for(tensor: str, **game: object) -> MatmulProgram:
    selfplay = SelfPlayConfig(episodes_per_epoch=4, parallel_games=4, replay_size=256)
    return MatmulProgram(MatmulConfig(game=GameConfig(tensor=tensor, **game), selfplay=selfplay))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("ring", "largest"), [("Z", 1), ("Z", 100), ("F2", 1)])
def test_targets_in_other_bases_map_back_exactly(ring: str, largest: int, tmp_path: Path) -> None:
    """Large entries, which int8 does not hold in another basis, stay in the standard one."""
    tensor = largest * np.random.default_rng(1).choice([-1, 1], (2, 3, 4))
    np.save(tmp_path / "t.npy", tensor)
    program = program_for(str(tmp_path / "t.npy"), ring=ring, step_limit=9)
    games = program.start_games(jax.random.key(1), program.move_limits, jnp.int32(4), jnp.float32(1))
    targets, inverse = jax.device_get((games.target.astype(jnp.int32), games.basis))
    for lane in range(4):
        back = np.einsum("abc,xa,yb,zc->xyz", targets[lane], *(matrix[lane] for matrix in inverse))
        assert ((back - tensor) % 2 == 0).all() if ring == "F2" else (back == tensor).all()
    assert largest == 100 or any(
        (targets[lane] != tensor % (2 if ring == "F2" else 999)).any() for lane in range(4)
    )


def test_a_scheme_becomes_games_and_comes_back() -> None:
    problem = problem_named("poly-2x3")
    program = program_for("poly-2x3")
    scheme = Scheme(problem, "F2", *problem.standard(modulus=2))
    shorter = Scheme(problem, "F2", scheme.u[:-1], scheme.v[:-1], scheme.w[:-1])  # a run with 5 moves
    games = games_of(program, [shorter])
    assert schemes_of(program, games, {0: 5}) == {0: shorter}
    one = np.ones((1, 1), int)
    with pytest.raises(ValueError, match="the run plays poly-2x3"):
        games_of(program, [Scheme((1, 1, 1), "F2", one, one, one)])


def test_settings_hold_the_tensor(tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", ENTRIES)
    game = GameConfig(tensor=str(tmp_path / "mine.npy"), ring="Z")
    (tmp_path / "mine.npy").unlink()
    assert (game.name, game.shape, game.formats) == ("mine", (2, 3, 2), ())
    assert game.standard_ranks == (4,)  # 2 x0 y1 takes two ternary products
    assert GameConfig(tensor=game.tensor, ring="Z", max_coefficient=2).standard_ranks == (3,)
    assert GameConfig(tensor=game.tensor, ring="F2", step_margin=0).move_limits == (2,)
    again = from_record(GameConfig, json.loads(json.dumps({"tensor": game.tensor, "ring": "Z"})))
    assert again == game
    assert again.problems == game.problems


@pytest.mark.parametrize(
    ("values", "game", "says"),
    [
        (2 * ENTRIES, {"ring": "F2"}, "every entry is even.*--ring Z"),
        (np.ones((26, 2, 2), int), {}, "26x2x2 given; at most 25"),
        (np.ones((25, 25, 2), int), {}, "give --step-limit"),
        (ENTRIES, {"size": (2, 2, 3)}, "takes the place of --size"),
        (ENTRIES, {"sizes": ("2x2x2",)}, "takes the place of --size"),
        (ENTRIES, {"step_margin": -2, "ring": "F2"}, "--step-margin -2: leaves 0 moves of the 2"),
        (ENTRIES, {"step_limit": 0}, "--step-limit 0"),
        (ENTRIES[0], {}, "want three modes"),
    ],
)
def test_impossible_settings_are_refused(values: np.ndarray, game: dict, says: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", values)
    with pytest.raises(ConfigError, match=says):
        GameConfig(tensor=str(tmp_path / "x.npy"), **game)


def test_a_known_scheme_is_shown_for_matrices_alone() -> None:
    shown = DemonstrationConfig(demonstrations=("known",))
    assert MatmulConfig(game=GameConfig(tensor="2x2x2"), demonstration=shown).game.shape == (4, 4, 4)
    with pytest.raises(ConfigError, match="--demonstrations known: no algorithm for complex"):
        MatmulConfig(game=GameConfig(tensor="complex"), demonstration=shown)
