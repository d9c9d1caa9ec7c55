"""Tensors from files: what is read, what is refused with one line, and the text that settings record."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matrixrl.schemes.families import problem_named
from matrixrl.schemes.problem import TensorProblem
from matrixrl.schemes.scheme import SchemeError
from matrixrl.schemes.tensor_files import problem_from_text, read_tensor, recorded_text

TENSOR = np.random.default_rng(0).integers(-3, 4, (2, 3, 5))


def npy(values: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(values), **options)
    return file.getvalue()


def npz(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        npz(a=npy(TENSOR)),
        npz(a=npy(TENSOR[0]), tensor=npy(TENSOR)),
        npy(TENSOR.astype(np.int8)),
        npy(np.asfortranarray(TENSOR)),
        npy(TENSOR.astype(">i2")),
        npy(TENSOR.astype(np.float64)),
        npy(TENSOR, version=(2, 0)),
    ],
)
def test_integers_with_three_axes_are_read(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    path.write_bytes(data)
    assert (read_tensor(path) == TENSOR).all()
    problem = problem_from_text(str(path))
    assert problem == TensorProblem("mine", TENSOR)
    path.unlink()
    assert problem_from_text(recorded_text(problem)) == problem


HEADER = npy(TENSOR)[:-8]
HOSTILE: dict[str, tuple[bytes, str]] = {
    "text": (b"[[[1]]]", "no NumPy file"),
    "empty": (b"", "no NumPy file"),
    "damaged archive": (npz(a=npy(TENSOR))[:-30], "damaged archive"),
    "wrong checksum": (npz(a=npy(TENSOR)).replace(b"a.npy", b"b.npy", 1), "damaged archive"),
    "no array": (npz(), "no NumPy file"),
    "several arrays": (npz(a=npy(TENSOR), b=npy(TENSOR)), "holds the arrays a, b; want one"),
    "objects": (npy(np.array([[[{}]]]), allow_pickle=True), "object, want integers"),
    "text entries": (npy(np.full((1, 1, 1), "x")), "want integers"),
    "complex": (npy(np.ones((1, 1, 1), complex)), "complex128, want integers"),
    "halves": (npy(np.full((1, 1, 1), 0.5)), "float64, want integers"),
    "nan": (npy(np.full((1, 1, 1), np.nan)), "float64, want integers"),
    "two axes": (npy(np.ones((2, 2), int)), r"shape \[2, 2\] given, want three modes"),
    "no entries": (npy(np.ones((2, 0, 2), int)), "want three modes"),
    "zero": (npy(np.zeros((2, 2, 2), int)), "every entry is zero"),
    "large entry": (npy(np.full((1, 1, 1), 128)), "beyond 127"),
    "wraps around": (npy(np.full((1, 1, 1), -(2**63))), "beyond 127"),
    "unsigned": (npy(np.full((1, 1, 1), 2**64 - 1, np.uint64)), "beyond 127"),
    "long mode": (npy(np.ones((1, 1, 1025), np.int8)), "1 to 1024"),
    "many entries": (npy(np.ones((100, 100, 100), np.int8)), "1,000,000 entries, want at most"),
    "short": (HEADER, "bytes of entries, but its header says"),
    "shape that lies": (npy(TENSOR).replace(b"(2, 3, 5)", b"(9, 9, 9)"), "but its header says"),
    "header": (npy(TENSOR).replace(b"(2, 3, 5)", b"(2, 3, x)"), "no valid header"),
    "bomb": (npz(a=npy(np.ones((1, 1, 10_000_000), np.int8))), "its array has 10,000,128 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_other_files_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    data, says = HOSTILE[name]
    path = tmp_path / "x.npz"
    path.write_bytes(data)
    with pytest.raises(SchemeError, match=says) as error:
        problem_from_text(str(path))
    assert "\n" not in str(error.value)


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(SchemeError, match="is a pipe"):
        problem_from_text(str(tmp_path / "pipe.npz"))
    with pytest.raises(SchemeError, match="No such file"):
        problem_from_text(str(tmp_path / "missing.npz"))
    with pytest.raises(SchemeError, match=r"neither a file .* poly-NxM"):
        problem_from_text("missing")


def test_built_in_problems_are_recorded_by_name_and_a_file_cannot_take_one(tmp_path: Path) -> None:
    assert recorded_text(problem_from_text("poly-3x3")) == "poly-3x3"
    assert problem_from_text("2x2x3") == problem_named("2x2x3")
    for stem, name in (("complex", "tensor-complex"), ("my tensor!", "my-tensor"), ("...", "tensor")):
        np.save(tmp_path / f"{stem}.npy", TENSOR)
        assert problem_from_text(str(tmp_path / f"{stem}.npy")).name == name


@pytest.mark.parametrize(
    "text",
    ["mine=2x2x2:AAAA", "mine=0x1x1:eNpjYAAAAAIAAQ==", "mine=99999x9x9:eNpj", "mine=2x2x2:eNpjYGQAAAAFAAI="],
)
def test_damaged_records_are_refused(text: str) -> None:
    with pytest.raises(SchemeError, match=r"damaged|impossible"):
        problem_from_text(text)
