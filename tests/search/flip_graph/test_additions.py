from __future__ import annotations

from dataclasses import replace

import pytest

from matrixrl.cli.main import main
from matrixrl.schemes.known import strassen
from matrixrl.schemes.neighbours import extend
from matrixrl.schemes.reduction import reduced_program
from matrixrl.schemes.scheme import Scheme, SchemeError
from matrixrl.schemes.verify import verify
from matrixrl.search.flip_graph.additions import _Beam, cheapest_of_pool, walk_ring

SCHEME = extend(strassen(), 2)


@pytest.mark.parametrize("ring", ["Z", "F2"])
def test_a_cheaper_scheme_of_the_same_rank_is_found(ring: str) -> None:
    scheme = SCHEME if ring == "Z" else SCHEME.mod2()
    before = reduced_program(scheme, seconds=100, restarts=20).num_additions
    target = before - 2
    found = cheapest_of_pool(scheme, seconds=280, target=target, max_generations=2)
    assert verify(found.scheme)
    assert found.scheme.ring == ring
    assert found.scheme.rank == 11
    assert found.program.num_additions <= target
    assert found.moves > 0
    found.program.check(found.scheme)


def test_walks_from_the_pool_alone_find_cheaper_schemes() -> None:
    beam = _Beam(SCHEME, "Z", seed=0)
    before = beam.lowest_cost
    for generation in range(6):
        beam.advance(generation, lambda: False)
    assert beam.lowest_cost < before
    assert beam.flips > 0
    assert all(verify(scheme) and scheme.rank == 11 for scheme in beam.cheapest(5))


def test_other_coefficients_and_wrong_schemes_are_refused(
    tmp_path, capsys: pytest.CaptureFixture[str]
) -> None:
    doubled = replace(SCHEME, u=2 * SCHEME.u)
    with pytest.raises(SchemeError, match="has others"):
        walk_ring(doubled)
    with pytest.raises(SchemeError, match="not a correct scheme"):
        cheapest_of_pool(replace(SCHEME, u=-SCHEME.u), seconds=1)
    halves = Scheme((1, 1, 1), "Z", [[2], [-1]], [[1], [1]], [[1], [1]])
    halves.save(tmp_path / "two.json")
    assert main(["schemes", "reduce", str(tmp_path / "two.json"), "--search"]) == 2
    assert "flips walk over F2 or with coefficients -1, 0, 1" in capsys.readouterr().err
