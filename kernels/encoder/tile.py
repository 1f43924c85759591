"""Matrix products in registers: the one inner loop of the CPU's encoder, written in LLVM's language through Numba.

A tile multiplies `ROWS` rows of A with up to three vectors of columns of B, all sums in registers. A is read row by row
as it stands, one 32-bit word at a time, which is broadcast; B is packed so that a step's words for all columns of a
panel are neighbours. A word is one float32, two bfloat16 or four 8-bit integers, and a step multiplies word by word:
FMA, VDPBF16PS or VPDPBUSD.

Why not oneDNN, which is as fast for one large product (bench/ops/test_encoder_ops.py compares them): these need no
torch, take rows and panels as they are, scale int8 per token and add what is kept in float32 before a sum leaves its
register, and run in whichever thread has the text. CPUs with tiles of their own (AMX) would be faster with oneDNN.

The scalars below become vector code where a loop is over neighbours: LLVM sees to that.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from affectcore.kernels.dispatch import jit

FP32, BF16, INT8 = 0, 1, 2
WORD = {FP32: 1, BF16: 2, INT8: 4}
"""Values in a 32-bit word."""
PANEL = 3
"""Vectors in a full panel of B."""


def _features() -> dict[str, bool]:
    """Return what Numba compiles for: this CPU's features, or those that its settings name."""
    settings: Any = config
    if settings.CPU_FEATURES or settings.CPU_NAME:
        named = (settings.CPU_FEATURES or "").split(",")
        return {name.strip()[1:]: True for name in named if name.strip().startswith("+")}
    try:
        return dict(llvm.get_host_cpu_features())
    except RuntimeError:
        return {}


_CPU = _features()
# Sums and operands fill the registers: 8 * 3 + 3 + 1 of 32, or 4 * 3 + 3 + 1 of 16.
if _CPU.get("avx512f"):
    LANES, ROWS = 16, 8
elif platform.machine() in ("arm64", "aarch64"):
    LANES, ROWS = 4, 8
else:
    LANES, ROWS = 8, 4
HAS = {FP32: True, BF16: _CPU.get("avx512bf16", False), INT8: _CPU.get("avx512vnni", False)}
"""Which kinds of product this CPU has instructions for."""

_I32, _I64, _F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()
_INTS, _FLOATS = ir.VectorType(_I32, LANES), ir.VectorType(_F32, LANES)


def _product(kind: int, builder: Any) -> Any:
    """Return a function (sum, a, b) -> sum that emits one step for a vector of columns."""
    if kind == FP32:
        name, operands, result = f"llvm.fma.v{LANES}f32", [_FLOATS] * 3, _FLOATS
    elif kind == BF16:
        name, operands, result = "llvm.x86.avx512bf16.dpbf16ps.512", [_FLOATS, _INTS, _INTS], _FLOATS
    else:
        name, operands, result = "llvm.x86.avx512.vpdpbusd.512", [_INTS] * 3, _INTS
    fn = cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, operands), name)
    return lambda total, a, b: builder.call(fn, [a, b, total] if kind == FP32 else [total, a, b])


def _loop(builder: Any, kind: int, rows: list[Any], panel: Any, vectors: int, steps: Any, sums: list[Any]) -> list[Any]:
    """Emit the loop over steps; return the sums behind it, starting from `sums`. No steps, no loop."""
    word, vector = (_F32, _FLOATS) if kind == FP32 else (_I32, _INTS)
    product = _product(kind, builder)
    panel = builder.inttoptr(panel, vector.as_pointer())
    before = builder.block
    loop, after = builder.append_basic_block("step"), builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed(">", steps, ir.Constant(_I64, 0)), loop, after)
    builder.position_at_end(loop)
    step = builder.phi(_I64)
    step.add_incoming(ir.Constant(_I64, 0), before)
    running = [builder.phi(s.type) for s in sums]
    first = builder.mul(step, ir.Constant(_I64, vectors))
    columns = []
    for j in range(vectors):
        columns.append(builder.load(builder.gep(panel, [builder.add(first, ir.Constant(_I64, j))])))
        columns[-1].align = 4 * LANES
    new = []
    for i, row in enumerate(rows):
        value = builder.load(builder.gep(builder.inttoptr(row, word.as_pointer()), [step]))
        value.align = 1
        wide = _broadcast(builder, value, vector)
        new += [product(running[i * vectors + j], wide, column) for j, column in enumerate(columns)]
    following = builder.add(step, ir.Constant(_I64, 1))
    step.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, steps), loop, after)
    builder.position_at_end(after)
    out = []
    for start, phi, end in zip(sums, running, new):
        phi.add_incoming(start, before)
        phi.add_incoming(end, loop)
        out.append(builder.phi(end.type))
        out[-1].add_incoming(start, before)
        out[-1].add_incoming(end, loop)
    return out


def _broadcast(builder: Any, value: Any, vector: Any) -> Any:
    undefined = ir.Constant(vector, ir.Undefined)
    wide = builder.insert_element(undefined, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(wide, undefined, ir.Constant(_INTS, [0] * LANES))


def _tile(kind: int, vectors: int) -> Any:
    """Make the tile of a kind that is `vectors` wide; its arguments are those of `multiply` behind `vectors`."""

    def tile(
        typingctx: Any, a: Any, stride: Any, b: Any, steps: Any, c: Any, c_stride: Any, rows: Any, columns: Any,
        apart: Any, n_apart: Any, extra: Any,
    ) -> Any:  # fmt: skip
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            a, stride, b, steps, c, c_stride, rows, columns, apart, n_apart, extra = args
            zero = ir.Constant(_INTS, None)

            def lines(base: Any, step: Any) -> list[Any]:
                return [builder.add(base, builder.mul(step, ir.Constant(_I64, i))) for i in range(ROWS)]

            def at(base: Any, place: Any, type_: Any, align: int) -> Any:
                pointer = builder.gep(builder.inttoptr(base, type_.as_pointer()), [place])
                value = builder.load(pointer)
                value.align = align
                return value

            per_column = [
                [at(columns, ir.Constant(_I64, 3 * j + k), _FLOATS, 4 * LANES) for k in range(3)]
                for j in range(vectors)
            ]
            biases = [bias for _, _, bias in per_column]
            start = [zero] * (ROWS * vectors) if kind == INT8 else biases * ROWS
            sums = _loop(builder, kind, lines(a, stride), b, vectors, steps, start)
            if kind == INT8:
                # (low + step * byte) . (scale * weight) = step * scale * sum + low * offset, and the bias.
                fma = cgutils.get_or_insert_function(
                    builder.module, ir.FunctionType(_FLOATS, [_FLOATS] * 3), f"llvm.fma.v{LANES}f32"
                )
                scaled = []
                for i in range(ROWS):
                    low = _broadcast(builder, at(rows, ir.Constant(_I64, 2 * i), _F32, 4), _FLOATS)
                    step = _broadcast(builder, at(rows, ir.Constant(_I64, 2 * i + 1), _F32, 4), _FLOATS)
                    for j, (scale, offset, bias) in enumerate(per_column):
                        value = builder.sitofp(sums[i * vectors + j], _FLOATS)
                        rest = builder.call(fma, [low, offset, bias])
                        scaled.append(builder.call(fma, [value, builder.fmul(step, scale), rest]))
                stride_apart = builder.mul(n_apart, ir.Constant(_I64, 4))
                sums = _loop(builder, FP32, lines(apart, stride_apart), extra, vectors, n_apart, scaled)
            for i, line in enumerate(lines(c, c_stride)):
                pointer = builder.inttoptr(line, _FLOATS.as_pointer())
                for j in range(vectors):
                    value = sums[i * vectors + j]
                    if kind != INT8:
                        factor = _broadcast(builder, at(rows, ir.Constant(_I64, i), _F32, 4), _FLOATS)
                        value = builder.fmul(value, factor)
                    builder.store(value, builder.gep(pointer, [ir.Constant(_I64, j)])).align = 4
            return context.get_dummy_value()

        return types.void(*[types.intp] * 11), codegen

    return intrinsic(tile)


def _missing(
    typingctx: Any, a: Any, stride: Any, b: Any, steps: Any, c: Any, c_stride: Any, rows: Any, columns: Any,
    apart: Any, n_apart: Any, extra: Any,
) -> Any:  # fmt: skip
    """Stand in for a tile that this CPU has no instructions for; `prepare` never lets it be called."""
    return types.void(*[types.intp] * 11), lambda context, builder, signature, args: context.get_dummy_value()


def _tiles(kind: int) -> list[Any]:
    return [_tile(kind, v) if HAS[kind] else intrinsic(_missing) for v in (1, 2, 3)]


_fp32_1, _fp32_2, _fp32_3 = _tiles(FP32)
_bf16_1, _bf16_2, _bf16_3 = _tiles(BF16)
_int8_1, _int8_2, _int8_3 = _tiles(INT8)


@jit
def multiply(kind, vectors, a, stride, b, steps, c, c_stride, rows, columns):
    """Write `ROWS` rows of (A times a panel of B + bias) * factor to float32 rows at `c`; FP32 or BF16.

    All are addresses and strides in bytes: `a` and `c` of a first row, `b` of the panel, of 1 to 3 `vectors`, `rows` of
    a factor for each row, `columns` of three vectors for each one of the panel, the bias last.
    """
    if kind == BF16:
        if vectors == 3:
            _bf16_3(a, stride, b, steps, c, c_stride, rows, columns, 0, 0, 0)
        elif vectors == 2:
            _bf16_2(a, stride, b, steps, c, c_stride, rows, columns, 0, 0, 0)
        else:
            _bf16_1(a, stride, b, steps, c, c_stride, rows, columns, 0, 0, 0)
    elif vectors == 3:
        _fp32_3(a, stride, b, steps, c, c_stride, rows, columns, 0, 0, 0)
    elif vectors == 2:
        _fp32_2(a, stride, b, steps, c, c_stride, rows, columns, 0, 0, 0)
    else:
        _fp32_1(a, stride, b, steps, c, c_stride, rows, columns, 0, 0, 0)


@jit
def multiply_bytes(vectors, a, stride, b, steps, c, c_stride, rows, columns, apart, n_apart, extra):
    """Like `multiply`, for INT8, with the result scaled back to float32 and the bias added.

    `rows` is the address of low and step of each row, `columns` of three vectors (scale, offset, bias) for each vector
    of the panel. `apart` is the address of float32 (ROWS, n_apart) values that are multiplied exactly, with the panel
    of float32 at `extra`.
    """
    if vectors == 3:
        _int8_3(a, stride, b, steps, c, c_stride, rows, columns, apart, n_apart, extra)
    elif vectors == 2:
        _int8_2(a, stride, b, steps, c, c_stride, rows, columns, apart, n_apart, extra)
    else:
        _int8_1(a, stride, b, steps, c, c_stride, rows, columns, apart, n_apart, extra)


def _getter(result: Any, ir_type: Any) -> Any:
    def get(typingctx: Any, base: Any, place: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value = builder.load(builder.gep(builder.inttoptr(args[0], ir_type.as_pointer()), [args[1]]))
            value.align = ir_type.width // 8 if hasattr(ir_type, "width") else 4
            return value

        return result(types.intp, types.intp), codegen

    return intrinsic(get)


def _putter(result: Any, ir_type: Any) -> Any:
    def put(typingctx: Any, base: Any, place: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = builder.gep(builder.inttoptr(args[0], ir_type.as_pointer()), [args[1]])
            builder.store(args[2], pointer).align = ir_type.width // 8 if hasattr(ir_type, "width") else 4
            return context.get_dummy_value()

        return types.void(types.intp, types.intp, result), codegen

    return intrinsic(put)


# Value number `place` of an array at an address. Rows go by address: to slice an array costs more than a short loop.
get, put = _getter(types.float32, _F32), _putter(types.float32, _F32)
get16, put16 = _getter(types.uint16, ir.IntType(16)), _putter(types.uint16, ir.IntType(16))
get32, put32 = _getter(types.int32, _I32), _putter(types.int32, _I32)
put8 = _putter(types.uint8, ir.IntType(8))


def _power(builder: Any, y: Any, coefficients: Sequence[float]) -> Any:
    """Emit 2^y for a vector y <= 0, 2e-38 below -125, since smaller numbers would be slow; NaN stays NaN.

    1.5 * 2^23 rounds y to an integer n and leaves it in the low bits; the rest, within 1/2, goes into a polynomial.
    """

    def constant(value: float) -> Any:
        return ir.Constant(_FLOATS, [float(np.float32(value))] * LANES)

    fma = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_FLOATS, [_FLOATS] * 3), f"llvm.fma.v{LANES}f32"
    )
    y = builder.select(builder.fcmp_ordered("<", y, constant(-125)), constant(-125), y)
    t = builder.fadd(y, constant(12582912.0))
    f = builder.fsub(y, builder.fsub(t, constant(12582912.0)))
    p = constant(coefficients[-1])
    for c in coefficients[-2::-1]:
        p = builder.call(fma, [p, f, constant(c)])
    bits = builder.shl(builder.bitcast(t, _INTS), ir.Constant(_INTS, [23] * LANES))
    power = builder.bitcast(builder.add(bits, ir.Constant(_INTS, [0x3F800000] * LANES)), _FLOATS)
    return builder.fmul(p, power)


# 2^f for |f| <= 1/2: Taylor to 1e-8, and least squares with weights moved to the largest errors, to 1e-4.
_TAYLOR = [math.log(2) ** k / math.factorial(k) for k in range(8)]
_ROUGH = [0.999928082, 0.693261035, 0.242611007, 0.0551712244]


def _rounded(builder: Any, x: Any) -> Any:
    """Emit the bits of the nearest bfloat16, ties to even, of a vector or scalar of float32; NaN stays NaN."""
    wide, narrow = _I32, ir.IntType(16)
    if isinstance(x.type, ir.VectorType):
        wide, narrow = _INTS, ir.VectorType(narrow, LANES)
        if HAS[BF16]:
            convert = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(narrow, [_FLOATS]), "llvm.x86.avx512bf16.cvtneps2bf16.512"
            )
            return builder.call(convert, [x])

    def constant(value: int) -> Any:
        return ir.Constant(wide, [value] * LANES if wide is _INTS else value)

    bits = builder.bitcast(x, wide)
    odd = builder.and_(builder.lshr(bits, constant(16)), constant(1))
    rounded = builder.lshr(builder.add(builder.add(bits, constant(0x7FFF)), odd), constant(16))
    return builder.trunc(builder.select(builder.fcmp_unordered("uno", x, x), constant(0x7FC0), rounded), narrow)


def _softmax(halves: bool) -> Any:
    """Make `softmax`, which writes float32 in place, or `softmax_halves`: bfloat16 bits to another address."""

    def softmax(typingctx: Any, x: Any, n: Any, scale: Any, out: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, n, scale, out = args
            source = builder.inttoptr(x, _FLOATS.as_pointer())
            scale = builder.fmul(scale, ir.Constant(_F32, float(np.float32(1 / math.log(2)))))
            scale = _broadcast(builder, scale, _FLOATS)
            last = builder.sdiv(builder.sub(n, ir.Constant(_I64, 1)), ir.Constant(_I64, LANES))
            left = builder.trunc(builder.sub(n, builder.mul(last, ir.Constant(_I64, LANES))), _I32)
            inside = builder.icmp_signed("<", ir.Constant(_INTS, list(range(LANES))), _broadcast(builder, left, _INTS))
            infinite = ir.Constant(_FLOATS, [float("-inf")] * LANES)

            def load(k: Any) -> Any:
                value = builder.load(builder.gep(source, [k]))
                value.align = 4 * LANES
                return value

            def loop(start: Any, body: Any) -> Any:
                """Go over all vectors; values of the last one that do not count are minus infinity."""
                before = builder.block
                block, after = builder.append_basic_block("vector"), builder.append_basic_block("last")
                zero = ir.Constant(_I64, 0)
                builder.cbranch(builder.icmp_signed(">", last, zero), block, after)
                builder.position_at_end(block)
                k, state = builder.phi(_I64), builder.phi(_FLOATS)
                new = body(k, load(k), state)
                following = builder.add(k, ir.Constant(_I64, 1))
                for phi, first, further in ((k, zero, following), (state, start, new)):
                    phi.add_incoming(first, before)
                    phi.add_incoming(further, block)
                builder.cbranch(builder.icmp_signed("<", following, last), block, after)
                builder.position_at_end(after)
                state = builder.phi(_FLOATS)
                state.add_incoming(start, before)
                state.add_incoming(new, block)
                return body(last, builder.select(inside, load(last), infinite), state)

            def greater(k: Any, value: Any, state: Any) -> Any:
                return builder.select(builder.fcmp_ordered(">", value, state), value, state)

            greatest = loop(infinite, greater)
            reduce = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(_F32, [_FLOATS]), f"llvm.vector.reduce.fmax.v{LANES}f32"
            )
            greatest = _broadcast(builder, builder.call(reduce, [greatest]), _FLOATS)

            def store(k: Any, value: Any, state: Any) -> Any:
                y = builder.fmul(builder.fsub(value, greatest), scale)
                e = _power(builder, y, _ROUGH if halves else _TAYLOR)
                if halves:
                    bits = _rounded(builder, e)
                    place = builder.gep(builder.inttoptr(out, bits.type.as_pointer()), [k])
                    builder.store(bits, place).align = 2 * LANES
                else:
                    builder.store(e, builder.gep(source, [k])).align = 4 * LANES
                return builder.fadd(state, e)

            total = loop(ir.Constant(_FLOATS, None), store)
            add = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(_F32, [_F32, _FLOATS]), f"llvm.vector.reduce.fadd.v{LANES}f32"
            )
            return builder.call(add, [ir.Constant(_F32, 0.0), total], fastmath=("reassoc",))

        return types.float32(types.intp, types.intp, types.float32, types.intp), codegen

    return intrinsic(softmax)


softmax, softmax_halves = _softmax(False), _softmax(True)
"""softmax(x, n, scale, out): write exp(scale * (x - max x)) of `n` values from an aligned address on, and next to
nothing (2e-38) for the others of the last vector; return the sum."""


@intrinsic
def extremes(typingctx: Any, x: Any, n: Any) -> Any:
    """Return the least and the greatest of `n` values from an address on, n at least `LANES`; NaNs may be passed over.

    LLVM does not make vectors of such a loop by itself, unless it may assume that there are no NaNs and even then not
    of both at once.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, n = args
        before = builder.block
        block, after = builder.append_basic_block("vector"), builder.append_basic_block("done")
        last = builder.sub(n, ir.Constant(_I64, LANES))
        infinite = ir.Constant(_FLOATS, [float("inf")] * LANES)
        builder.branch(block)
        builder.position_at_end(block)
        k, low, high = builder.phi(_I64), builder.phi(_FLOATS), builder.phi(_FLOATS)
        # The last vector ends with the row, and so may hold values that were seen before.
        place = builder.select(builder.icmp_signed("<", k, last), k, last)
        pointer = builder.gep(builder.inttoptr(x, _F32.as_pointer()), [place])
        value = builder.load(builder.bitcast(pointer, _FLOATS.as_pointer()))
        value.align = 4
        low_next = builder.select(builder.fcmp_ordered("<", value, low), value, low)
        high_next = builder.select(builder.fcmp_ordered(">", value, high), value, high)
        following = builder.add(k, ir.Constant(_I64, LANES))
        for phi, start, end in ((k, ir.Constant(_I64, 0), following), (low, infinite, low_next)):
            phi.add_incoming(start, before)
            phi.add_incoming(end, block)
        high.add_incoming(ir.Constant(_FLOATS, [float("-inf")] * LANES), before)
        high.add_incoming(high_next, block)
        builder.cbranch(builder.icmp_signed("<", following, n), block, after)
        builder.position_at_end(after)
        out = []
        for name, vector in (("fmin", low_next), ("fmax", high_next)):
            reduce = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(_F32, [_FLOATS]), f"llvm.vector.reduce.{name}.v{LANES}f32"
            )
            out.append(builder.call(reduce, [vector]))
        return context.make_tuple(builder, signature.return_type, out)

    return types.UniTuple(types.float32, 2)(types.intp, types.intp), codegen


@intrinsic
def power_of_two(typingctx: Any, x: Any) -> Any:
    """Return 2^n for the float32 x = n + 1.5 * 2^23, n from -126 to 127: rounding and exponent without a conversion."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.shl(builder.bitcast(args[0], _I32), ir.Constant(_I32, 23))
        return builder.bitcast(builder.add(bits, ir.Constant(_I32, 0x3F800000)), _F32)

    return types.float32(types.float32), codegen


@intrinsic
def to_bf16(typingctx: Any, x: Any) -> Any:
    """Round a float32 to the bits of the nearest bfloat16, ties to even; NaN stays NaN."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _rounded(builder, args[0])

    return types.uint16(types.float32), codegen


@intrinsic
def from_bf16(typingctx: Any, x: Any) -> Any:
    """Return the float32 of a bfloat16's bits."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.shl(builder.zext(args[0], _I32), ir.Constant(_I32, 16))
        return builder.bitcast(bits, _F32)

    return types.float32(types.uint16), codegen


@intrinsic
def pair(typingctx: Any, low: Any, high: Any) -> Any:
    """Return the word of two uint16."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        low, high = (builder.zext(arg, _I32) for arg in args)
        return builder.or_(low, builder.shl(high, ir.Constant(_I32, 16)))

    return types.int32(types.uint16, types.uint16), codegen


@intrinsic
def to_byte(typingctx: Any, x: Any) -> Any:
    """Truncate a float32 in [0, 256) to a uint8."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.trunc(builder.fptosi(args[0], _I32), ir.IntType(8))

    return types.uint8(types.float32), codegen


def aligned(n_bytes: int) -> np.ndarray:
    """Return zeros, uint8 (n_bytes,), that start on a cache line."""
    space = np.zeros(n_bytes + 64, np.uint8)
    start = -space.ctypes.data % 64
    return space[start : start + n_bytes]


def panels(matrix: np.ndarray, kind: int) -> tuple[np.ndarray, int]:
    """Pack the columns of B: for each panel of up to three vectors, step by step, its words side by side.

    Parameters
    ----------
    matrix
        (n_columns, k): float32; for BF16 uint16, its bits; for INT8 int8.
    kind
        FP32, BF16 or INT8.

    Returns
    -------
    packed
        uint8, aligned; missing columns and values are zeros.
    steps
        Words of a column.
    """
    n, k = matrix.shape
    word = WORD[kind]
    steps, width = -(-k // word), -(-n // LANES) * LANES
    whole = np.zeros((width, steps * word), matrix.dtype)
    whole[:n, :k] = matrix
    words = np.ascontiguousarray(whole).view(np.uint32)
    packed = aligned(width * steps * 4)
    out = packed.view(np.uint32)
    for start in range(0, width, PANEL * LANES):
        part = words[start : start + PANEL * LANES]
        out[start * steps : start * steps + part.size] = part.T.ravel()
    return packed, steps
