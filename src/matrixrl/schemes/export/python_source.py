"""A scheme as a Python module for NumPy or JAX, with the public function ``multiply(a, b)``."""

from __future__ import annotations

from matrixrl.schemes.export.plan import Names, Plan, describe_sum, provenance_lines, scaled, schedule

_NUMPY_HEAD = '''"""Matrix multiplication by a recursive block algorithm, for NumPy.

@DESCRIPTION@

    c = multiply(a, b)

`a` has shape [..., rows, inner] and `b` [..., inner, columns]; leading dimensions are batches and
broadcast. Sizes are arbitrary: what does not divide into blocks is multiplied directly.
"""

import numpy as np

N, M, P = @SIZES@
RANK = @RANK@


def multiply(a, b, *, levels=None, cutoff=64):
    """Returns the matrix product of `a` and `b`.

    Args:
      a: @KINDS@, shape [..., rows, inner].
      b: the same, shape [..., inner, columns].
      levels: number of recursive levels, fewer if a matrix becomes too small; None recurses until
        blocks would fall below `cutoff`.
      cutoff: smallest side of a block, if `levels` is None.

    Raises:
      TypeError: if an array holds other entries.
      ValueError: if shapes do not match, or `levels` or `cutoff` is out of range.
    """
    a, b = np.asarray(a), np.asarray(b)
    _check(a, b, levels, cutoff)
    dtype = np.result_type(a, b)
@PREPARE@
    return @RESULT@
'''

_JAX_HEAD = '''"""Matrix multiplication by a recursive block algorithm, for JAX.

@DESCRIPTION@

    c = multiply(a, b)

`a` has shape [..., rows, inner] and `b` [..., inner, columns]; leading dimensions are batches and
broadcast. Sizes are arbitrary: what does not divide into blocks is multiplied directly. The products
of a level are one batched product, so that a compiled program stays small; a level needs memory for
all of them. Under `jax.jit`, `levels`, `cutoff` and `precision` must be static.
"""

import jax.numpy as jnp
import numpy as np

N, M, P = @SIZES@
RANK = @RANK@


def multiply(a, b, *, levels=None, cutoff=128, precision=None):
    """Returns the matrix product of `a` and `b`.

    Args:
      a: @KINDS@, shape [..., rows, inner].
      b: the same, shape [..., inner, columns].
      levels: number of recursive levels, fewer if a matrix becomes too small; None recurses until
        blocks would fall below `cutoff`.
      cutoff: smallest side of a block, if `levels` is None.
      precision: of the products, as in `jax.numpy.matmul`; on accelerators the default rounds
        float32 entries to fewer bits.

    Raises:
      TypeError: if an array holds other entries.
      ValueError: if shapes do not match, or `levels` or `cutoff` is out of range.
    """
    a, b = jnp.asarray(a), jnp.asarray(b)
    _check(a, b, levels, cutoff)
    dtype = jnp.result_type(a, b)
    # The products of a level become a leading dimension, so both need equally many dimensions.
    ndim = max(a.ndim, b.ndim)
    a = a.reshape((1,) * (ndim - a.ndim) + a.shape)
    b = b.reshape((1,) * (ndim - b.ndim) + b.shape)
@PREPARE@
    return @RESULT@
'''

_CHECK = """

def _check(a, b, levels, cutoff):
    for name, x in (("a", a), ("b", b)):
        if @REFUSED@:
            raise TypeError(f"{name}: entries are {x.dtype}, want @KINDS@")
        if x.ndim < 2:
            raise ValueError(f"{name}: shape {list(x.shape)}, want at least two dimensions")
    if a.shape[-1] != b.shape[-2]:
        raise ValueError(f"shapes {list(a.shape)} and {list(b.shape)}: {a.shape[-1]} columns meet {b.shape[-2]} rows")
    np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    if levels is not None and levels < 0:
        raise ValueError(f"levels={levels}: must be 0 or more, or None")
    if cutoff < 1:
        raise ValueError(f"cutoff={cutoff}: must be 1 or more")
"""

_NUMPY_RECURSION = '''

def _multiply(a, b, levels, cutoff):
    rows, inner, columns = a.shape[-2], a.shape[-1], b.shape[-1]
    i, j, k = rows // N, inner // M, columns // P  # sizes of the blocks
    if levels == 0 or min(i, j, k) < (cutoff if levels is None else 1)@GUARD@:
        return @LEAF@
    top, middle, left = N * i, M * j, P * k
    core = _step(a[..., :top, :middle], b[..., :middle, :left], None if levels is None else levels - 1, cutoff)
    if (top, middle, left) == (rows, inner, columns):
        return core
    # The rows and columns that are left over are multiplied directly.
    result = np.empty((*core.shape[:-2], rows, columns), core.dtype)
    result[..., :top, :left] = core
    if middle < inner:
        edge_a, edge_b = a[..., :top, middle:], b[..., middle:, :left]
        result[..., :top, :left] @PLUS@= @EDGE_LEAF@
    if left < columns:
        edge_a, edge_b = a[..., :top, :], b[..., left:]
        result[..., :top, left:] = @EDGE_LEAF@
    if top < rows:
        edge_a, edge_b = a[..., top:, :], b
        result[..., top:, :] = @EDGE_LEAF@
    return result


def _blocks(x, rows, columns):
    """Returns views of the blocks of a matrix, row by row."""
    i, j = x.shape[-2] // rows, x.shape[-1] // columns
    return [x[..., r * i : (r + 1) * i, s * j : (s + 1) * j] for r in range(rows) for s in range(columns)]


def _step(a, b, levels, cutoff):
    """Multiplies matrices whose sides are multiples of N, M and P."""
    @A_BLOCKS@ = _blocks(a, N, M)
    @B_BLOCKS@ = _blocks(b, M, P)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    c = np.empty((*batch, a.shape[-2], b.shape[-1]), a.dtype)
    @C_BLOCKS@ = _blocks(c, N, P)
'''

_JAX_RECURSION = '''

def _multiply(a, b, levels, cutoff, precision):
    rows, inner, columns = a.shape[-2], a.shape[-1], b.shape[-1]
    i, j, k = rows // N, inner // M, columns // P  # sizes of the blocks
    if levels == 0 or min(i, j, k) < (cutoff if levels is None else 1)@GUARD@:
        return @LEAF@
    top, middle, left = N * i, M * j, P * k
    deeper = None if levels is None else levels - 1
    core = _step(a[..., :top, :middle], b[..., :middle, :left], deeper, cutoff, precision)
    # The rows and columns that are left over are multiplied directly.
    if middle < inner:
        edge_a, edge_b = a[..., :top, middle:], b[..., middle:, :left]
        core = core @PLUS@ @EDGE_LEAF@
    if left < columns:
        edge_a, edge_b = a[..., :top, :], b[..., left:]
        core = jnp.concatenate([core, @EDGE_LEAF@], axis=-1)
    if top < rows:
        edge_a, edge_b = a[..., top:, :], b
        core = jnp.concatenate([core, @EDGE_LEAF@], axis=-2)
    return core


def _blocks(x, rows, columns):
    """Returns the blocks of a matrix, row by row."""
    i, j = x.shape[-2] // rows, x.shape[-1] // columns
    return [x[..., r * i : (r + 1) * i, s * j : (s + 1) * j] for r in range(rows) for s in range(columns)]


def _step(a, b, levels, cutoff, precision):
    """Multiplies matrices whose sides are multiples of N, M and P."""
    @A_BLOCKS@ = _blocks(a, N, M)
    @B_BLOCKS@ = _blocks(b, M, P)
'''


def numpy_source(plan: Plan) -> str:
    """Returns the source of a module for NumPy."""
    text = _fill(_NUMPY_HEAD + _CHECK + _NUMPY_RECURSION, plan, jax=False)
    names = Names(plan)
    lines = []
    for action in schedule(plan):
        if action.kind == "product":
            left = names.value("left", plan.operand("left", action.index))
            right = names.value("right", plan.operand("right", action.index))
            lines.append(f"m{action.index + 1} = _multiply({left}, {right}, levels, cutoff)")
        elif action.kind == "output":
            term = plan.result.outputs[action.index]
            assert term is not None
            value = scaled(names.value("result", term.value), term.scale)
            lines.append(f"{plan.labels[2][action.index]}[...] = {value}")
        else:
            lines.append(_step_line(plan, names, action.kind, action.index))
        if action.dead:
            lines.append(f"del {', '.join(names.value(*value) for value in action.dead)}")
    return text + "".join(f"    {line}\n" for line in lines) + "    return c\n"


def jax_source(plan: Plan) -> str:
    """Returns the source of a module for JAX."""
    text = _fill(_JAX_HEAD + _CHECK + _JAX_RECURSION, plan, jax=True)
    names = Names(plan)
    lines = ["# Sums of the blocks of A, then of B."]
    lines += [_step_line(plan, names, "left", index) for index in range(plan.left.num_additions)]
    lines += [_step_line(plan, names, "right", index) for index in range(plan.right.num_additions)]
    for side in ("left", "right"):
        operands = [names.value(side, plan.operand(side, r)) for r in range(plan.rank)]
        lines.append(f"{side} = jnp.stack([{', '.join(operands)}])")
    products = ", ".join(f"m{r + 1}" for r in range(plan.rank))
    lines.append(
        f"{products}{',' if plan.rank == 1 else ''} = _multiply(left, right, levels, cutoff, precision)"
    )
    lines += [_step_line(plan, names, "result", index) for index in range(plan.result.num_additions)]
    for label, term in zip(plan.labels[2], plan.result.outputs, strict=True):
        assert term is not None  # an entry of the product of matrices is never zero
        lines.append(f"{label} = {scaled(names.value('result', term.value), term.scale)}")
    n, _, p = plan.format
    lines.append("rows = [")
    for row in range(n):
        entries = ", ".join(plan.labels[2][row * p : (row + 1) * p])
        lines.append(f"    jnp.concatenate([{entries}], axis=-1),")
    lines += ["]", "return jnp.concatenate(rows, axis=-2)"]
    return text + "".join(f"    {line}\n" for line in lines)


def _step_line(plan: Plan, names: Names, program: str, index: int) -> str:
    part = getattr(plan, program)
    step = part.steps[index]
    first, second = (names.value(program, term.value) for term in (step.first, step.second))
    value = describe_sum(
        first, second, (step.first.scale, step.second.scale), plus="^" if plan.over_f2 else "+"
    )
    return f"{names.value(program, part.num_inputs + index)} = {value}"


def _fill(text: str, plan: Plan, jax: bool) -> str:
    """Replaces the marks of a template."""
    module = "jnp" if jax else "np"
    if plan.over_f2:
        kinds, refused = (
            "integers or booleans",
            "not (x.dtype == bool or jnp.issubdtype(x.dtype, jnp.integer))",
        )
        numpy_refused = 'x.dtype.kind not in "biu"'
        # Sums become exclusive ors of 0 and 1. A product of booleans would be an or.
        prepare = (
            f"    dtype = {module}.uint8 if dtype == bool else dtype\n"
            "    a, b = a.astype(dtype) & 1, b.astype(dtype) & 1"
        )
    elif plan.modulus:
        kinds, refused = "integers", "not jnp.issubdtype(x.dtype, jnp.integer)"
        numpy_refused = 'x.dtype.kind not in "iu"'
        # Differences need a signed type, and sums of many products a large one.
        wide = "jnp.promote_types(dtype, jnp.int32)" if jax else "np.int64"
        prepare = f"    a, b = a.astype({wide}) % {plan.modulus}, b.astype({wide}) % {plan.modulus}"
    elif plan.has_fractions:
        kinds = "floating-point numbers (this scheme has coefficients that are fractions)"
        refused, numpy_refused = "not jnp.issubdtype(x.dtype, jnp.inexact)", 'x.dtype.kind not in "fc"'
        prepare = "    a, b = a.astype(dtype), b.astype(dtype)"
    else:
        kinds, refused = "integers or floating-point numbers", "x.dtype == bool"
        numpy_refused = 'x.dtype.kind not in "iufcO"'
        prepare = "    a, b = a.astype(dtype), b.astype(dtype)"
    if not jax:
        prepare = prepare.replace(".astype(dtype)", ".astype(dtype, copy=False)")

    def product(a: str, b: str) -> str:
        text = f"jnp.matmul({a}, {b}, precision=precision)" if jax else f"{a} @ {b}"
        if plan.modulus == 3:
            reduced = f"jnp.matmul({a} % 3, {b} % 3)" if jax else f"({a} % 3) @ ({b} % 3)"
            return f"({reduced}) % 3"
        return f"({text}) & 1" if plan.over_f2 else text

    def unpacked(labels: list[str]) -> str:
        return ", ".join(labels) + ("," if len(labels) == 1 else "")

    call = f"_multiply(a, b, levels, cutoff{', precision' if jax else ''})"
    marks = {
        "@DESCRIPTION@": "\n".join(provenance_lines(plan)),
        "@SIZES@": ", ".join(map(str, plan.format)),
        "@RANK@": str(plan.rank),
        "@KINDS@": kinds,
        "@REFUSED@": refused if jax else numpy_refused,
        "@PREPARE@": prepare,
        "@RESULT@": f"({call} % 3).astype(dtype)" if plan.modulus == 3 else call,
        # A format of single entries does not make matrices smaller.
        "@GUARD@": " or N * M * P == 1" if plan.format.naive_rank == 1 else "",
        "@LEAF@": product("a", "b"),
        "@EDGE_LEAF@": product("edge_a", "edge_b"),
        "@PLUS@": "^" if plan.over_f2 else "+",
        "@A_BLOCKS@": unpacked(plan.labels[0]),
        "@B_BLOCKS@": unpacked(plan.labels[1]),
        "@C_BLOCKS@": unpacked(plan.labels[2]),
    }
    for mark, replacement in marks.items():
        text = text.replace(mark, replacement)
    return text
