"""A scheme as one C file without dependencies, with an optional BLAS at the leaves."""

from __future__ import annotations

from matrixrl.schemes.export.plan import Names, Plan, provenance_lines, scaled
from matrixrl.schemes.programs import Number

_HEAD = """\
/* Matrix multiplication by a recursive block algorithm.
 *
@DESCRIPTION@
 *
 *   int multiply(rows, inner, columns, a, lda, b, ldb, c, ldc, levels)
 *
 * computes C = A B for row-major matrices A (rows x inner), B (inner x columns) and C (rows x
 * columns), whose rows start lda, ldb and ldc entries apart. C must not overlap A or B. Sizes are
 * arbitrary: what does not divide into blocks is multiplied directly. `levels` is the number of
 * recursive levels; a negative one recurses until the sides of blocks would fall below CUTOFF.
 * Returns 0, or -1 if there is not enough memory.
 *
 * Compile with a C11 compiler, such as  cc -std=c11 -O3 -march=native -c FILE.c , and with
 *   -DSCALAR=float     another type of entries (default @SCALAR@)@TYPES@
 *   -DMULTIPLY=name    another name of the function, to link it for several types
 *   -DCUTOFF=512       another smallest side of a block@BLAS@
 *   -fopenmp           several threads for the sums
 *   -DSELF_TEST        a program that compares the result with the definition
 */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef SCALAR
#define SCALAR @SCALAR@
#endif
#ifndef MULTIPLY
#define MULTIPLY multiply
#endif
#define JOIN_(first, second) first##second
#define JOIN(first, second) JOIN_(first, second)
#define MULTIPLY_IN JOIN(MULTIPLY, _in)
#define MULTIPLY_WORKSPACE JOIN(MULTIPLY, _workspace)

enum { N = @N@, M = @M@, P = @P@, RANK = @RANK@, LEFT_SUMS = @LEFT_SUMS@, RIGHT_SUMS = @RIGHT_SUMS@ };
@ASSERT@
/* Number of entries of memory that MULTIPLY_IN needs. */
size_t MULTIPLY_WORKSPACE(size_t rows, size_t inner, size_t columns, int levels);

/* The same as MULTIPLY with memory from the caller: repeated products then allocate none. */
void MULTIPLY_IN(size_t rows, size_t inner, size_t columns, const SCALAR *a, size_t lda,
                 const SCALAR *b, size_t ldb, SCALAR *c, size_t ldc, int levels, SCALAR *work);

int MULTIPLY(size_t rows, size_t inner, size_t columns, const SCALAR *a, size_t lda,
             const SCALAR *b, size_t ldb, SCALAR *c, size_t ldc, int levels);
"""

_BLAS_LEAF = """
#ifdef USE_CBLAS

#ifndef CUTOFF
#define CUTOFF 1024
#endif
#ifdef CBLAS_GEMM /* the function of a BLAS with names of its own; CBLAS_INT is its integer type */
void CBLAS_GEMM(int order, int trans_a, int trans_b, CBLAS_INT m, CBLAS_INT n, CBLAS_INT k,
                SCALAR alpha, const SCALAR *a, CBLAS_INT lda, const SCALAR *b, CBLAS_INT ldb,
                SCALAR beta, SCALAR *c, CBLAS_INT ldc);
#else
#include <cblas.h>
#define CBLAS_INT int
#define CBLAS_GEMM _Generic((SCALAR)0, float: cblas_sgemm, double: cblas_dgemm)
#endif

/* C = A B, or C += A B. */
static void leaf(size_t rows, size_t inner, size_t columns, const SCALAR *a, size_t lda,
                 const SCALAR *b, size_t ldb, SCALAR *c, size_t ldc, int accumulate)
{
    enum { ROW_MAJOR = 101, NO_TRANSPOSE = 111 };
    if (rows && columns)
        CBLAS_GEMM(ROW_MAJOR, NO_TRANSPOSE, NO_TRANSPOSE, (CBLAS_INT)rows, (CBLAS_INT)columns,
                   (CBLAS_INT)inner, 1, a, (CBLAS_INT)lda, b, (CBLAS_INT)ldb, accumulate ? 1 : 0, c,
                   (CBLAS_INT)ldc);
}

#else
"""

_LEAF = """
#ifndef CUTOFF
#define CUTOFF 128
#endif

static size_t smaller(size_t x, size_t y) { return x < y ? x : y; }

/* C = A B, or C @PLUS@= A B, in blocks that stay in the cache. */
static void leaf(size_t rows, size_t inner, size_t columns, const SCALAR *a, size_t lda,
                 const SCALAR *b, size_t ldb, SCALAR *c, size_t ldc, int accumulate)
{
    enum { DEPTH = 64, WIDTH = 256 };
    if (!accumulate)
        for (size_t i = 0; i < rows; ++i)
            for (size_t k = 0; k < columns; ++k)
                c[i * ldc + k] = 0;
    for (size_t k0 = 0; k0 < columns; k0 += WIDTH)
        for (size_t j0 = 0; j0 < inner; j0 += DEPTH)
            for (size_t i = 0; i < rows; ++i)
                for (size_t j = j0; j < smaller(j0 + DEPTH, inner); ++j) {
                    const SCALAR x = a[i * lda + j]@MOD@;
                    const size_t end = smaller(k0 + WIDTH, columns);
                    for (size_t k = k0; k < end; ++k)
                        c[i * ldc + k] @PLUS@= @PRODUCT@;
                }@REDUCE@
}
"""

_REDUCE = """
    for (size_t i = 0; i < rows; ++i)
        for (size_t k = 0; k < columns; ++k)
            c[i * ldc + k] = (c[i * ldc + k] % 3 + 3) % 3;"""

_RECURSION = """
/* Multiplies matrices whose sides are N * i, M * j and P * k. */
static void step(size_t i, size_t j, size_t k, const SCALAR *a, size_t lda, const SCALAR *b,
                 size_t ldb, SCALAR *c, size_t ldc, int levels, SCALAR *work)
{
    SCALAR *const s = work;
    SCALAR *const t = s + LEFT_SUMS * (i * j);
    SCALAR *const m = t + RIGHT_SUMS * (j * k);
    SCALAR *const rest = m + RANK * (i * k);
@CALLS@
    result_sums(i, k, m, c, ldc);
}

static int splits(size_t i, size_t j, size_t k, int levels)
{
    const size_t least = levels < 0 ? CUTOFF : 1;
    return levels != 0 && i >= least && j >= least && k >= least@GUARD@;
}

size_t MULTIPLY_WORKSPACE(size_t rows, size_t inner, size_t columns, int levels)
{
    size_t total = 0, i = rows / N, j = inner / M, k = columns / P;
    while (splits(i, j, k, levels)) {
        total += LEFT_SUMS * (i * j) + RIGHT_SUMS * (j * k) + RANK * (i * k);
        i /= N, j /= M, k /= P;
        levels -= levels > 0;
    }
    return total;
}

void MULTIPLY_IN(size_t rows, size_t inner, size_t columns, const SCALAR *a, size_t lda,
                 const SCALAR *b, size_t ldb, SCALAR *c, size_t ldc, int levels, SCALAR *work)
{
    const size_t i = rows / N, j = inner / M, k = columns / P; /* sizes of the blocks */
    if (!splits(i, j, k, levels)) {
        leaf(rows, inner, columns, a, lda, b, ldb, c, ldc, 0);
        return;
    }
    const size_t top = N * i, middle = M * j, left = P * k;
    step(i, j, k, a, lda, b, ldb, c, ldc, levels - (levels > 0), work);
    /* The rows and columns that are left over are multiplied directly. */
    if (middle < inner)
        leaf(top, inner - middle, left, a + middle, lda, b + middle * ldb, ldb, c, ldc, 1);
    if (left < columns)
        leaf(top, inner, columns - left, a, lda, b + left, ldb, c + left, ldc, 0);
    if (top < rows)
        leaf(rows - top, inner, columns, a + top * lda, lda, b, ldb, c + top * ldc, ldc, 0);
}

int MULTIPLY(size_t rows, size_t inner, size_t columns, const SCALAR *a, size_t lda,
             const SCALAR *b, size_t ldb, SCALAR *c, size_t ldc, int levels)
{
    const size_t size = MULTIPLY_WORKSPACE(rows, inner, columns, levels);
    if (size > SIZE_MAX / sizeof(SCALAR))
        return -1;
    SCALAR *const work = size ? malloc(size * sizeof(SCALAR)) : NULL;
    if (size && !work)
        return -1;
    MULTIPLY_IN(rows, inner, columns, a, lda, b, ldb, c, ldc, levels, work);
    free(work);
    return 0;
}

#ifdef SELF_TEST
#include <stdio.h>

int main(void)
{
    enum { ROWS = 4 * N + 1, INNER = 4 * M + 1, COLUMNS = 4 * P + 1 };
    static SCALAR a[ROWS * INNER], b[INNER * COLUMNS], c[ROWS * COLUMNS];
    unsigned seed = 1;
    for (size_t x = 0; x < ROWS * INNER; ++x)
        a[x] = (SCALAR)((seed = seed * 1103515245u + 12345u) >> 16 & 1);
    for (size_t x = 0; x < INNER * COLUMNS; ++x)
        b[x] = (SCALAR)((seed = seed * 1103515245u + 12345u) >> 16 & 1);
    if (MULTIPLY(ROWS, INNER, COLUMNS, a, INNER, b, COLUMNS, c, COLUMNS, 2))
        return 2;
    for (size_t i = 0; i < ROWS; ++i)
        for (size_t k = 0; k < COLUMNS; ++k) {
            double want = 0;
            for (size_t j = 0; j < INNER; ++j)
                want += (double)a[i * INNER + j] * (double)b[j * COLUMNS + k];
            @WANT@const double error = (double)c[i * COLUMNS + k] - want;
            if (error > 0.01 || error < -0.01) {
                printf("wrong: row %zu, column %zu\\n", i, k);
                return 1;
            }
        }
    puts("correct");
    return 0;
}
#endif
"""


def c_source(plan: Plan) -> str:
    """Returns the source of the C file."""
    names = Names(plan)
    left_stored, right_stored = (_stored(plan, side) for side in ("left", "right"))
    parts = [_HEAD]
    if plan.modulus:
        parts.append(_LEAF)
    else:
        parts += [_BLAS_LEAF, _LEAF.lstrip("\n"), "\n#endif\n"]
    parts.append(_sums(plan, names, "left", left_stored))
    parts.append(_sums(plan, names, "right", right_stored))
    parts.append(_result_sums(plan, names))
    parts.append(_RECURSION)
    calls = []
    for kind, stored in (("left", left_stored), ("right", right_stored)):
        if stored:
            arguments = "i, j, a, lda, s" if kind == "left" else "j, k, b, ldb, t"
            calls.append(f"    {kind}_sums({arguments});")
    for r in range(plan.rank):
        x, y = _operand(plan, "left", r, left_stored), _operand(plan, "right", r, right_stored)
        calls.append(f"    MULTIPLY_IN(i, j, k, {x}, {y}, m + {r} * (i * k), k, levels, rest);")
    unused = [
        f"    (void){name};" for name, stored in (("s", left_stored), ("t", right_stored)) if not stored
    ]
    marks = _marks_of(plan) | {
        "@LEFT_SUMS@": str(len(left_stored)),
        "@RIGHT_SUMS@": str(len(right_stored)),
        "@CALLS@": "\n".join(unused + calls),
    }
    text = "".join(parts)
    for mark, replacement in marks.items():
        text = text.replace(mark, replacement)
    return text


def _marks_of(plan: Plan) -> dict[str, str]:
    """Returns the replacements of the template's marks that depend on format and ring alone."""
    scalar = "uint8_t" if plan.over_f2 else "int32_t" if plan.modulus else "double"
    n, m, p = plan.format
    return {
        "@DESCRIPTION@": "\n".join(f" * {line}" for line in provenance_lines(plan)),
        "@TYPES@": (
            ""
            if plan.modulus
            else "; floating-point"
            if plan.has_fractions
            else ";\n *                      of integers choose an unsigned type if sums may overflow"
        ),
        "@BLAS@": (
            ""
            if plan.modulus
            else "\n *   -DUSE_CBLAS        cblas_dgemm or cblas_sgemm at the leaves (link a BLAS)"
        ),
        "@SCALAR@": scalar,
        "@N@": str(n),
        "@M@": str(m),
        "@P@": str(p),
        "@RANK@": str(plan.rank),
        "@ASSERT@": (
            '_Static_assert((SCALAR)0.5 != 0, "coefficients are fractions: SCALAR must be float or double");\n'
            if plan.has_fractions
            else '_Static_assert((SCALAR)0.5 == 0, "the scheme holds modulo 2: SCALAR must be an integer type");\n'
            if plan.over_f2
            else "_Static_assert((SCALAR)0.5 == 0 && (SCALAR)-1 < 0,\n"
            '               "the scheme holds modulo 3: SCALAR must be a signed integer type");\n'
            if plan.modulus
            else ""
        ),
        "@GUARD@": " && N * M * P > 1" if plan.format.naive_rank == 1 else "",
        "@PLUS@": "^" if plan.over_f2 else "+",
        "@PRODUCT@": (
            "x & b[j * ldb + k] & 1"
            if plan.over_f2
            else "x * (b[j * ldb + k] % 3)"
            if plan.modulus
            else "x * b[j * ldb + k]"
        ),
        "@MOD@": " % 3" if plan.modulus == 3 else "",
        "@REDUCE@": _REDUCE if plan.modulus == 3 else "",
        "@WANT@": (
            f"want -= {plan.modulus} * (double)(unsigned long)(want / {plan.modulus});\n            "
            if plan.modulus
            else ""
        ),
    }


def _stored(plan: Plan, side: str) -> list[int]:
    """Returns the sums that are factors of products; the others exist only within a loop."""
    program = plan.left if side == "left" else plan.right
    values = {plan.operand(side, r) for r in range(plan.rank)}  # pyright: ignore[reportArgumentType]
    return sorted(value for value in values if value >= program.num_inputs)


def _operand(plan: Plan, side: str, product: int, stored: list[int]) -> str:
    """Returns the address and row length of a factor of a product, as arguments of a call."""
    value = plan.operand(side, product)  # pyright: ignore[reportArgumentType]
    name, rows, columns = ("a", "i", "j") if side == "left" else ("b", "j", "k")
    if value in stored:
        letter = "s" if side == "left" else "t"
        return f"{letter} + {stored.index(value)} * ({rows} * {columns}), {columns}"
    row, column = divmod(value, plan.format.m if side == "left" else plan.format.p)
    return f"{name} + {row} * {rows} * ld{name} + {column} * {columns}, ld{name}"


def _sums(plan: Plan, names: Names, side: str, stored: list[int]) -> str:
    """Returns the function that forms all sums of the blocks of A or B in one pass."""
    if not stored:
        return ""
    program, x, out = (plan.left, "a", "s") if side == "left" else (plan.right, "b", "t")
    width = plan.format.m if side == "left" else plan.format.p
    needed = _needed(plan, side, stored)
    steps = [index for index in range(len(program.steps)) if program.num_inputs + index in needed]
    lines = [
        "",
        f"/* Sums of blocks of {x.upper()}, in one pass over its entries; those that are factors of products are stored. */",
        f"static void {side}_sums(size_t rows, size_t columns, const SCALAR *{x}, size_t ld{x}, SCALAR *{out})",
        "{",
        "#ifdef _OPENMP",
        "#pragma omp parallel for",
        "#endif",
        "    for (size_t row = 0; row < rows; ++row) {",
    ]
    for value in sorted(value for value in needed if value < program.num_inputs):
        r, c = divmod(value, width)
        lines.append(
            f"        const SCALAR *restrict const p_{names.value(side, value)} = {x} + ({r} * rows + row) * ld{x} + {c} * columns;"
        )
    for position, value in enumerate(stored):
        lines.append(
            f"        SCALAR *restrict const p_{names.value(side, value)} = {out} + ({position} * rows + row) * columns;"
        )
    lines.append("        for (size_t x = 0; x < columns; ++x) {")
    for value in sorted(value for value in needed if value < program.num_inputs):
        name = names.value(side, value)
        lines.append(f"            const SCALAR {name} = p_{name}[x];")
    for index in steps:
        lines.append(f"            {_statement(plan, names, side, index)}")
        value = program.num_inputs + index
        if value in stored:
            name = names.value(side, value)
            lines.append(f"            p_{name}[x] = {name};")
    return "\n".join([*lines, "        }", "    }", "}", ""])


def _needed(plan: Plan, side: str, roots: list[int]) -> set[int]:
    """Returns the values from which `roots` are computed, and `roots`."""
    program = getattr(plan, side)
    needed = set(roots)
    for index in reversed(range(len(program.steps))):
        if program.num_inputs + index in needed:
            needed |= {program.steps[index].first.value, program.steps[index].second.value}
    return needed


def _result_sums(plan: Plan, names: Names) -> str:
    """Returns the function that forms C from all products in one pass."""
    _, _, p = plan.format
    lines = [
        "",
        "/* The blocks of C from all products, in one pass over their entries. */",
        "static void result_sums(size_t rows, size_t columns, const SCALAR *m, SCALAR *c, size_t ldc)",
        "{",
        "#ifdef _OPENMP",
        "#pragma omp parallel for",
        "#endif",
        "    for (size_t row = 0; row < rows; ++row) {",
    ]
    for r in range(plan.rank):
        lines.append(f"        const SCALAR *restrict const p_m{r + 1} = m + ({r} * rows + row) * columns;")
    for index, label in enumerate(plan.labels[2]):
        i, k = divmod(index, p)
        lines.append(
            f"        SCALAR *restrict const {label} = c + ({i} * rows + row) * ldc + {k} * columns;"
        )
    lines.append("        for (size_t x = 0; x < columns; ++x) {")
    for r in range(plan.rank):
        lines.append(f"            const SCALAR m{r + 1} = p_m{r + 1}[x];")
    for index in range(len(plan.result.steps)):
        lines.append(f"            {_statement(plan, names, 'result', index)}")
    for label, term in zip(plan.labels[2], plan.result.outputs, strict=True):
        assert term is not None
        value = _scaled(names.value("result", term.value), term.scale)
        if plan.modulus == 3:
            value = f"(({value}) % 3 + 3) % 3"
        lines.append(f"            {label}[x] = {value};")
    return "\n".join([*lines, "        }", "    }", "}", ""])


def _statement(plan: Plan, names: Names, program: str, index: int) -> str:
    part = getattr(plan, program)
    step = part.steps[index]
    first, second = (names.value(program, term.value) for term in (step.first, step.second))
    sign = "^" if plan.over_f2 else "-" if step.second.scale < 0 else "+"
    name = names.value(program, part.num_inputs + index)
    return f"const SCALAR {name} = {_scaled(first, step.first.scale)} {sign} {_scaled(second, abs(step.second.scale))};"


def _scaled(name: str, scale: Number) -> str:
    return scaled(name, scale, cast="(SCALAR)")
