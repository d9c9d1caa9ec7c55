"""Runs schemes fast: the exported C code with NumPy's BLAS at the leaves, or NumPy in place."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np

from matrixrl.schemes.export import Plan
from matrixrl.schemes.export.c_source import c_source
from matrixrl.schemes.programs import LinearProgram, Term

# Names of gemm in the libraries that come with NumPy, with the C type of their integers.
_GEMM_NAMES = (
    ("scipy_cblas_{}gemm64_", "int64_t"),
    ("cblas_{}gemm64_", "int64_t"),
    ("cblas_{}gemm_64", "int64_t"),
    ("scipy_cblas_{}gemm", "int"),
    ("cblas_{}gemm", "int"),
)

_FLAGS = ("-std=c11", "-O3", "-march=native", "-fPIC", "-shared", "-DUSE_CBLAS")


class NativeError(RuntimeError):
    """The compiled way is not available here. The message is one line."""


def compile_plan(plan: Plan, folder: Path, dtype: np.dtype, blas_path: str | None) -> NativeMultiply:
    """Compiles the C code of a plan and loads it.

    Args:
      plan: the scheme.
      folder: folder for the source and the library.
      dtype: float64 or float32.
      blas_path: file of the BLAS that NumPy uses; None if it is not known.

    Raises:
      NativeError: if there is no compiler, no BLAS to call, or the compiler fails.
    """
    compiler = next((path for name in ("gcc", "cc", "clang") if (path := shutil.which(name))), None)
    if compiler is None:
        raise NativeError("no C compiler found")
    if blas_path is None:
        raise NativeError("NumPy's BLAS was not found")
    blas = ctypes.CDLL(blas_path, mode=ctypes.RTLD_GLOBAL)  # the library that is loaded already
    letter = "d" if dtype == np.float64 else "s"
    names = [(name.format(letter), integer) for name, integer in _GEMM_NAMES]
    gemm = next((pair for pair in names if hasattr(blas, pair[0])), None)
    if gemm is None:
        raise NativeError(f"{Path(blas_path).name} has no gemm of a known name")
    source, library = folder / "scheme.c", folder / "scheme.so"
    source.write_text(c_source(plan), encoding="utf-8")
    scalar = "double" if dtype == np.float64 else "float"
    command = [compiler, *_FLAGS, f"-DSCALAR={scalar}", f"-DCBLAS_GEMM={gemm[0]}", f"-DCBLAS_INT={gemm[1]}"]
    failure = ""
    for extra in (["-fopenmp", "-mprefer-vector-width=512"], ["-fopenmp"], []):
        done = subprocess.run(
            [*command, *extra, str(source), "-o", str(library)], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return NativeMultiply(library, dtype)
        failure = (done.stderr.strip().splitlines() or ["no message"])[-1]
    raise NativeError(f"{Path(compiler).name} failed: {failure}")


class NativeMultiply:
    """The function of a compiled scheme."""

    def __init__(self, library: Path, dtype: np.dtype) -> None:
        code = ctypes.CDLL(str(library))
        size, pointer = ctypes.c_size_t, ctypes.c_void_p
        self._workspace = code.multiply_workspace
        self._workspace.argtypes, self._workspace.restype = [size, size, size, ctypes.c_int], size
        self._multiply = code.multiply_in
        self._multiply.argtypes = [size] * 3 + [pointer, size] * 3 + [ctypes.c_int, pointer]
        self._multiply.restype = None
        self._dtype = dtype

    def bytes_needed(self, size: int, levels: int) -> int:
        """Returns the memory that products of square matrices need beside the matrices."""
        return self._workspace(size, size, size, levels) * self._dtype.itemsize

    def prepare(self, size: int, levels: int) -> Callable[[np.ndarray, np.ndarray, np.ndarray], None]:
        """Returns a function (a, b, c) that multiplies square row-major matrices into c."""
        work = np.empty(max(1, self._workspace(size, size, size, levels)), self._dtype)
        work.fill(0)  # the pages exist before the first measurement

        def multiply(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
            sides = (size, size, size)
            self._multiply(
                *sides,
                a.ctypes.data,
                size,
                b.ctypes.data,
                size,
                c.ctypes.data,
                size,
                levels,
                work.ctypes.data,
            )

        return multiply


class NumpyMultiply:
    """A scheme in NumPy, in place with buffers that are kept between products."""

    def __init__(self, plan: Plan, dtype: np.dtype) -> None:
        self._plan = plan
        self._dtype = dtype
        self._buffers: dict[tuple[int, str, tuple[int, int]], list[np.ndarray]] = {}

    def bytes_needed(self, size: int, levels: int) -> int:
        """Returns the memory that products of square matrices need beside the matrices."""
        total, sides = 0, [size, size, size]
        plan = self._plan
        for _ in range(levels):
            sides = [side // part for side, part in zip(sides, plan.format, strict=True)]
            i, j, k = sides
            total += (len(plan.left.steps) + 1) * i * j + (len(plan.right.steps) + 1) * j * k
            total += (plan.rank + len(plan.result.steps) + 1) * i * k
        return total * self._dtype.itemsize

    def prepare(self, size: int, levels: int) -> Callable[[np.ndarray, np.ndarray, np.ndarray], None]:
        """Returns a function (a, b, c) that multiplies square row-major matrices into c."""
        del size
        self._buffers.clear()

        def multiply(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
            self._multiply(a, b, c, levels)

        return multiply

    def _multiply(self, a: np.ndarray, b: np.ndarray, c: np.ndarray, levels: int) -> None:
        n, m, p = self._plan.format
        i, j, k = a.shape[0] // n, a.shape[1] // m, b.shape[1] // p
        if levels == 0 or min(i, j, k) == 0:
            np.matmul(a, b, out=c)
            return
        top, middle, left = n * i, m * j, p * k
        self._step(a[:top, :middle], b[:middle, :left], c[:top, :left], levels)
        if middle < a.shape[1]:
            c[:top, :left] += a[:top, middle:] @ b[middle:, :left]
        if left < b.shape[1]:
            np.matmul(a[:top], b[:, left:], out=c[:top, left:])
        if top < a.shape[0]:
            np.matmul(a[top:], b, out=c[top:])

    def _step(self, a: np.ndarray, b: np.ndarray, c: np.ndarray, levels: int) -> None:
        plan = self._plan
        n, m, p = plan.format
        sums_a = self._run(plan.left, _blocks(a, n, m), levels, "left")
        sums_b = self._run(plan.right, _blocks(b, m, p), levels, "right")
        shape = (a.shape[0] // n, b.shape[1] // p)
        products = self._buffer(levels, "products", shape, plan.rank)
        for r, product in enumerate(products):
            left, right = sums_a[plan.operand("left", r)], sums_b[plan.operand("right", r)]
            self._multiply(left, right, product, levels - 1)
        values = self._run(plan.result, products, levels, "result")
        for block, term in zip(_blocks(c, n, p), plan.result.outputs, strict=True):
            assert term is not None
            np.multiply(values[term.value], float(term.scale), out=block)

    def _run(
        self, program: LinearProgram, inputs: list[np.ndarray], levels: int, name: str
    ) -> list[np.ndarray]:
        values = list(inputs)
        shape = inputs[0].shape
        scratch = self._buffer(levels, f"{name} scratch", shape, 1)[0]
        for step, out in zip(
            program.steps, self._buffer(levels, name, shape, len(program.steps)), strict=True
        ):
            first, second = values[step.first.value], values[step.second.value]
            _add(step.first, first, step.second, second, out, scratch)
            values.append(out)
        return values

    def _buffer(self, levels: int, name: str, shape: tuple[int, ...], count: int) -> list[np.ndarray]:
        key = (levels, name, (shape[0], shape[1]))
        if key not in self._buffers:
            self._buffers[key] = [np.empty(shape, self._dtype) for _ in range(count)]
        return self._buffers[key]


def _add(
    first: Term, x: np.ndarray, second: Term, y: np.ndarray, out: np.ndarray, scratch: np.ndarray
) -> None:
    """Computes ``first.scale * x + second.scale * y`` into `out`."""
    if first.scale != 1:
        x = np.multiply(x, float(first.scale), out=out)
    if abs(second.scale) != 1:
        y = np.multiply(y, float(abs(second.scale)), out=scratch)
    (np.add if second.scale > 0 else np.subtract)(x, y, out=out)


def _blocks(x: np.ndarray, rows: int, columns: int) -> list[np.ndarray]:
    i, j = x.shape[0] // rows, x.shape[1] // columns
    return [x[r * i : (r + 1) * i, s * j : (s + 1) * j] for r in range(rows) for s in range(columns)]
