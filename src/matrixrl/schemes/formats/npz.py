"""AlphaTensor's ``.npz``: one entry ``"n,m,p"`` per format, three arrays [entries, rank] each.

C is transposed (p x n). Where the factors have unequal sizes, the entry is an array of objects,
which NumPy stores as a pickle. A pickle can run any code, so it is read by an unpickler that builds
nothing but placeholders for arrays of numbers; everything else is refused. An archive with entries
``u, v, w`` [rank, entries] and ``format`` is read as well.
"""

from __future__ import annotations

import ast
import io
import math
import pickle
import pickletools
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, cast

import numpy as np

from matrixrl.schemes.formats.draft import (
    MAX_NUMBERS,
    Draft,
    FormatError,
    NotASchemeError,
    both_orientations,
)
from matrixrl.schemes.rings import (
    MODULUS,
    RINGS,
    ComplexRational,
    Number,
    Ring,
    denominator,
    parts,
    simplify,
    smallest_ring,
)
from matrixrl.schemes.scheme import Format, Scheme, SchemeError, as_format, shorten

NAME = "npz"
TITLE = "AlphaTensor's archive of arrays"
SUFFIX = ".npz"
HOLDS_SEVERAL = True

MAX_MEMBERS = 10_000
MAX_UNPACKED = 64 * 2**20
"""Maximum number of bytes of all arrays in an archive."""

_KEY = re.compile(r"(\d{1,4}),\s*(\d{1,4}),\s*(\d{1,4})(?: \((\d{1,6})\))?")
_RING = "ring"


def is_one(data: bytes) -> bool:
    """Returns true if the bytes start as a zip archive does."""
    return data[:4] in (b"PK\x03\x04", b"PK\x05\x06")


def parse(data: bytes) -> list[tuple[str, list[Draft]]]:
    """Returns name and readings of each scheme in an archive.

    Raises:
      NotASchemeError: if it is no archive of arrays of a scheme.
      FormatError: if an entry is malformed.
    """
    arrays = _members(data)
    ring = _declared_ring(arrays.pop(_RING, None))
    if not arrays:
        raise NotASchemeError("an archive without arrays, want entries named n,m,p or u, v, w")
    if {"u", "v", "w"} <= arrays.keys():
        return [("", _own_layout(arrays, ring))]
    found = []
    for name, content in arrays.items():
        match = _KEY.fullmatch(name)
        if match is None:
            raise NotASchemeError(
                f"an archive with the entry {shorten(name)}, want entries named n,m,p or u, v, w"
            )
        try:
            fmt = as_format([int(side) for side in match.groups()[:3]])
            factors = _three(_array(content))
            rows = [
                _rows(factor, side, by_entry=True) for factor, side in zip(factors, fmt.sides, strict=True)
            ]
        except SchemeError as error:
            raise FormatError(f"entry {shorten(name)}: {error}") from error
        if len({len(factor) for factor in rows}) != 1:
            raise FormatError(f"entry {shorten(name)}: factors of different rank")
        found.append((name, both_orientations(fmt, rows[0], rows[1], rows[2], True, ring)))
    return found


def _own_layout(arrays: dict[str, bytes], ring: Ring | None) -> list[Draft]:
    if "format" not in arrays:
        raise FormatError("entry format: missing; want u, v, w and format")
    sizes = _plain(_array(arrays["format"]))
    fmt = as_format([int(side) for side in sizes.ravel()] if sizes.dtype.kind in "iu" else sizes.tolist())
    rows = []
    for name, side in zip("uvw", fmt.sides, strict=True):
        try:
            rows.append(_rows(_plain(_array(arrays[name])), side, by_entry=False))
        except SchemeError as error:
            raise FormatError(f"entry {name}: {error}") from error
    return both_orientations(fmt, rows[0], rows[1], rows[2], False, ring)


def _members(data: bytes) -> dict[str, bytes]:
    """Returns the content of each array file of an archive, bounded."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if len(members) > MAX_MEMBERS:
                raise FormatError(f"{len(members):,} entries, at most {MAX_MEMBERS:,} are read")
            found: dict[str, bytes] = {}
            room = MAX_UNPACKED
            for member in members:
                if not member.filename.endswith(".npy"):
                    raise NotASchemeError(
                        f"an archive with the entry {shorten(member.filename)}, want arrays only"
                    )
                name = member.filename.removesuffix(".npy")
                if name in found:
                    raise FormatError(f"entry {shorten(name)} stands twice in the archive")
                if member.flag_bits & 1 or member.compress_type not in (
                    zipfile.ZIP_STORED,
                    zipfile.ZIP_DEFLATED,
                ):
                    raise FormatError(
                        f"entry {shorten(name)}: encrypted, or compressed other than by deflate"
                    )
                with archive.open(member) as file:
                    content = file.read(room + 1)
                room -= len(content)
                if room < 0:
                    raise FormatError(
                        f"more than {MAX_UNPACKED:,} bytes of arrays, which is the most that is read"
                    )
                found[name] = content
            return found
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError, OSError) as error:
        raise NotASchemeError(f"a damaged archive: {error}") from error
    except (ValueError, RuntimeError, UnicodeError) as error:
        if isinstance(error, SchemeError):
            raise
        raise NotASchemeError(f"a damaged archive: {error}") from error


class _Array:
    """An array inside a pickle, as its state says; never a real one."""

    def __init__(self) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Dtype:
    """A data type inside a pickle."""

    def __init__(self, code: Any = None, *_: Any) -> None:
        self.code = code
        self.order = "="

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            self.order = state[1]


class _Bytes(bytes):
    """Bytes that Python 2's protocols store as text."""


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("text that is no bytes")
    return _Bytes(text.encode("latin1"))


def _reconstruct(*_: Any) -> _Array:
    return _Array()


class _NumbersOnly(pickle.Unpickler):
    """Builds placeholders for NumPy arrays and refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
            ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
            ("numpy", "ndarray"): _Array,
            ("numpy", "dtype"): _Dtype,
            ("_codecs", "encode"): _encode,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it names {shorten(f'{module}.{name}')}")
        return allowed[module, name]


_DTYPE = re.compile(r"[<>=|]?([iufcb?])(\d{0,2})")


def _array(content: bytes) -> np.ndarray | list[np.ndarray]:
    """Returns the array in the content of an ``.npy`` file: of numbers, or of arrays of numbers."""
    shape, fortran, description, data = _header(content)
    if description in ("|O", "O", "<O", "=O"):
        return _unpickled(data)
    if not isinstance(description, str) or not _is_number_type(description):
        raise FormatError(f"an array of {shorten(description)}, want numbers")
    return _from_bytes(shape, description, fortran, data)


def _is_number_type(description: str) -> bool:
    match = _DTYPE.fullmatch(description)
    return match is not None and match[1] + match[2] in {
        "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16", "b1", "?",
    }  # fmt: skip


def _header(content: bytes) -> tuple[tuple[int, ...], bool, Any, bytes]:
    if content[:6] != b"\x93NUMPY" or len(content) < 12:
        raise FormatError("not an array in NumPy's format")
    wide = content[6] >= 2
    length = int.from_bytes(content[8 : 12 if wide else 10], "little")
    start = 12 if wide else 10
    if length > 10_000 or start + length > len(content):
        raise FormatError("an array with a damaged header")
    try:
        header = ast.literal_eval(content[start : start + length].decode("latin1").strip())
        shape, fortran, description = header["shape"], header["fortran_order"], header["descr"]
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise FormatError("an array with a damaged header") from error
    if not isinstance(shape, tuple) or not all(type(side) is int and 0 <= side <= 2**31 for side in shape):
        raise FormatError(f"an array of shape {shorten(shape)}")
    return shape, bool(fortran), description, content[start + length :]


def _from_bytes(shape: tuple[int, ...], description: str, fortran: bool, data: bytes) -> np.ndarray:
    dtype = np.dtype(description)
    count = math.prod(shape)
    if count > MAX_NUMBERS or count * dtype.itemsize != len(data):
        raise FormatError(f"an array of shape {list(shape)} with {len(data):,} bytes")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


_OPCODES = {
    "PROTO",
    "FRAME",
    "GLOBAL",
    "STACK_GLOBAL",
    "REDUCE",
    "BUILD",
    "STOP",
    "MARK",
    "MEMOIZE",
    "PUT",
    "BINPUT",
    "LONG_BINPUT",
    "GET",
    "BINGET",
    "LONG_BINGET",
    "EMPTY_TUPLE",
    "TUPLE",
    "TUPLE1",
    "TUPLE2",
    "TUPLE3",
    "EMPTY_LIST",
    "LIST",
    "APPEND",
    "APPENDS",
    "NONE",
    "NEWTRUE",
    "NEWFALSE",
    "INT",
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "UNICODE",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE8",
    "STRING",
    "BINSTRING",
    "SHORT_BINSTRING",
    "BINBYTES",
    "SHORT_BINBYTES",
    "BINBYTES8",
}
"""Operations of a pickle that an array of arrays needs. Refusing the rest also bounds the memory.
"""


def _unpickled(data: bytes) -> list[np.ndarray]:
    """Returns the arrays in the pickle of an array of objects, without running any of its code."""
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name not in _OPCODES or ("PUT" in opcode.name and (argument or 0) > MAX_MEMBERS):
                raise pickle.UnpicklingError(f"the operation {opcode.name}")
        value = _NumbersOnly(io.BytesIO(data)).load()
    except (
        pickle.UnpicklingError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, OverflowError,
        MemoryError, ImportError, RecursionError,
    ) as error:  # fmt: skip
        raise FormatError(
            f"a pickle that holds more than arrays of numbers: {shorten(str(error), 60)}"
        ) from error
    shape, order, content, _ = _state(value)
    if order.code not in ("O", "O8", "|O") or not isinstance(content, list):
        return [_numbers(value)]
    if math.prod(shape) != len(content) or len(content) > 3:
        raise FormatError(f"an array of {shorten(shape)} objects, want three arrays of numbers")
    return [_numbers(item) for item in content]


def _state(value: Any) -> tuple[tuple[int, ...], _Dtype, Any, bool]:
    state = value.state if isinstance(value, _Array) else None
    if not isinstance(state, tuple) or len(state) != 5:
        raise FormatError("a pickle that holds something else than arrays of numbers")
    _, shape, dtype, fortran, content = state
    ok = isinstance(shape, tuple) and all(type(side) is int and 0 <= side <= 2**31 for side in shape)
    if not ok or not isinstance(dtype, _Dtype) or not isinstance(dtype.code, str):
        raise FormatError("a pickle that holds something else than arrays of numbers")
    return shape, dtype, content, bool(fortran)


def _numbers(value: Any) -> np.ndarray:
    shape, dtype, content, fortran = _state(value)
    order = dtype.order if dtype.order in ("<", ">") else "<"
    description = order + dtype.code.lstrip("<>=|")
    if not isinstance(content, bytes) or not _is_number_type(description):
        raise FormatError("a pickle that holds something else than arrays of numbers")
    return _from_bytes(shape, description, fortran, bytes(content))


def _plain(array: np.ndarray | list[np.ndarray]) -> np.ndarray:
    if isinstance(array, list):
        raise FormatError("an array of objects, want numbers")
    return array


def _three(array: np.ndarray | list[np.ndarray]) -> list[np.ndarray]:
    if isinstance(array, np.ndarray):
        array = list(array) if array.ndim == 3 else [array]
    if len(array) != 3:
        raise FormatError(f"{len(array)} factors, want the three of A, B and C")
    return list(array)


def _rows(factor: np.ndarray, side: int, by_entry: bool) -> list[list[Number]]:
    """Returns the rows of a factor, one per product."""
    expected = "[entries, rank]" if by_entry else "[rank, entries]"
    if factor.ndim != 2 or factor.shape[0 if by_entry else 1] != side or factor.size == 0:
        raise FormatError(f"a factor of shape {list(factor.shape)}, want {expected} with {side} entries")
    if by_entry:
        factor = factor.T
    kind = factor.dtype.kind
    if kind in "iu":
        return factor.tolist()
    if kind == "b":
        return factor.astype(np.int64).tolist()
    if not np.isfinite(factor).all():
        raise FormatError("a coefficient is not finite")
    known: dict[Any, Number] = {}
    rows = []
    for row in factor.tolist():
        numbers = []
        for value in row:
            if value not in known:
                known[value] = _exact(value)
            numbers.append(known[value])
        rows.append(numbers)
    return rows


def _exact(value: float | complex) -> Number:
    """Returns a float's exact value."""
    value = complex(value)
    number = simplify(ComplexRational(Fraction(value.real), Fraction(value.imag)))
    if denominator(number) > 2**20:
        raise FormatError(
            f"the coefficient {value.real if not value.imag else value} is no fraction of small integers"
        )
    return number


def _declared_ring(content: bytes | None) -> Ring | None:
    """Returns the ring that an archive declares in its entry ``ring``, a text."""
    if content is None:
        return None
    shape, _, description, data = _header(content)
    text = ""
    if isinstance(description, str) and re.fullmatch(r"[<|]U\d{1,2}", description) and math.prod(shape) == 1:
        text = data.decode("utf-32-le", "replace").rstrip("\0")
    if text not in RINGS:
        raise FormatError(f"entry ring: {shorten(text)}, want one of {', '.join(RINGS)}")
    return cast(Ring, text)


def write(schemes: Sequence[Scheme]) -> bytes:
    """Returns the content of an archive in AlphaTensor's layout.

    Raises:
      SchemeError: if a coefficient is not a float, or the schemes are over different finite fields.
    """
    entries: dict[str, np.ndarray] = {}
    counts: dict[Format, int] = {}
    rings = {scheme.ring if _must_declare(scheme) else None for scheme in schemes}
    if len(rings) > 1:
        raise SchemeError("schemes over different rings; an archive has one, so convert them one by one")
    for scheme in schemes:
        n, m, p = fmt = scheme.format
        counts[fmt] = counts.get(fmt, 0) + 1
        name = f"{n},{m},{p}" + (f" ({counts[fmt]})" if counts[fmt] > 1 else "")
        w = scheme.w.reshape(-1, n, p).transpose(0, 2, 1).reshape(scheme.rank, n * p)
        factors = [_floats(factor).T for factor in (scheme.u, scheme.v, w)]
        if len({factor.shape for factor in factors}) == 1:
            entries[name] = np.array(factors)
        else:
            entries[name] = np.empty(3, dtype=object)
            entries[name][:] = factors
    ring = next(iter(rings))
    if ring is not None:
        entries[_RING] = np.array(ring)
    file = io.BytesIO()
    np.savez_compressed(file, **entries)  # pyright: ignore[reportArgumentType]
    return file.getvalue()


def _must_declare(scheme: Scheme) -> bool:
    return scheme.ring in MODULUS or scheme.ring != smallest_ring(scheme.numbers())


def _floats(factor: np.ndarray) -> np.ndarray:
    if factor.dtype != object:
        return factor
    missing = next((value for value in factor.flat if 2**20 % denominator(value)), None)
    if missing is not None:
        raise SchemeError(f"the coefficient {missing} is not a float; convert to another format")
    if any(isinstance(value, ComplexRational) for value in factor.flat):
        values = [complex(*(float(part) for part in parts(value))) for value in factor.flat]
        return np.array(values, dtype=np.complex128).reshape(factor.shape)
    return factor.astype(np.float64)
