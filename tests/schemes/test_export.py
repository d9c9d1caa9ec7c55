from __future__ import annotations

import ctypes
import functools
import importlib.util
import io
import itertools
import re
import shutil
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from matrixrl.schemes.export import SUFFIXES, export, plan_of, write
from matrixrl.schemes.export.c_source import c_source
from matrixrl.schemes.export.latex import latex_source
from matrixrl.schemes.export.plan import Plan, make_plan, schedule
from matrixrl.schemes.export.python_source import jax_source, numpy_source
from matrixrl.schemes.formats import read_bytes_as_schemes
from matrixrl.schemes.known import known_scheme, laderman, standard, strassen, winograd
from matrixrl.schemes.reduction import reduced_program
from matrixrl.schemes.scheme import Scheme, SchemeError

SCHEMES = {
    "strassen": strassen(),
    "laderman": laderman(),
    "2x3x4": known_scheme((2, 3, 4)),
    "4x1x3": standard((4, 1, 3)),
    "1x1x1": standard((1, 1, 1)),
    "mod2": winograd().mod2(),
}

COMPILER = shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler found (gcc, cc or clang)")

SIZES = [(1, 1, 1), (2, 2, 2), (9, 8, 12), (13, 17, 11), (30, 31, 29)]


def fractional() -> Plan:
    """A plan with fractions: Strassen in a basis in which the first row of A and C is scaled."""
    scheme = strassen()
    u, w = (factor.astype(object) for factor in (scheme.u, scheme.w))
    u[:, :2] *= Fraction(3, 2)
    w[:, :2] *= Fraction(2, 3)
    scaled = object.__new__(Scheme)
    scaled.__dict__.update(scheme.__dict__, u=u, w=w)
    return plan_of(scaled, reduced_program(scaled, seconds=0.1))


def load(text: str, folder: Path) -> ModuleType:
    path = folder / "exported.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("exported", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def source(name: str, target: Any) -> str:
    return export(SCHEMES[name], target, seconds=0.1).decode()


@pytest.mark.parametrize("name", SCHEMES)
def test_numpy_modules_multiply_matrices_of_any_size(name: str, tmp_path: Path) -> None:
    multiply = load(source(name, "numpy"), tmp_path).multiply
    rng = np.random.default_rng(0)
    for (rows, inner, columns), options in itertools.product(
        SIZES, ({"levels": 1}, {"levels": 2}, {"cutoff": 2}, {})
    ):
        a = rng.integers(-5, 6, (rows, inner))
        b = rng.integers(-5, 6, (inner, columns))
        want = (a @ b) % 2 if name == "mod2" else a @ b
        assert np.array_equal(multiply(a, b, **options), want), (rows, inner, columns, options)


def test_numpy_modules_keep_types_and_batches(tmp_path: Path) -> None:
    multiply = load(source("strassen", "numpy"), tmp_path).multiply
    rng = np.random.default_rng(1)
    a, b = rng.uniform(-1, 1, (3, 1, 9, 7)), rng.uniform(-1, 1, (2, 7, 5))
    for dtype, tolerance in ((np.float64, 1e-13), (np.float32, 1e-5), (np.complex128, 1e-13)):
        found = multiply(a.astype(dtype), b.astype(dtype), levels=2)
        assert found.dtype == dtype
        assert found.shape == (3, 2, 9, 5)
        np.testing.assert_allclose(found, a @ b, rtol=0, atol=10 * tolerance)
    small = rng.integers(0, 200, (9, 9)).astype(np.uint8)
    assert np.array_equal(multiply(small, small, levels=2), small @ small)  # both wrap around
    exact = np.array([[Fraction(i + 1, j + 2) for j in range(4)] for i in range(4)], dtype=object)
    assert (multiply(exact, exact, levels=2) == exact @ exact).all()
    assert multiply(np.zeros((0, 3)), np.zeros((3, 2))).shape == (0, 2)
    mixed = multiply(a[0, 0], rng.integers(0, 3, (7, 5)), levels=1)
    assert mixed.dtype == np.float64


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (((3, 2), (3, 2)), {}, ValueError, "2 columns meet 3 rows"),
        (((3,), (3, 2)), {}, ValueError, "at least two dimensions"),
        (((2, 2), (2, 2)), {"levels": -1}, ValueError, "levels=-1"),
        (((2, 2), (2, 2)), {"cutoff": 0}, ValueError, "cutoff=0"),
    ],
)
def test_python_modules_refuse_bad_input(
    arguments: Any, options: Any, error: type[Exception], message: str, tmp_path: Path
) -> None:
    for target in ("numpy", "jax"):
        multiply = load(source("strassen", target), tmp_path).multiply
        with pytest.raises(error, match=message):
            multiply(*(np.ones(shape) for shape in arguments), **options)
        with pytest.raises(TypeError, match="want integers or floating-point numbers"):
            multiply(np.ones((2, 2), bool), np.ones((2, 2), bool))


def test_fractions_need_floating_point_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    a, b = rng.uniform(-1, 1, (11, 9)), rng.uniform(-1, 1, (9, 10))
    for text in (numpy_source(fractional()), jax_source(fractional())):
        multiply = load(text, tmp_path).multiply
        once = functools.partial(multiply, levels=2)
        if "jax" in text:
            import jax

            once = jax.jit(once)
        found = once(a.astype(np.float32), b.astype(np.float32))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, a @ b, rtol=0, atol=1e-5)
        with pytest.raises(TypeError, match="floating-point numbers"):
            multiply(np.ones((2, 2), int), np.ones((2, 2), int))
    assert "fractions" in numpy_source(fractional())
    assert r"\tfrac{2}{3}" in latex_source(fractional())


@pytest.mark.parametrize("name", ["strassen", "4x1x3", "mod2"])
def test_jax_modules_multiply_matrices_of_any_size(name: str, tmp_path: Path) -> None:
    import jax
    import jax.numpy as jnp

    module = load(source(name, "jax"), tmp_path)
    # One compiled program each: eager operations would be compiled one by one.
    compiled = jax.jit(module.multiply, static_argnames=("levels", "cutoff", "precision"))
    rng = np.random.default_rng(0)
    a, b = rng.integers(-5, 6, (2, 1, 13, 9)), rng.integers(-5, 6, (9, 11))
    want = (a @ b) % 2 if name == "mod2" else a @ b
    assert np.array_equal(compiled(a, b, cutoff=2), want)
    if name == "strassen":
        x, y = a[0, 0].astype(np.float32), b.astype(np.float32)

        @jax.jit
        def product_and_slope(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            def total(x: jax.Array) -> tuple[jax.Array, jax.Array]:
                product = module.multiply(x, y, levels=1)
                return product.sum(), product

            slope, product = jax.grad(total, has_aux=True)(x)
            return product, slope

        found, slope = product_and_slope(jnp.asarray(x))
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, x @ y, rtol=0, atol=1e-4)
        np.testing.assert_allclose(slope[0], y.sum(axis=1), rtol=0, atol=1e-4)


def modulo_3() -> Plan:
    """Strassen with coefficients 0, 1 and 2 modulo 3."""
    scheme = strassen()
    scaled = object.__new__(Scheme)
    u, v, w = (factor % 3 for factor in scheme.factors)
    scaled.__dict__.update(scheme.__dict__, u=u, v=v, w=w, ring="F3")
    return plan_of(scaled, reduced_program(scaled, seconds=0.1))


def test_schemes_modulo_3(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 9, (21, 19)).astype(np.uint8), rng.integers(0, 9, (19, 30)).astype(np.uint8)
    want = (a.astype(int) @ b) % 3
    found = load(numpy_source(modulo_3()), tmp_path).multiply(a, b, levels=3)
    assert found.dtype == np.uint8
    assert np.array_equal(found, want)
    import jax

    assert np.array_equal(jax.jit(load(jax_source(modulo_3()), tmp_path).multiply)(a, b), want)
    if COMPILER is not None:
        code = compile_library(c_source(modulo_3()), tmp_path, "-DCUTOFF=2")
        assert np.array_equal(c_multiply(code, a.astype(np.int32), b.astype(np.int32), 3), want)


def compile_library(text: str, folder: Path, *flags: str) -> ctypes.CDLL:
    assert COMPILER is not None
    path, library = folder / "scheme.c", folder / f"scheme{len(list(folder.iterdir()))}.so"
    path.write_text(text)
    strict = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    done = subprocess.run(
        [COMPILER, *strict, "-O1", "-fPIC", "-shared", *flags, str(path), "-o", str(library)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    code = ctypes.CDLL(str(library))
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    if hasattr(code, "multiply"):
        code.multiply.argtypes = [size] * 3 + [pointer, size] * 3 + [ctypes.c_int]
    return code


def c_multiply(code: ctypes.CDLL, a: np.ndarray, b: np.ndarray, levels: int) -> np.ndarray:
    """Multiplies parts of larger arrays, so that rows are further apart than they are long."""
    rows, inner, columns = *a.shape, b.shape[1]
    wide_a, wide_b = np.zeros((rows, inner + 3), a.dtype), np.zeros((inner, columns + 2), a.dtype)
    wide_a[:, :inner], wide_b[:, :columns] = a, b
    c = np.full((rows, columns + 1), 77, a.dtype)
    places = [x for array in (wide_a, wide_b, c) for x in (array.ctypes.data, array.shape[1])]
    assert code.multiply(rows, inner, columns, *places, levels) == 0
    assert (c[:, columns] == 77).all()
    return c[:, :columns]


@needs_compiler
@pytest.mark.parametrize("name", SCHEMES)
def test_c_files_multiply_matrices_of_any_size_without_warnings(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    types = {"uint8_t": np.uint8} if name == "mod2" else {"double": np.float64, "float": np.float32}
    types |= {"int32_t": np.int32}
    if name not in ("strassen", "mod2"):
        types = {"double": np.float64}
    for scalar, dtype in types.items():
        code = compile_library(source(name, "c"), tmp_path, f"-DSCALAR={scalar}", "-DCUTOFF=3")
        for (rows, inner, columns), levels in itertools.product(SIZES, (-1, 0, 1, 2)):
            a, b = rng.integers(0, 2, (rows, inner)), rng.integers(0, 2, (inner, columns))
            want = (a @ b) % 2 if name == "mod2" else a @ b
            found = c_multiply(code, a.astype(dtype), b.astype(dtype), levels)
            assert np.array_equal(found, want), (scalar, rows, inner, columns, levels)


@needs_compiler
def test_c_files_have_a_self_test_and_refuse_types_that_do_not_fit(tmp_path: Path) -> None:
    assert COMPILER is not None
    path, program = tmp_path / "scheme.c", tmp_path / "self_test"
    strict = [COMPILER, "-std=c11", "-Wall", "-Wextra", "-Werror"]
    for text in (source("laderman", "c"), source("mod2", "c"), c_source(fractional())):
        path.write_text(text)
        subprocess.run([*strict, "-DSELF_TEST", str(path), "-o", str(program)], check=True)
        done = subprocess.run([str(program)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "correct\n")
    path.write_text(source("laderman", "c").replace("const SCALAR m1 = p_m1[x];", "const SCALAR m1 = 0;"))
    subprocess.run([*strict, "-Wno-unused", "-DSELF_TEST", str(path), "-o", str(program)], check=True)
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    path.write_text(c_source(fractional()))
    refused = subprocess.run(
        [*strict, "-DSCALAR=int", "-c", str(path), "-o", str(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode != 0
    assert "coefficients are fractions" in refused.stderr


@needs_compiler
def test_two_types_can_be_linked_under_two_names(tmp_path: Path) -> None:
    code = compile_library(source("strassen", "c"), tmp_path, "-DMULTIPLY=multiply_f32", "-DSCALAR=float")
    assert hasattr(code, "multiply_f32")
    assert hasattr(code, "multiply_f32_workspace")


@pytest.mark.parametrize("name", SCHEMES)
def test_the_schedule_reads_only_what_exists(name: str) -> None:
    plan = make_plan(SCHEMES[name], seconds=0.05)
    known = {("left", i) for i in range(plan.left.num_inputs)}
    known |= {("right", i) for i in range(plan.right.num_inputs)}
    outputs = set()
    for action in schedule(plan):
        if action.kind == "product":
            assert ("left", plan.operand("left", action.index)) in known
            assert ("right", plan.operand("right", action.index)) in known
            known.add(("result", action.index))
        elif action.kind == "output":
            term = plan.result.outputs[action.index]
            assert term is not None
            assert ("result", term.value) in known
            outputs.add(action.index)
        else:
            part = getattr(plan, action.kind)
            step = part.steps[action.index]
            assert {(action.kind, step.first.value), (action.kind, step.second.value)} <= known
            known.add((action.kind, part.num_inputs + action.index))
        known -= set(action.dead)
    assert outputs == set(range(plan.result.transposed().num_inputs))
    assert not {value for value in known if value[0] == "result"}


def test_products_that_are_zero_are_left_out() -> None:
    scheme = strassen()
    rows = [np.vstack([factor, np.zeros((1, 4), int)]) for factor in scheme.factors]
    rows[0][7, 0] = 1
    longer = Scheme(scheme.format, "Z", rows[0], rows[1], rows[2])
    assert make_plan(longer, seconds=0.05).rank == 7


def test_a_wrong_scheme_is_not_exported() -> None:
    wrong = replace(strassen(), u=np.abs(strassen().u))
    with pytest.raises(SchemeError, match="not a correct scheme"):
        export(wrong, "numpy")


def test_a_source_in_the_provenance_cannot_end_a_comment(tmp_path: Path) -> None:
    scheme = strassen().with_provenance(source='x */ int bad; /* """\nimport os\\')
    text = export(scheme, "c", seconds=0.05).decode()
    assert "*/ int bad" not in text
    multiply = load(export(scheme, "numpy", seconds=0.05).decode(), tmp_path).multiply
    assert multiply(np.eye(4), np.eye(4), levels=1).trace() == 4


def test_latex_has_all_products_and_balanced_braces() -> None:
    text = source("laderman", "latex")
    assert text.startswith(r"\documentclass")
    assert text.rstrip().endswith(r"\end{document}")
    assert text.count("{") == text.count("}")
    assert sorted(map(int, set(re.findall(r"m_\{(\d+)\} &=", text)))) == list(range(1, 24))
    assert text.count(r"\begin{align*}") == text.count(r"\end{align*}") == 3
    assert "modulo 2" in source("mod2", "latex")
    assert "a_{11,2}" in latex_source(make_plan(known_scheme((11, 2, 2)), seconds=0.0))


def test_data_formats_hold_the_factors(tmp_path: Path) -> None:
    scheme = known_scheme((2, 3, 4))
    assert export(scheme, "json").decode() == (
        scheme.save(tmp_path / "s.json") or (tmp_path / "s.json").read_text()
    )
    numbers = [int(x) for x in re.findall(r"-?\d+", export(scheme, "m").decode())]
    rows = [row for product in zip(*scheme.factors, strict=True) for row in product]
    assert numbers == np.concatenate(rows).tolist()
    for scheme in (known_scheme((2, 3, 4)), strassen()):
        n, m, p = scheme.format
        with np.load(io.BytesIO(export(scheme, "npz")), allow_pickle=True) as arrays:
            u, v, w = arrays[f"{n},{m},{p}"]
        assert np.array_equal(u.T, scheme.u)
        assert np.array_equal(v.T, scheme.v)
        # C is transposed there.
        assert np.array_equal(w.T.reshape(-1, p, n), scheme.w.reshape(-1, n, p).transpose(0, 2, 1))


@pytest.mark.parametrize("fractions", [False, True])
def test_archives_hold_fractions_and_declare_f2(fractions: bool) -> None:
    scheme = SCHEMES["mod2"]
    if fractions:
        u, w = (factor.astype(object) for factor in (strassen().u, strassen().w))
        u[0], w[0] = u[0] * Fraction(1, 2), w[0] * 2
        scheme = Scheme(strassen().format, "Q", u, strassen().v, w)
    read = read_bytes_as_schemes(export(scheme, "npz")).readings[0]
    assert read.scheme.ring == scheme.ring
    for got, want in zip(read.scheme.factors, scheme.factors, strict=True):
        assert np.array_equal(got, want)


def test_files_are_written_whole(tmp_path: Path) -> None:
    write(b"content", tmp_path / "folder" / "file")
    assert (tmp_path / "folder" / "file").read_bytes() == b"content"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["file"]
    with pytest.raises(SchemeError, match="cannot write"):
        write(b"content", tmp_path / "folder" / "file" / "below")
    assert set(SUFFIXES.values()) == {".py", ".c", ".tex", ".json", ".m", ".npz"}
