from __future__ import annotations

import pytest

from matrixrl.schemes.known import laderman, standard, strassen, winograd
from matrixrl.schemes.scheme import Scheme
from matrixrl.schemes.stabilizer import symmetry_group
from tests.schemes.strategies import rescaled


@pytest.mark.parametrize(
    ("scheme", "order", "of"),
    [
        (strassen().mod2(), 36, 1296),  # the 36 schemes modulo 2 are one orbit of 216 changes of basis
        (winograd().mod2(), 36, 1296),  # the same orbit
        (laderman(), 24, 82944),  # published: the group is the symmetric group on four letters
        (standard((2, 2, 2)), 384, 384),
        (standard((1, 2, 3)), 96, 96),
        (standard((2, 1, 2)), 32, 32),
    ],
    ids=str,
)
def test_known_groups(scheme: Scheme, order: int, of: int) -> None:
    group = symmetry_group(scheme)
    assert group is not None
    assert (group.order, group.of) == (order, of)
    assert group.words.startswith(f"{order:,} of {of:,} (")


def test_the_order_divides_the_number_of_symmetries() -> None:
    for scheme in (strassen(), winograd(), laderman(), standard((2, 2, 3))):
        group = symmetry_group(scheme)
        assert group is not None
        assert group.of % group.order == 0


def test_large_groups_and_fractions_are_left_out() -> None:
    assert symmetry_group(standard((5, 5, 5))) is None
    assert symmetry_group(rescaled(strassen(), "Q")) is None
