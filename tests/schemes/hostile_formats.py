"""Files in the public formats that are no correct scheme: each by name, with its content and the expected exit status.

As in `hostile`: 1 is a scheme that is read and is wrong, 2 a file that is refused.
"""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from matrixrl.schemes.formats import render
from matrixrl.schemes.known import laderman, standard, strassen
from matrixrl.schemes.scheme import Scheme
from tests.schemes.hostile import REFUSED, WRONG

PUBLIC = ("npz", "m", "exp", "elements", "mpl", "txt", "sms")
TEXT = PUBLIC[1:]


def _wrong_schemes() -> dict[str, Scheme]:
    good = strassen()
    sign, twice, wrapped, zero = good.w.copy(), good.u.copy(), good.v.copy(), good.u.copy()
    sign[4] *= -1
    twice[0] *= 2
    wrapped[0, 0] += 2**16
    zero[3] = 0
    doubled = [np.concatenate((factor, factor[:1])) for factor in good.factors]
    dropped = [factor[1:] for factor in good.factors]
    return {
        "a wrong sign": replace(good, w=sign),
        "a doubled factor": replace(good, u=twice),
        "off by 2^16": replace(good, v=wrapped),
        "a zero row": replace(good, u=zero),
        "a product twice": Scheme(good.format, "Z", doubled[0], doubled[1], doubled[2]),
        "a product missing": Scheme(good.format, "Z", dropped[0], dropped[1], dropped[2]),
        "u and v swapped": replace(good, u=good.v, v=good.u),
        "right modulo 2 only": replace(good.mod2(), ring="Z"),
        "right modulo 3 only": replace(good.modulo("F3"), ring="Z", u=good.u * 4),
        "modulo 2, and wrong": replace(good.mod2(), u=1 - good.mod2().u),
    }


def _npz(entries: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **entries)
    return file.getvalue()


def _archive(members: list[tuple[str, bytes]]) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # of an entry that is given twice on purpose
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def _object_npy(payload: bytes, shape: str = "(3,)") -> bytes:
    header = f"{{'descr': '|O', 'fortran_order': False, 'shape': {shape}, }}"
    text = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + payload


class _Code:
    """Its pickle calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> Any:
        return self._call


def _archives() -> dict[str, bytes]:
    factors = np.stack([strassen().u.T, strassen().v.T, strassen().w.T])
    halves = factors.astype(float)
    halves[0, 0, 0] = np.nan
    third = factors.astype(float)
    third[0, 0, 0] = 1 / 3
    infinite = factors.astype(float)
    infinite[0, 0, 0] = np.inf
    code = pickle.dumps(_Code(eval, "__import__('os').abort()"))
    listed = pickle.dumps([1, 2, 3])
    strings = np.empty(3, dtype=object)
    strings[:] = [np.array([["a", "b"]])] * 3
    nested = np.empty(3, dtype=object)
    nested[:] = [np.array([_Code(eval, "1")], dtype=object)] * 3
    good = _npz({"2,2,2": factors})
    bomb = _archive([("2,2,2.npy", bytes(70 * 2**20))])
    memo = b"\x80\x02]r\xff\xff\xff\x7f."
    return {
        "an archive of nothing": _archive([]),
        "an archive of text": _archive([("readme.txt", b"hello")]),
        "an archive with a code pickle": _archive([("2,2,2.npy", _object_npy(code))]),
        "an archive with a code pickle for ring": _archive([("ring.npy", _object_npy(code)), ("2,2,2.npy", b"")]),
        "an archive with a list": _archive([("2,2,2.npy", _object_npy(listed))]),
        "an archive with an endless memo": _archive([("2,2,2.npy", _object_npy(memo))]),
        "an archive with a cut pickle": _archive([("2,2,2.npy", _object_npy(code[:-4]))]),
        "an archive with an empty pickle": _archive([("2,2,2.npy", _object_npy(b""))]),
        "an archive with arrays of text": _npz({"2,2,2": strings}),
        "an archive with arrays of objects": _npz({"2,2,2": nested}),
        "an archive with NaN": _npz({"2,2,2": halves}),
        "an archive with a third": _npz({"2,2,2": third}),
        "an archive with infinity": _npz({"2,2,2": infinite}),
        "an archive with two factors": _npz({"2,2,2": factors[:2]}),
        "an archive with another format": _npz({"2,2,3": factors}),
        "an archive with format 0": _npz({"0,2,2": factors}),
        "an archive with format 33": _npz({"33,33,33": factors}),
        "an archive with a name": _npz({"strassen": factors}),
        "an archive with flat factors": _npz({"2,2,2": factors.reshape(3, -1)}),
        "an archive with an unknown ring": _npz({"2,2,2": factors, "ring": np.array("R")}),
        "an archive over F2 with signs": _npz({"2,2,2": factors, "ring": np.array("F2")}),
        "an archive with a date": _npz({"2,2,2": np.zeros((3, 4, 7), "datetime64[s]")}),
        "an archive with a huge array": _npz({"2,2,2": np.zeros((3, 4, 600_000), np.int8)}),
        "a cut archive": good[: len(good) // 2],
        "an archive without its end": good[:-22],
        "an archive that unpacks to 70 MB": bomb,
        "an archive with a damaged array": _archive([("2,2,2.npy", b"\x93NUMPY\x01\x00\xff\xff{")]),
        "an archive with junk": _archive([("2,2,2.npy", bytes(range(256)))]),
        "an archive with an entry twice": _archive([("2,2,2.npy", b"1"), ("2,2,2.npy", b"1")]),
        "an archive without format": _npz({"u": strassen().u, "v": strassen().v, "w": strassen().w}),
        "an archive with an evil header": _archive(
            [("2,2,2.npy", b"\x93NUMPY\x01\x00\x60\x00" + b"{'descr': '<i8', 'fortran_order': False, 'shape': (-1, 4, 7)}".ljust(96))]
        ),
    }  # fmt: skip


def _texts() -> dict[str, bytes]:
    written = {name: render([strassen()], name).decode() for name in TEXT}
    files: dict[str, str] = {}
    for name, text in written.items():
        files[f"{name}, cut in the middle"] = text[: len(text) // 2]
        files[f"{name}, a float"] = _once(text, "1", "1.5e3")
        files[f"{name}, an exponent"] = _once(text, "1", "1^2")
        files[f"{name}, zero as denominator"] = _once(text, "1", "1/0")
        files[f"{name}, NaN"] = _once(text, "1", "NaN")
        files[f"{name}, a huge number"] = _once(text, "1", "9" * 5000)
        files[f"{name}, beyond 2^31"] = _once(text, "1", str(2**31) + ("*" if name == "exp" else ""))
        files[f"{name}, words after it"] = text + "\nand more\n"
        files[f"{name}, twice"] = text + text
        files[f"{name}, a null byte"] = text.replace("\n", "\0", 1)
        if name != "elements":  # there the lists count
            files[f"{name}, an unknown letter"] = text.replace("1", "x", 3)
        files[f"{name}, over F2 with signs"] = text.replace("ring: Z", "ring: F2").replace(
            '"z2": false', '"z2": true'
        )
    exp, m, mpl, sms, txt, elements = (
        written[name] for name in ("exp", "m", "mpl", "sms", "txt", "elements")
    )
    head = "# format: 2x2x2\n"
    files |= {
        "m, nested without end": "{" * 1_000_000,
        "m, nested and closed": "{" * 5000 + "}" * 5000,
        "m, a comma too many": m.replace("}}}}", "}}},}"),
        "m, an empty list": "{{{{}}}}",
        "m, a product of two matrices": "{{{{1}},{{1}}}}",
        "m, a product of four matrices": "{{{{1}},{{1}},{{1}},{{1}}}}",
        "m, shapes that differ": "{{{{1}},{{1}},{{1}}},{{{1,1}},{{1}},{{1}}}}",
        "m, ragged rows": "{{{{1,0},{1}},{{1}},{{1}}}}",
        "m, shapes of no format": "{{{{1,0}},{{1,0}},{{1,0}}}}",
        "m, lists and numbers mixed": "{{{{1}},{{1}},1}}",
        "mpl, nested without end": "Tensor:=TriadSet([" * 100_000,
        "mpl, a matrix that lies about its size": mpl.replace("Matrix(2, 2", "Matrix(2, 3", 1),
        "mpl, a parameter": mpl.replace("1", "1/l", 1).replace("format: 2x2x2", ""),
        "mpl, two matrices": "Tensor:=TriadSet([Triad([Matrix(1,1,[[1]]), Matrix(1,1,[[1]])])]):",
        "mpl, a call": "Tensor:=TriadSet([Triad([Matrix(1,1,[[f(1)]]), Matrix(1,1,[[1]]), Matrix(1,1,[[1]])])]):",
        "mpl, empty": "Tensor:=TriadSet([]):",
        "exp, two factors": "(a11)*(b11)",
        "exp, four factors": "(a11)*(b11)*(c11)*(c11)",
        "exp, factors in another order": exp.replace("a", "x").replace("b", "a").replace("x", "b"),
        "exp, an index 0": "(a10)*(b11)*(c11)",
        "exp, no index": "(a)*(b)*(c)",
        "exp, an index outside the format": head + "(a13)*(b11)*(c11)",
        "exp, an ambiguous index": "# format: 11x11x1\n(a111)*(b11)*(c11)",
        "exp, brackets open": "((a11*(b11)*(c11)",
        "exp, brackets closed": "(a11))*(b11)*(c11)",
        "exp, many brackets": "(" * 100_000,
        "exp, a missing sign": head + "(a11 a12)*(b11)*(c11)",
        "exp, a missing factor": "(a11)**(b11)*(c11)",
        "exp, a power": "(a11^2)*(b11)*(c11)",
        "exp, a product of entries": "(a11*a12)*(b11)*(c11)",
        "exp, a huge index": "(a" + "1" * 1000 + ")*(b11)*(c11)",
        "exp, format 99x99x99": "# format: 99x99x99\n(a11)*(b11)*(c11)",
        "txt, one number": "7",
        "txt, one matrix": "1 0\n0 1\n",
        "txt, a header that lies": txt.replace("2 2 2 7", "2 2 2 8").replace("# format: 2x2x2", "#"),
        "txt, a row too long": txt.replace("1 0 0 1", "1 0 0 1 0", 1),
        "txt, shapes of no format": "1 0\n\n1 0 1\n\n1 0 1 1\n",
        "sms, an entry outside": sms.replace("1 1 1", "9 9 1", 1),
        "sms, an entry twice": sms.replace("1 1 1", "1 1 1\n1 1 1", 1),
        "sms, an endless size": "9999999 9999999 R\n0 0 0\n",
        "sms, size 0": "0 4 R\n0 0 0\n",
        "sms, negative index": sms.replace("1 1 1", "-1 1 1", 1),
        "sms, one matrix alone": sms[: sms.index("# R")],
        "sms, two matrices": sms[: sms.index("# P")],
        "sms, a root": sms.replace("1 1 1", "1 1 1/6X", 1),
        "sms, L and P swapped": sms[sms.index("# P") :] + sms[sms.index("# R") : sms.index("# P")] + sms[: sms.index("# R")],
        "elements, m is 8": elements.replace('"m": 7', '"m": 8'),
        "elements, n of two": elements.replace("[2, 2, 2]", "[2, 2]", 1),
        "elements, n as text": elements.replace("[2, 2, 2]", '"222"', 1),
        "elements, z2 is 1": elements.replace("false", "1"),
        "elements, two lists": elements.replace('"w"', '"x"'),
        "elements, m1 twice": _formulas(elements).replace('"m2 =', '"m1 ='),
        "elements, c11 twice": _formulas(elements).replace('"c12 =', '"c11 ='),
        "elements, no elements": _formulas(elements).replace("elements", "elephants"),
        "elements, product 9": _formulas(elements).replace("m7\"", "m9\""),
        "elements, no product": _formulas(elements).replace("m1 = (a11 + a22) * (b11 + b22)", "m1 = (a11 + a22)"),
        "elements, a formula without a sign": _formulas(elements).replace("a11 + a22", "a11 a22", 1),
        "elements, the field n twice": elements.replace('"n":', '"n": 2, "n":', 1),
    }  # fmt: skip
    return {name: text.encode() for name, text in files.items()}


def _formulas(text: str) -> str:
    """The formulas alone, so that they count."""
    return text[: text.index(',\n    "u"')] + "}"


def _once(text: str, old: str, new: str) -> str:
    """Replaces a coefficient: the first `old` behind the comment and the sizes."""
    start = max(text.find("\n"), 0)
    if text.startswith("{\n"):  # JSON: in the lists
        start = text.index('"u"')
    elif "(a" in text:
        position = text.index("(a") + 1
        return (
            text[:position]
            + new.replace("1.5e3", "1.5e3*")
            .replace("1^2", "1^2*")
            .replace("1/0", "1/0*")
            .replace("NaN", "NaN*")
            + text[position:]
        )
    elif "# u" in text:
        start = text.index("# u")
    elif "# L" in text:
        start = text.index("R\n") + len("R\n1 1")
    elif "[[" in text:
        start = text.index("[[")
    position = text.index(old, start)
    return text[:position] + new + text[position + len(old) :]


def hostile_public_files() -> dict[str, tuple[bytes, int]]:
    """Returns content and expected exit status of each file by name."""
    files: dict[str, tuple[bytes, int]] = {}
    for fault, scheme in _wrong_schemes().items():
        for name in PUBLIC:
            files[f"{name}, {fault}"] = render([scheme], name), WRONG
    one_wrong = [standard((2, 2, 2)), replace(laderman(), u=abs(laderman().u))]
    files["npz, one of two is wrong"] = render(one_wrong, "npz"), WRONG
    files |= {name: (content, REFUSED) for name, content in {**_archives(), **_texts()}.items()}
    for name in ("exp, twice", "elements, a float"):  # these are well-formed
        files[name] = files[name][0], WRONG
    return files
