"""Eight bytes at a time: the bit tricks that the Numba kernels share. Little-endian machines only."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .dispatch import inline

if sys.byteorder != "little":
    raise ImportError("affectcore's CPU kernels need a little-endian machine")

LOW7 = np.uint64(0x7F7F7F7F7F7F7F7F)
HIGH = np.uint64(0x8080808080808080)


@intrinsic
def load64(typingctx: Any, array: Any, index: Any) -> Any:
    """Read `array[index:index + 8]` of a contiguous uint8 array as a uint64, unaligned; the caller checks bounds."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        pointer = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(64).as_pointer())
        return builder.load(pointer, align=1)

    return types.uint64(array, types.int64), codegen


@intrinsic
def trailing_zeros(typingctx: Any, x: Any) -> Any:
    """Count the zero bits below the lowest set bit of a uint64 that is not zero."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), codegen


@intrinsic
def count_ones(typingctx: Any, x: Any) -> Any:
    """Count the bits of a uint64 that are set."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), codegen


@inline
def keep_bytes(x, n):
    """Keep the first `n` (0 to 8) bytes of `x` and zero the others."""
    if n >= 8:
        return x
    return x & ((np.uint64(1) << np.uint64(8 * n)) - np.uint64(1))


@inline
def load_upto(values, i, n):
    """Read `values[i:i + n]`, n at most 8, zero-padded, without touching memory past the array."""
    if i + 8 <= values.shape[0]:
        return keep_bytes(load64(values, i), n)
    x = np.uint64(0)
    for k in range(n):
        x |= np.uint64(values[i + k]) << np.uint64(8 * k)
    return x


@inline
def upper_mask(x):
    """Set the high bit of every byte of `x` that is an ASCII upper-case letter."""
    low = x & LOW7
    from_a = low + np.uint64(0x3F3F3F3F3F3F3F3F)  # carries into bit 7 from 'A' (0x41) on
    past_z = low + np.uint64(0x2525252525252525)  # and from one past 'Z' (0x5b) on
    return from_a & ~past_z & ~x & HIGH


@inline
def lower_mask(x):
    """Set the high bit of every byte of `x` that is an ASCII lower-case letter."""
    low = x & LOW7
    from_a = low + np.uint64(0x1F1F1F1F1F1F1F1F)
    past_z = low + np.uint64(0x0505050505050505)
    return from_a & ~past_z & ~x & HIGH


@inline
def has_byte(x, repeated):
    """Tell whether a byte of `x` equals the byte that `repeated` holds eight times."""
    y = x ^ repeated
    return ((y - np.uint64(0x0101010101010101)) & ~y & HIGH) != np.uint64(0)
