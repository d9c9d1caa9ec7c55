"""Tensors from files that users name, and the text that stands for a problem in recorded settings.

A file is a NumPy archive (`.npz`) or array (`.npy`) with one array of integers with three axes.
Reading is bounded and loads no Python objects. A recorded problem is its name if it is built in, or
`NAME=AxBxC:DATA` with the entries themselves, so that a run continues without the file.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import zipfile
import zlib
from pathlib import Path

import numpy as np

from matrixrl.schemes.families import NAME, family_names, problem_named
from matrixrl.schemes.problem import MAX_MODE, MAX_TENSOR_SIZE, Problem, TensorProblem, checked_tensor
from matrixrl.schemes.scheme import SchemeError
from matrixrl.user_files import UserFileError, read_bytes

_SUFFIXES = (".npz", ".npy")
_MAX_ITEM_SIZE = 16
_RECORDED = re.compile(rf"({NAME})=(\d+)x(\d+)x(\d+):([A-Za-z0-9+/]+=*)")


def problem_from_text(text: str) -> Problem:
    """Returns the problem that a file, the name of a built-in problem, or a recorded text stands
    for.

    Raises:
      SchemeError: if there is none, or the file's tensor is not valid; the message does not repeat
        the text.
    """
    recorded = _RECORDED.fullmatch(text)
    if recorded is not None:
        return _recorded(*recorded.groups())
    if text.endswith(_SUFFIXES) or "/" in text:
        return TensorProblem(_name_of(Path(text)), read_tensor(text))
    try:
        return problem_named(text)
    except SchemeError as error:
        raise SchemeError(
            f"neither a file ({' or '.join(_SUFFIXES)}) nor the name of a built-in problem; these are "
            f"NxMxP, matrices; {'; '.join(family_names())}"
        ) from error


def recorded_text(problem: Problem) -> str:
    """Returns the text with which settings record a problem; `problem_from_text` reads it."""
    if not isinstance(problem, TensorProblem):
        return problem.name
    data = base64.b64encode(zlib.compress(problem.entries.astype(np.int8).tobytes(), 9)).decode()
    return f"{problem.name}={'x'.join(map(str, problem.sides))}:{data}"


def read_tensor(path: Path | str) -> np.ndarray:
    """Reads a tensor from a `.npz` or `.npy` file, int64 [a, b, c].

    An archive with several arrays must call the tensor `tensor`.

    Raises:
      SchemeError: if it cannot be read or holds something else; one line without the file's name.
    """
    try:
        data = read_bytes(path)
    except UserFileError as error:
        raise SchemeError(str(error)) from error
    if data[:4] == b"PK\x03\x04":
        data = _only_array(data)
    elif not data.startswith(b"\x93NUMPY"):
        raise SchemeError("is no NumPy file; want .npz or .npy with one array of integers with three axes")
    return checked_tensor(_array(data), "")


def _only_array(data: bytes) -> bytes:
    """Returns the `.npy` file in an archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if len(members) > 1 and "tensor" not in members:
                names = ", ".join(sorted(members)[:4]) + (", ..." if len(members) > 4 else "")
                raise SchemeError(f"holds the arrays {names}; want one array, or one that is called tensor")
            if not members:
                raise SchemeError("holds no array; want one array of integers with three axes")
            info = members.get("tensor") or next(iter(members.values()))
            most = MAX_TENSOR_SIZE * _MAX_ITEM_SIZE + 2**16
            if info.file_size > most:
                raise SchemeError(f"its array has {info.file_size:,} bytes, want at most {most:,}")
            with archive.open(info) as member:
                return member.read(most)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        if isinstance(error, SchemeError):
            raise
        raise SchemeError(f"is a damaged archive ({error})") from error


def _array(data: bytes) -> np.ndarray:
    """Returns the array of a `.npy` file, after its header has been compared with its length."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran_order, dtype = read_header(file)
    except (ValueError, KeyError, EOFError) as error:
        raise SchemeError(f"has no valid header of a NumPy array ({error})") from error
    if dtype.hasobject or dtype.kind not in "iubf":
        raise SchemeError(f"entries are {dtype}, want integers")
    if len(shape) != 3 or not all(1 <= side <= MAX_MODE for side in shape):
        raise SchemeError(f"shape {list(shape)} given, want three modes of 1 to {MAX_MODE} entries each")
    count = int(np.prod(shape, dtype=object))
    if count > MAX_TENSOR_SIZE:
        raise SchemeError(f"{count:,} entries, want at most {MAX_TENSOR_SIZE:,}")
    rest = data[file.tell() :]
    if len(rest) != count * dtype.itemsize:
        raise SchemeError(
            f"has {len(rest):,} bytes of entries, but its header says {count * dtype.itemsize:,}"
        )
    return np.frombuffer(rest, dtype).reshape(shape, order="F" if fortran_order else "C")


def _name_of(path: Path) -> str:
    """Returns a problem's name from its file's name: letters, digits, dots and hyphens."""
    name = re.sub(r"[^A-Za-z0-9.]+", "-", path.stem).strip("-.")[:48] or "tensor"
    try:
        problem_named(name)
    except SchemeError:
        return name
    return f"tensor-{name}"  # a name of a built-in problem means that problem


def _recorded(name: str, *rest: str) -> Problem:
    *sides, data = rest
    shape = tuple(int(side) for side in sides if len(side) <= 4)
    count = int(np.prod(shape, dtype=object)) if len(shape) == 3 else 0
    if not 1 <= count <= MAX_TENSOR_SIZE:
        raise SchemeError(f"shape {'x'.join(sides)} is impossible; want at most {MAX_TENSOR_SIZE:,} entries")
    try:
        entries = zlib.decompressobj().decompress(base64.b64decode(data, validate=True), count + 1)
    except (binascii.Error, zlib.error) as error:
        raise SchemeError(f"the recorded entries are damaged ({error})") from error
    if len(entries) != count:
        raise SchemeError("the recorded entries are damaged (another number of entries)")
    return TensorProblem(name, np.frombuffer(entries, np.int8).reshape(shape))
