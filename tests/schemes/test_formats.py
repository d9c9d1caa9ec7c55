"""Every public file format: examples of the documentation, round trips, orientation of C, rings."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matrixrl.schemes.files import read_scheme_file, select_files
from matrixrl.schemes.formats import FORMATS, NotASchemeError, read_bytes_as_schemes, render
from matrixrl.schemes.formats.draft import format_of_sides
from matrixrl.schemes.known import known_scheme, laderman, standard, strassen
from matrixrl.schemes.scheme import Format, Scheme, SchemeError
from matrixrl.schemes.verify import verify
from tests.schemes.strategies import correct_schemes, factor_schemes, rescaled

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "schemes.md"
EXAMPLES = re.findall(r"<!-- example: (\w+) -->\n```\w*\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


@pytest.mark.parametrize(("name", "text"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_the_examples_of_the_documentation_are_right(name: str, text: str) -> None:
    read = read_bytes_as_schemes(text.encode())
    assert read.format == name
    (reading,) = read.readings
    assert reading.scheme.format == (2, 1, 2)
    assert reading.scheme.rank == 4
    assert verify(reading.scheme)


def test_every_format_with_text_is_documented() -> None:
    assert {name for name, _ in EXAMPLES} == set(FORMATS) - {"npz"}


def only(data: bytes) -> Scheme:
    (reading,) = read_bytes_as_schemes(data).readings
    return reading.scheme


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_written_scheme_is_read_as_itself(name: str, data: st.DataObject) -> None:
    ring = data.draw(st.sampled_from(["Z", "F2", "F3", "Z[1/2]", "Q", "Q[i]"]))
    base = data.draw(st.one_of(correct_schemes(), factor_schemes(ring="Z")))
    scheme = rescaled(base, ring)
    if name == "npz" and ring in ("Q", "Q[i]"):
        scheme = rescaled(base, "Z[1/2]")
    assert only(render([scheme], name)) == scheme


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("format", [(2, 11, 3), (11, 2, 12), (1, 12, 1), (3, 1, 10)])
def test_indices_of_two_digits_survive(name: str, format: tuple[int, int, int]) -> None:
    scheme = standard(format)
    assert only(render([scheme], name)) == scheme


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=15, deadline=None)
@given(scheme=correct_schemes(), data=st.data())
def test_a_corrupted_coefficient_never_verifies(name: str, scheme: Scheme, data: st.DataObject) -> None:
    mode = data.draw(st.sampled_from("uvw"))
    factor = getattr(scheme, mode).copy()
    index = data.draw(st.integers(0, factor.size - 1))
    factor.flat[index] += data.draw(st.sampled_from([-2, -1, 1, 2]))
    wrong = replace(scheme, **{mode: factor})
    read = only(render([wrong], name))
    assert not verify(read)


@pytest.mark.parametrize("name", ["npz", "m", "exp", "elements", "mpl", "txt", "sms"])
@pytest.mark.parametrize("format", [(2, 2, 2), (3, 3, 3), (2, 3, 4), (4, 4, 4)])
def test_the_orientation_of_c_is_found_out(name: str, format: tuple[int, int, int]) -> None:
    scheme = known_scheme(format)
    n, _, p = scheme.format
    if n != p and name in ("m", "mpl", "exp"):
        pytest.skip("the shape of C leaves no choice")
    # The same file but with C the other way round: some formats are written with C transposed.
    shape = (p, n) if name in ("npz", "elements") else (n, p)
    w = scheme.w.reshape(-1, *shape).transpose(0, 2, 1).reshape(scheme.rank, n * p)
    turned = replace(scheme, w=w)
    straight, other = (read_bytes_as_schemes(render([it], name)).readings[0] for it in (scheme, turned))
    assert straight.scheme == other.scheme == scheme
    assert {straight.transposed, other.transposed} == {True, False}


def test_tables_with_c_as_n_x_p_are_read() -> None:
    text = "{{{{1}},{{1,0}},{{1,0}}},{{{1}},{{0,1}},{{0,1}}}}"
    scheme = only(text.encode())
    assert scheme.format == (1, 1, 2)
    assert verify(scheme)


def test_our_own_json_is_never_turned() -> None:
    turned = replace(strassen(), w=strassen().w.reshape(-1, 2, 2).transpose(0, 2, 1).reshape(-1, 4))
    assert only(render([turned], "json")) == turned


@pytest.mark.parametrize("name", ["exp", "m", "mpl", "txt", "sms", "npz"])
def test_a_file_without_a_declared_ring_is_judged_over_the_rationals(name: str) -> None:
    scheme = strassen().mod2()
    data = render([replace(scheme, ring="Z")], name)
    read = only(data)
    assert read.ring == "Z"
    assert not verify(read)
    assert only(render([scheme], name)).ring == "F2"
    for ring in (None, "F2"):
        (reading,) = read_bytes_as_schemes(data, ring).readings
        assert reading.scheme == replace(scheme, ring="Z")


def test_lists_win_over_formulas() -> None:
    text = render([strassen()], "elements").decode()
    nonsense = text.replace('"m1 = (a11 + a22) * (b11 + b22)"', '"anything"')
    assert nonsense != text
    assert only(nonsense.encode()) == strassen()
    formulas_only = text[: text.index(',\n    "u"')] + "}"
    assert only(formulas_only.encode()) == strassen()


def test_a_coefficient_without_an_asterisk_and_one_size() -> None:
    text = (
        '{"n": 1, "m": 2, "multiplications": ["m1 = (2a11)*(1/2b11)", "m_2 = a11 * (1/2b11)"], '
        '"elements": ["c11 = 2m1 - 2m2"]}'
    )
    scheme = only(text.encode())
    assert scheme.ring == "Z[1/2]"
    assert verify(scheme)


def test_the_format_resolves_indices_of_two_digits() -> None:
    wide = standard((3, 4, 11))
    marked = render([wide], "elements").decode()
    plain = re.sub(r"([abc]\d+)_(\d+)", r"\1\2", marked[: marked.index(',\n    "u"')] + "}")
    assert '"m11 = (a11) * (b111)"' in plain
    assert only(plain.encode()) == wide
    listed = re.sub(r"([abc]\d+)_(\d+)", r"\1\2", render([wide], "exp").decode())
    assert only(listed.encode()) == wide
    assert only(re.sub("#.*", "", listed).encode()) == wide
    square = re.sub(r"([abc]\d+)_(\d+)", r"\1\2", render([standard((11, 11, 1))], "exp").decode())
    with pytest.raises(SchemeError, match=r"a111 is ambiguous in a 11x11 matrix; write a1_11 or a11_1"):
        only(square.encode())


def test_numpy_wrote_it_and_alphatensor_laid_it_out(tmp_path: Path) -> None:
    """Several formats in one archive; unequal factors are an array of objects."""
    entries = {}
    for scheme in (strassen(), laderman(), standard((2, 3, 4))):
        n, _, p = scheme.format
        w = scheme.w.reshape(-1, n, p).transpose(0, 2, 1).reshape(scheme.rank, n * p)
        factors = [scheme.u.T.astype(np.int32), scheme.v.T.astype(np.float64), w.T.astype(np.int8)]
        array = np.empty(3, dtype=object)
        array[:] = factors
        entries[",".join(map(str, scheme.format))] = array
    path = tmp_path / "factorizations.npz"
    np.savez(path, **entries)
    readings = read_scheme_file(path).readings
    assert [reading.scheme for reading in readings] == [strassen(), laderman(), standard((2, 3, 4))]
    assert [reading.transposed for reading in readings] == [True] * 3
    np.savez(path, format=[2, 2, 2], u=strassen().u, v=strassen().v, w=strassen().w)
    assert read_scheme_file(path).readings[0].scheme == strassen()


def test_an_archive_of_several_schemes_is_read_back() -> None:
    schemes = [strassen(), standard((2, 3, 4)), replace(strassen(), u=-strassen().u, v=-strassen().v)]
    data = render(schemes, "npz")
    assert [reading.scheme for reading in read_bytes_as_schemes(data).readings] == schemes
    with pytest.raises(SchemeError, match="different rings"):
        render([strassen(), strassen().mod2()], "npz")
    with pytest.raises(SchemeError, match="holds one scheme"):
        render(schemes, "exp")


@pytest.mark.parametrize("layout", ["rows", "columns", "lines", "separated", "separated columns", "one run"])
def test_plain_text_in_every_layout(layout: str) -> None:
    scheme = laderman()

    def text(matrix: np.ndarray) -> str:
        return "\n".join(" ".join(map(str, row)) for row in matrix)

    factors = list(scheme.factors)
    if "columns" in layout:
        factors = [factor.T for factor in factors]
    if layout == "lines":
        factors = [factor.reshape(1, -1) for factor in factors]
    separator = "\n\n" if layout.startswith("separated") else "\n"
    head = "3 3 3 23\n" if layout in ("rows", "columns", "lines") else ""
    assert only((head + separator.join(map(text, factors)) + "\n").encode()) == scheme


def test_sms_matrices_in_three_files(tmp_path: Path) -> None:
    text = render([laderman()], "sms").decode()
    parts = re.split(r"# [LRP]\n", text)[1:]
    for letter, part in zip("LRP", parts, strict=True):
        (tmp_path / f"3x3x3_{letter}.sms").write_text(part)
    for letter in "LRP":
        assert read_scheme_file(tmp_path / f"3x3x3_{letter}.sms").readings[0].scheme == laderman()
    assert [file.name for file in select_files(tmp_path).files] == ["3x3x3_L.sms"]
    (tmp_path / "3x3x3_P.sms").unlink()
    with pytest.raises(SchemeError, match=r"3x3x3_L.sms: the file 3x3x3_P.sms beside it cannot be read"):
        read_scheme_file(tmp_path / "3x3x3_L.sms")


def test_other_text_is_no_scheme() -> None:
    for content in (
        b"",
        b"\0",
        b"{}",
        b"[]",
        b"hello",
        b"\xff\xfe",
        b"M1 = A11 B11\nC11 = M1\n",
        b"<html>",
        b'{"status": "done"}',
    ):
        with pytest.raises(NotASchemeError):
            read_bytes_as_schemes(content)


@given(st.builds(Format, *[st.integers(1, 32)] * 3))
def test_the_sides_of_the_modes_show_the_format(format: Format) -> None:
    assert format_of_sides(format.sides) == format
    assert format_of_sides((format.n * format.m, format.m * format.p, format.n * format.p + 1)) != format


def test_windows_line_ends_and_a_byte_order_mark() -> None:
    for name in ("exp", "m", "mpl", "txt", "sms", "elements", "json"):
        data = b"\xef\xbb\xbf" + render([strassen()], name).replace(b"\n", b"\r\n")
        assert only(data) == strassen()
