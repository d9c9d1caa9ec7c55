"""Schemes of any problem: proof, files, formulas, pictures and lifting depend on the problem alone."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matrixrl.cli.main import main
from matrixrl.schemes import verify as proof
from matrixrl.schemes.draw import compose
from matrixrl.schemes.equivalence import canonical_terms, count_classes
from matrixrl.schemes.families import FamilyProblem, problem_named
from matrixrl.schemes.files import load_schemes
from matrixrl.schemes.formulas import formulas, parse_formulas
from matrixrl.schemes.lift import lift
from matrixrl.schemes.problem import MatrixMultiplication, Problem, TensorProblem
from matrixrl.schemes.records import judge, judge_scheme
from matrixrl.schemes.scheme import Format, Scheme, SchemeError
from matrixrl.schemes.symmetry import rotate
from matrixrl.schemes.verify import verify

MINE = TensorProblem("mine", np.random.default_rng(3).integers(-2, 3, (2, 3, 5)))
PROBLEMS = [
    MatrixMultiplication(Format(2, 1, 3)), MINE,
    *map(problem_named, ["poly-2x3", "cyclic-3", "conv-2x3", "complex", "quaternion", "gram-3x2", "symmetric-3x2",
                         "triangular-3x2", "skew-4"]),
]  # fmt: skip

KARATSUBA = """
M1 = x0*y0
M2 = x1*y1
M3 = (x0 + x1)(y0 + y1)
z0 = M1
z1 = M3 - M1 - M2
z2 = M2
"""
GAUSS = """
M1 = xr*yr
M2 = xi*yi
M3 = (xr + xi)(yr + yi)
zr = M1 - M2
zi = M3 - M1 - M2
"""


@pytest.fixture(params=PROBLEMS, ids=str)
def scheme(request: pytest.FixtureRequest) -> Scheme:
    problem: Problem = request.param
    return Scheme(problem, "Z", *problem.standard())


def test_the_standard_algorithm_is_right_and_a_changed_one_is_wrong(scheme: Scheme) -> None:
    assert verify(scheme)
    assert verify(scheme.mod2())
    w = scheme.w.copy()
    r, c = np.argwhere(w)[-1]
    w[r, c] += 2  # the same modulo 2
    check = verify(replace(scheme, w=w))
    assert not check
    assert check.num_wrong == 1
    labels = scheme.problem.labels
    assert f"in {labels[2][c]}: got {w[r, c]}, want {w[r, c] - 2}" in check.message
    assert verify(replace(scheme, w=w), "F2")


def test_a_wrong_scheme_of_a_large_problem_is_detected_by_a_random_vector(
    scheme: Scheme, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "_LARGE", 0)
    assert verify(scheme)
    wrong = verify(replace(scheme, w=-scheme.w))
    assert not wrong
    assert not wrong.counted_all


def test_files_and_formulas_hold_every_scheme(scheme: Scheme, tmp_path: Path) -> None:
    path = tmp_path / "scheme.json"
    scheme.save(path)
    again = Scheme.load(path)
    assert again == scheme
    assert hash(again) == hash(scheme)
    assert again.problem == scheme.problem
    assert parse_formulas(scheme.problem, formulas(scheme)) == scheme
    assert parse_formulas(scheme.problem, formulas(scheme.mod2()), "F2") == scheme.mod2()


def test_pictures_have_a_name_for_every_entry(scheme: Scheme) -> None:
    texts = [words.text for words in compose(scheme).words]
    assert all(label in texts for labels in scheme.problem.labels for label in labels)
    assert f"{scheme.problem} in {scheme.rank} multiplications, over the integers, verified" in texts


def test_a_scheme_modulo_2_lifts_to_the_integers(scheme: Scheme) -> None:
    modulo_2 = Scheme(scheme.problem, "F2", *scheme.problem.standard(modulus=2))
    assert verify(modulo_2)
    lifted = lift(modulo_2)
    if lifted.scheme is None:  # a product whose coefficients are all even is missing modulo 2
        assert scheme.problem is MINE
        return
    assert verify(lifted.scheme)
    assert lifted.scheme.problem == scheme.problem


@pytest.mark.parametrize(("name", "text", "rank"), [("poly-2x2", KARATSUBA, 3), ("complex", GAUSS, 3)])
def test_published_algorithms_are_right_and_match_the_record(name: str, text: str, rank: int) -> None:
    scheme = parse_formulas(problem_named(name), text)
    assert verify(scheme)
    assert judge_scheme(scheme).message.startswith(f"{name}:{rank} matches the record")
    lifted = lift(scheme.mod2())
    assert lifted.scheme is not None
    assert canonical_terms(lifted.scheme).rank == rank


def test_the_proof_uses_the_arithmetic_and_not_the_tensor() -> None:
    @dataclass(frozen=True, eq=False)
    class WrongTensor(FamilyProblem):
        def nonzero(self) -> tuple[np.ndarray, np.ndarray]:
            places, values = super().nonzero()
            return places, -values

    right = problem_named("complex")
    assert isinstance(right, FamilyProblem)
    wrong = WrongTensor(**{name: getattr(right, name) for name in FamilyProblem.__dataclass_fields__})
    assert verify(Scheme(wrong, "Z", *right.standard()))
    assert not verify(Scheme(wrong, "Z", *wrong.standard()))


def test_arithmetic_that_is_not_bilinear_is_no_problem() -> None:
    @dataclass(frozen=True, eq=False)
    class Shifted(FamilyProblem):
        def multiply(self, x: Any, y: Any) -> Any:
            return [x[0] * y[0] + 1, x[0] * y[1]]

    right = problem_named("complex")
    shifted = Shifted(**{name: getattr(right, name) for name in FamilyProblem.__dataclass_fields__})
    with pytest.raises(TypeError, match="adds no constant"):
        verify(Scheme(shifted, "Z", *right.standard()))


def test_matrices_alone_have_formats_and_classes() -> None:
    scheme = Scheme(problem_named("complex"), "Z", *problem_named("complex").standard())
    with pytest.raises(SchemeError, match="complex has no format"):
        _ = scheme.format
    with pytest.raises(SchemeError, match="complex has no format"):
        rotate(scheme)
    assert count_classes([scheme]).message == "1 solution, classes are counted for matrices alone"
    one = np.ones((1, 1), int)
    assert Scheme((1, 1, 1), "Z", one, one, one).problem == problem_named("1x1x1")


@pytest.mark.parametrize(("modulus", "largest"), [(0, None), (0, 1), (0, 2), (2, None)])
def test_the_standard_algorithm_keeps_to_the_coefficients(modulus: int, largest: int | None) -> None:
    problem = TensorProblem("large", np.array([[[5, -3, 0]], [[2, 4, -6]], [[0, 0, 1]]]))
    u, v, w = problem.standard(modulus, largest)
    total = np.einsum("ra,rb,rc->abc", u, v, w)
    difference = total - problem.tensor()
    assert not (difference % 2 if modulus else difference).any()
    assert all(factor.any(axis=1).all() for factor in (u, v, w))
    if largest is not None:
        assert max(np.abs(factor).max() for factor in (u, v, w)) <= largest
        assert len(w) == {1: 5 + 6 + 1, 2: 3 + 3 + 1}[largest]
    if modulus:
        assert len(w) == 2  # x2*y1 has even coefficients only


def test_the_verdict_names_what_is_known() -> None:
    assert judge(problem_named("skew-4"), 9, "integer").message.startswith("skew-4:9 matches the record")
    assert judge(problem_named("skew-4"), 9, "mod2").record == 9
    unknown = judge(problem_named("quaternion"), 10, "ternary")
    assert unknown.record is None
    assert "no rank is on record" in unknown.message
    assert "over the rationals 8, standard 16" in unknown.message


def record_of(problem: Problem, /, **changes: Any) -> dict[str, Any]:
    record = Scheme(problem, "Z", *problem.standard()).to_record() | changes
    return {name: value for name, value in record.items() if value is not ...}


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (record_of(MINE, problem=3), "problem: 3 given"),
        (record_of(MINE, problem="../up"), "problem: "),
        (record_of(MINE, problem=""), "problem: "),
        (record_of(MINE, problem=...), "format: missing"),
        (record_of(MINE, tensor=...), "problem 'mine': no such problem"),
        (record_of(MINE, format=[2, 2, 2]), "format: given beside problem"),
        (record_of(MINE, tensor=7), "tensor: want three nested lists"),
        (record_of(MINE, tensor=[[1]]), "tensor: want three nested lists"),
        (record_of(MINE, tensor=[[[1.0]]]), "tensor: want three nested lists"),
        (record_of(MINE, tensor=[[[True]]]), "tensor: want three nested lists"),
        (record_of(MINE, tensor=[[[1, 2], [3]]]), "tensor: want three nested lists"),
        (record_of(MINE, tensor=[]), "tensor: want three nested lists"),
        (record_of(MINE, tensor=[[[10**30]]]), "tensor: an entry is beyond 127"),
        (record_of(MINE, tensor=[[[0]]]), "every entry is zero"),
        (record_of(MINE, tensor=[[[1]]]), r"u\[0\]: 2 entries, want 1"),
        (record_of(problem_named("complex"), problem="quaternion"), r"u\[0\]: 2 entries, want 4"),
    ],
)
def test_malformed_problems_are_refused_with_the_field(record: dict[str, Any], says: str) -> None:
    with pytest.raises(SchemeError, match=says):
        Scheme.from_record(record)


def test_the_commands_read_schemes_of_any_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scheme = parse_formulas(problem_named("poly-2x2"), KARATSUBA)
    path = tmp_path / "karatsuba.json"
    scheme.save(path)
    assert load_schemes(path) == [scheme]
    assert main(["schemes", "verify", str(path), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (summary["problem"], summary["format"], summary["rank"], summary["record"]) == (
        "poly-2x2",
        None,
        3,
        3,
    )
    picture = tmp_path / "karatsuba.png"
    assert main(["schemes", "show", str(path), "--png", str(picture)]) == 0
    output = capsys.readouterr().out
    assert "M3 = (x0 + x1)(y0 + y1)" in output
    assert picture.read_bytes().startswith(b"\x89PNG")
    replace(scheme, w=-scheme.w).save(path)
    assert main(["schemes", "verify", str(path)]) == 1
