"""Loads by address and eight bytes at a time: what the Numba kernels share. Little-endian machines only.

Text is passed on by address (`array.ctypes.data`) instead of as an array: Numba counts references of every array that a
helper takes, which costs more than the helpers do, and compiles once more for read-only arrays, which Arrow's are. The
caller keeps the arrays alive and the bounds.
"""

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


def _loader(result: Any, ir_type: Any) -> Any:
    def load(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.load(builder.inttoptr(args[0], ir_type.as_pointer()), align=1)

        return result(types.int64), codegen

    return intrinsic(load)


load8 = _loader(types.uint8, ir.IntType(8))
load32 = _loader(types.int32, ir.IntType(32))
load64 = _loader(types.uint64, ir.IntType(64))
load_double = _loader(types.float64, ir.DoubleType())


@intrinsic
def trailing_zeros(typingctx: Any, x: Any) -> Any:
    """Count the zero bits below the lowest set bit of a uint64; 64 for zero."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), codegen


@intrinsic
def leading_zeros(typingctx: Any, x: Any) -> Any:
    """Count the zero bits above the highest set bit of a uint64; 64 for zero."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))

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
def load_upto(address, n, end):
    """Read `n` bytes, 8 at most, zero-padded, without touching memory from address `end` on."""
    if address + 8 <= end:
        return keep_bytes(load64(address), n)
    x = np.uint64(0)
    for k in range(n):
        x |= np.uint64(load8(address + k)) << np.uint64(8 * k)
    return x


@inline
def range_mask(x, from_first, past_last):
    """Set the high bit of every byte of `x` within a range of ASCII characters.

    The bounds hold 0x80 - first and 0x80 - (last + 1) in every byte: adding them carries into bit 7 from there on.
    """
    low = x & LOW7
    return (low + from_first) & ~(low + past_last) & ~x & HIGH


@inline
def upper_mask(x):
    """Set the high bit of every byte of `x` that is an ASCII upper-case letter."""
    return range_mask(x, np.uint64(0x3F3F3F3F3F3F3F3F), np.uint64(0x2525252525252525))


@inline
def lower_mask(x):
    """Set the high bit of every byte of `x` that is an ASCII lower-case letter."""
    return range_mask(x, np.uint64(0x1F1F1F1F1F1F1F1F), np.uint64(0x0505050505050505))


@inline
def digit_mask(x):
    """Set the high bit of every byte of `x` that is an ASCII digit."""
    return range_mask(x, np.uint64(0x5050505050505050), np.uint64(0x4646464646464646))


@inline
def byte_mask(x, repeated):
    """Like `equal_mask`, cheaper, but a byte right above an equal one may be set as well."""
    y = x ^ repeated
    return (y - np.uint64(0x0101010101010101)) & ~y & HIGH


@inline
def equal_mask(x, repeated):
    """Set the high bit of every byte of `x` that equals the byte that `repeated` holds eight times."""
    y = x ^ repeated
    return ~(((y & LOW7) + LOW7) | y | LOW7)


@inline
def gather_bits(mask):
    """Gather the high bits of the eight bytes of `mask` into the low byte, first byte lowest."""
    return ((mask >> np.uint64(7)) * np.uint64(0x0102040810204080)) >> np.uint64(56)
