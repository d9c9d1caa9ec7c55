"""About a hundred files that are no correct scheme: each by name, with its content and the expected exit status.

1: a scheme that is read and is wrong; 2: a file that is refused. None may be called correct, and none may hang.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from matrixrl.schemes.known import laderman, standard, strassen

WRONG, REFUSED = 1, 2

Record = dict[str, Any]


def _strassen(change: Callable[[Record], None]) -> bytes:
    record = copy.deepcopy(strassen().to_record())
    change(record)
    return json.dumps(record).encode()


def _wrong_products() -> dict[str, Callable[[Record], None]]:
    """Changes of Strassen's scheme that stay well-formed."""

    def sign(name: str, row: int) -> Callable[[Record], None]:
        def change(record: Record) -> None:
            record[name][row] = [-value for value in record[name][row]]

        return change

    def drop(row: int, declare: bool) -> Callable[[Record], None]:
        def change(record: Record) -> None:
            for name in "uvw":
                record[name].pop(row)
            record["rank"] -= declare

        return change

    def double(row: int) -> Callable[[Record], None]:
        def change(record: Record) -> None:
            for name in "uvw":
                record[name].append(record[name][row])
            record["rank"] += 1

        return change

    def zero(name: str, row: int) -> Callable[[Record], None]:
        def change(record: Record) -> None:
            record[name][row] = [0, 0, 0, 0]

        return change

    def wrap(name: str, by: int) -> Callable[[Record], None]:
        def change(record: Record) -> None:
            record[name][0][0] += by

        return change

    def transpose(name: str) -> Callable[[Record], None]:
        def change(record: Record) -> None:
            record[name] = [[row[0], row[2], row[1], row[3]] for row in record[name]]

        return change

    def swap(first: str, second: str) -> Callable[[Record], None]:
        def change(record: Record) -> None:
            record[first], record[second] = record[second], record[first]

        return change

    changes: dict[str, Callable[[Record], None]] = {}
    for name, row in itertools.product("uvw", range(7)):
        changes[f"sign of {name}[{row}]"] = sign(name, row)
    for row in range(7):
        changes[f"without product {row}"] = drop(row, declare=True)
        changes[f"product {row} twice"] = double(row)
    for name in "uvw":
        changes[f"zero row in {name}"] = zero(name, 3)
        changes[f"{name} off by 2^8"] = wrap(name, 2**8)
        changes[f"{name} off by 2^16"] = wrap(name, 2**16)
        changes[f"{name} off by 2^30"] = wrap(name, 2**30)
        changes[f"{name} transposed"] = transpose(name)
    for first, second in ("uv", "uw", "vw"):
        changes[f"{first} and {second} swapped"] = swap(first, second)
    return changes


def _set(**values: Any) -> Callable[[Record], None]:
    return lambda record: record.update(values)


def _entry(value: Any) -> Callable[[Record], None]:
    def change(record: Record) -> None:
        record["w"][6][3] = value

    return change


def _malformed() -> dict[str, bytes]:
    """Files that are refused."""
    good = json.dumps(strassen().to_record())
    entries = {
        "2^31": 2**31, "2^32 + 1": 2**32 + 1, "2^64 + 1": 2**64 + 1, "-2^63": -(2**63), "10^900": 10**900,
        "a half": 0.5, "a float": 1.0, "a string": "1", "a fraction": "1/2", "true": True, "null": None, "a list": [1],
        "an object": {}, "a pair": [1, 2],
    }  # fmt: skip
    files = {f"an entry is {name}": _strassen(_entry(value)) for name, value in entries.items()}
    fields: dict[str, Record] = {
        "format of two": {"format": [2, 2]}, "format with 0": {"format": [2, 2, 0]},
        "negative format": {"format": [-2, -2, -2]}, "huge format": {"format": [10**6] * 3},
        "format 33": {"format": [33, 33, 33]}, "format as text": {"format": "2x2x2"}, "wrong format": {"format": [2, 2, 3]},
        "format of floats": {"format": [2.0, 2.0, 2.0]}, "format of booleans": {"format": [True, True, True]},
        "unknown ring": {"ring": "R"}, "ring is a list": {"ring": ["Z"]}, "ring is null": {"ring": None},
        "ring F2 with signs": {"ring": "F2"}, "rank 0": {"rank": 0}, "rank 8": {"rank": 8}, "rank 10^9": {"rank": 10**9},
        "rank as text": {"rank": "7"}, "rank true": {"rank": True}, "no rows": {"u": []}, "u is an object": {"u": {}},
        "u is text": {"u": "1001"}, "u is flat": {"u": [1] * 28}, "v is null": {"v": None}, "provenance is a list": {"provenance": []},
    }  # fmt: skip
    files |= {name: _strassen(_set(**values)) for name, values in fields.items()}
    for name in ("format", "ring", "rank", "u", "v", "w"):
        files[f"without {name}"] = _strassen(lambda record, name=name: record.pop(name) and None)
        files[f"{name} twice"] = good.replace(f'"{name}":', f'"{name}": 0, "{name}":', 1).encode()
    files |= {
        "short row": _strassen(lambda record: record["v"][2].pop() and None),
        "long row": _strassen(lambda record: record["v"][2].append(0)),
        "empty": b"", "only a null byte": b"\0", "binary": bytes(range(256)) * 40, "UTF-16": good.encode("utf-16"),
        "Latin-1": good.replace("provenance", "provénance").encode("latin-1"), "cut": good[: len(good) // 2].encode(),
        "text after the end": good.encode() + b" 1", "two objects": good.encode() * 2, "NaN": good.replace("-1", "NaN", 1).encode(),
        "Infinity": good.replace("-1", "-Infinity", 1).encode(), "1e999": good.replace("-1", "1e999", 1).encode(),
        "1e2": good.replace("-1", "1e2", 1).encode(), "comment": b"// a scheme\n" + good.encode(),
        "trailing comma": good.replace("]]", "],]", 1).encode(), "single quotes": good.replace('"', "'").encode(),
        "a number": b"7", "null": b"null", "a string": b'"scheme"', "an empty list": b"[]", "a list of numbers": b"[1, 2, 3]",
        "a list of lists": b"[[[[]]]]", "deep list": b"[" * 1_000_000, "deep object": b'{"u":' * 100_000,
        "deep and closed": b"[" * 5000 + b"]" * 5000, "long number": b'{"rank": ' + b"9" * 1_000_000 + b"}",
        "open string": b'"' + b'\\"' * 1_000_000, "many containers": b"[" + b"[]," * 1_000_001 + b"[]]",
        "a picture": b"\x89PNG\r\n\x1a\n" + bytes(1000), "a zip": b"PK\x03\x04" + bytes(1000), "a pickle": b"\x80\x04}q\x00.",
        "an npy": b"\x93NUMPY\x01\x00" + bytes(200), "YAML": b"format: [2, 2, 2]\nring: Z\n", "HTML": b"<html></html>",
        "a good scheme, then a bad one": f"[{good}, 1]".encode(),
    }  # fmt: skip
    return files


def _wrong_large() -> dict[str, bytes]:
    """Wrong schemes whose full check would take minutes or days."""
    ones = [1] * 1024
    big = [2**31 - 1] * 1024
    row: Record = {"format": [32, 32, 32], "ring": "Z", "rank": 1, "u": [ones], "v": [ones], "w": [ones]}
    many = {**row, "rank": 400, **{name: [ones] * 400 for name in "uvw"}}
    return {
        "32x32x32 of rank 1": json.dumps(row).encode(),
        "32x32x32 of rank 1 modulo 2": json.dumps({**row, "ring": "F2"}).encode(),
        "32x32x32 with large entries": json.dumps({**row, "u": [big], "v": [big], "w": [big]}).encode(),
        "32x32x32 of rank 400": json.dumps(many).encode(),
    }


def _wrong_over_its_ring() -> dict[str, bytes]:
    """Schemes that hold in some other ring or sense."""
    unsigned = {**strassen().to_record(), "u": np.abs(strassen().u).tolist()}
    tripled = {**standard((2, 2, 2)).to_record(), "u": (3 * standard((2, 2, 2)).u).tolist()}
    wrapped = {  # 1 + 2^66 is 1 modulo 2^64
        "format": [1, 1, 1], "ring": "Z", "rank": 2, "u": [[1], [2**22]], "v": [[1], [2**22]], "w": [[1], [2**22]],
    }  # fmt: skip
    rest = laderman().to_record()
    rest["w"][22][8] = 0
    one_of_two = [strassen().to_record(), unsigned]
    return {
        "right modulo 2 only": json.dumps(unsigned).encode(),
        "right modulo 2 only, tripled": json.dumps(tripled).encode(),
        "right modulo 2^64 only": json.dumps(wrapped).encode(),
        "Laderman with one entry gone": json.dumps(rest).encode(),
        "one of two is wrong": json.dumps(one_of_two).encode(),
    }


def hostile_files() -> dict[str, tuple[bytes, int]]:
    """Returns content and expected exit status of each file by name."""
    wrong = {name: _strassen(change) for name, change in _wrong_products().items()}
    # Two signs may cancel only in pairs within one product; here exactly one factor of it is negated.
    files = {
        name: (content, WRONG)
        for name, content in {**wrong, **_wrong_over_its_ring(), **_wrong_large()}.items()
    }
    files |= {name: (content, REFUSED) for name, content in _malformed().items()}
    return files
