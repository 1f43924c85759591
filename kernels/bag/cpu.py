"""Numba kernels of the `bag` family; `__init__` documents the ops.

The stream is taken a chunk of tokens at a time: first the numbers of the chunk's rows are written down (a loop that
vectorises), then units gather theirs. Rows of pairs are all over a table that no nearby cache holds, so the gather asks
for rows well before it adds them, also those of the next unit. Sums stay in vector registers: the gather and the layers
are written in LLVM's vector types, which become what registers the machine has.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from affectcore.kernels.dispatch import inline, jit
from affectcore.kernels.memory import load32, load64
from affectcore.kernels.prepared import prepared

from .tables import FIRST_FACTOR, FIRST_SHIFT, MIX_FACTOR, PRIOR, SECOND_FACTOR, SECOND_SHIFT, Bag, Heads

_CHUNK = 512  # tokens whose rows are written down at a time: 4 KiB, which stay in the nearest cache
_AHEAD = 24  # rows between asking for one and adding it
_PRIOR = np.float32(PRIOR)

_I8, _I32, _I64, _F32 = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()


def _splat(builder: Any, scalar: Any, width: int) -> Any:
    one = builder.insert_element(ir.Constant(ir.VectorType(_F32, width), ir.Undefined), scalar, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_I32, width), [0] * width))


def _at(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _prefetch(builder: Any, address: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
    function = builder.module.declare_intrinsic("llvm.prefetch", [_I8.as_pointer()], kind)
    builder.call(function, [_at(builder, address, _I8), *(ir.Constant(_I32, k) for k in (0, 3, 1))])


def _gatherer(width: int) -> Any:
    """Make the function that adds scale * row, `width` columns of it, over a list of rows."""

    def gather(
        typingctx: Any, sums: Any, rows: Any, stride: Any, gains: Any, numbers: Any, first: Any, last: Any, weight: Any
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            sums, rows, stride, gains, numbers, first, last, weight0 = args
            floats = ir.VectorType(_F32, width)

            def place_of(k: Any) -> tuple[Any, Any]:
                at = builder.add(numbers, builder.shl(k, ir.Constant(_I64, 2)))
                number = builder.zext(builder.load(_at(builder, at, _I32), align=4), _I64)
                gain = builder.add(gains, builder.shl(number, ir.Constant(_I64, 3)))
                return builder.add(rows, builder.mul(number, stride)), gain

            before = builder.load(_at(builder, sums, floats), align=4)
            entry = builder.block
            loop, done = builder.append_basic_block("gather"), builder.append_basic_block("gathered")
            builder.cbranch(builder.icmp_signed("<", first, last), loop, done)
            builder.position_at_end(loop)
            k, total, weight = builder.phi(_I64), builder.phi(floats), builder.phi(_F32)
            row, gain = place_of(builder.add(k, ir.Constant(_I64, _AHEAD)))
            _prefetch(builder, row)
            if width > 16:  # a row that starts within a line ends in the next one
                _prefetch(builder, builder.add(row, ir.Constant(_I64, width - 1)))
            _prefetch(builder, gain)
            row, gain = place_of(k)
            scale = builder.load(_at(builder, gain, _F32), align=4)
            more = builder.load(_at(builder, builder.add(gain, ir.Constant(_I64, 4)), _F32), align=4)
            values = builder.load(_at(builder, row, ir.VectorType(_I8, width)), align=1)
            values = builder.sitofp(values, floats)
            total2 = builder.fadd(total, builder.fmul(_splat(builder, scale, width), values))
            weight2 = builder.fadd(weight, more)
            k2 = builder.add(k, ir.Constant(_I64, 1))
            builder.cbranch(builder.icmp_signed("<", k2, last), loop, done)
            for phi, start, step in ((k, first, k2), (total, before, total2), (weight, weight0, weight2)):
                phi.add_incoming(start, entry)
                phi.add_incoming(step, loop)
            builder.position_at_end(done)
            total3, weight3 = builder.phi(floats), builder.phi(_F32)
            for phi, start, step in ((total3, before, total2), (weight3, weight0, weight2)):
                phi.add_incoming(start, entry)
                phi.add_incoming(step, loop)
            builder.store(total3, _at(builder, sums, floats), align=4)
            return weight3

        return types.float32(*[types.int64] * 7, types.float32), codegen

    return intrinsic(gather)


def _layer_maker(width: int) -> Any:
    """Make the function that adds x @ weight, `width` columns of it, input after input."""

    def layer(typingctx: Any, sums: Any, x: Any, n: Any, weight: Any, stride: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            sums, x, n, weight, stride = args
            floats = ir.VectorType(_F32, width)
            before = builder.load(_at(builder, sums, floats), align=4)
            entry = builder.block
            loop, done = builder.append_basic_block("layer"), builder.append_basic_block("layered")
            builder.cbranch(builder.icmp_signed(">", n, ir.Constant(_I64, 0)), loop, done)
            builder.position_at_end(loop)
            k, total = builder.phi(_I64), builder.phi(floats)
            at = builder.add(x, builder.shl(k, ir.Constant(_I64, 2)))
            factor = _splat(builder, builder.load(_at(builder, at, _F32), align=4), width)
            row = builder.add(weight, builder.mul(k, stride))
            product = builder.fmul(factor, builder.load(_at(builder, row, floats), align=4))
            total2 = builder.fadd(total, product)
            k2 = builder.add(k, ir.Constant(_I64, 1))
            builder.cbranch(builder.icmp_signed("<", k2, n), loop, done)
            for phi, start, step in ((k, ir.Constant(_I64, 0), k2), (total, before, total2)):
                phi.add_incoming(start, entry)
                phi.add_incoming(step, loop)
            builder.position_at_end(done)
            total3 = builder.phi(floats)
            total3.add_incoming(before, entry)
            total3.add_incoming(total2, loop)
            builder.store(total3, _at(builder, sums, floats), align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5), codegen

    return intrinsic(layer)


_gather64, _gather32, _gather16 = _gatherer(64), _gatherer(32), _gatherer(16)
_layer64, _layer32, _layer16 = _layer_maker(64), _layer_maker(32), _layer_maker(16)


@inline
def _gather(sums, d, rows, gains, numbers, first, last, weight):
    """Add the rows numbers[first:last] to d sums and their weights to `weight`, which is returned."""
    c, after = 0, weight
    while d - c >= 64:
        after = _gather64(sums + 4 * c, rows + c, d, gains, numbers, first, last, weight)
        c += 64
    if d - c >= 32:
        after = _gather32(sums + 4 * c, rows + c, d, gains, numbers, first, last, weight)
        c += 32
    if d - c >= 16:
        after = _gather16(sums + 4 * c, rows + c, d, gains, numbers, first, last, weight)
    return after


@inline
def _layer(sums, width, x, n, weight):
    """Add x @ weight to `width` (a multiple of 16) sums."""
    c = 0
    while width - c >= 64:
        _layer64(sums + 4 * c, x, n, weight + 4 * c, 4 * width)
        c += 64
    if width - c >= 32:
        _layer32(sums + 4 * c, x, n, weight + 4 * c, 4 * width)
        c += 32
    if width - c >= 16:
        _layer16(sums + 4 * c, x, n, weight + 4 * c, 4 * width)


@inline
def _write_numbers(ids, first, begin, end, n_unigrams, n_buckets, numbers):
    """Write down the rows of tokens begin:end and tell whether all ids are in the table.

    With buckets a token has two entries: the pair that it ends, then itself. So a unit that begins in the middle of the
    list leaves out the first entry, the pair with the unit before.
    """
    outside = np.uint32(0)
    limit = np.uint32(n_unigrams)
    if n_buckets == 0:
        for p in range(begin, end):
            token = np.uint32(load32(ids + 4 * p))
            outside |= np.uint32(token >= limit)
            numbers[p - begin] = token
        return outside == 0
    start = begin
    if begin == first:  # nothing stands before
        token = np.uint32(load32(ids + 4 * begin))
        outside |= np.uint32(token >= limit)
        numbers[0] = 0
        numbers[1] = token
        start += 1
    for p in range(start, end):
        before, token = np.uint32(load32(ids + 4 * p - 4)), np.uint32(load32(ids + 4 * p))
        outside |= np.uint32(token >= limit)
        x = np.uint32(before * np.uint32(FIRST_FACTOR) + token * np.uint32(SECOND_FACTOR))
        x ^= np.uint32(x >> np.uint32(FIRST_SHIFT))
        x = np.uint32(x * np.uint32(MIX_FACTOR))
        x ^= np.uint32(x >> np.uint32(SECOND_SHIFT))
        pair = np.uint32((np.uint64(x) * np.uint64(n_buckets)) >> np.uint64(32))
        numbers[2 * (p - begin)] = limit + pair
        numbers[2 * (p - begin) + 1] = token
    return outside == 0


@inline
def _offset(offsets, u):
    return np.int64(load64(offsets + 8 * u))


@jit
def _run(ids, offsets, n, rows, gains, n_rows, d, n_unigrams, hidden, hidden_bias, m, weight, bias, k, features, out):
    """Pool units into `features` (n, d), or through the heads into `out` (n, k); False if an id is outside.

    Addresses except the biases and the two outputs. Weights and biases are padded to the layers' widths; without heads
    (k = 0) `features` holds all units, with them one row that each unit uses in turn.
    """
    n_buckets = n_rows - n_unigrams
    entries = 1 if n_buckets == 0 else 2
    numbers = np.zeros(entries * (_CHUNK + _AHEAD) + _AHEAD, np.uint32)
    z, y = hidden_bias.copy(), bias.copy()
    first, last = _offset(offsets, 0), _offset(offsets, n)
    begin, end = first, first  # the tokens whose rows are written down
    for u in range(n):
        h = features[u if k == 0 else 0]
        h[:] = np.float32(0.0)
        total = np.float32(0.0)
        p, unit_end = _offset(offsets, u), _offset(offsets, u + 1)
        skipped = entries - 1
        while p < unit_end:
            if p >= end:
                begin, end = p, min(p + _CHUNK, last)
                if not _write_numbers(ids, first, begin, min(end + _AHEAD, last), n_unigrams, n_buckets, numbers):
                    return False
            stop = min(unit_end, end)
            from_entry = entries * (p - begin) + skipped
            to_entry = entries * (stop - begin)
            total = _gather(h.ctypes.data, d, rows, gains, numbers.ctypes.data, from_entry, to_entry, total)
            p, skipped = stop, 0
        total += _PRIOR
        for c in range(d):
            h[c] /= total
        if k:
            x, n_inputs = h, d
            if m:
                z[:] = hidden_bias
                _layer(z.ctypes.data, z.shape[0], h.ctypes.data, d, hidden)
                for c in range(m):
                    if z[c] < np.float32(0.0):  # not max(): NaN stays
                        z[c] = np.float32(0.0)
                x, n_inputs = z, m
            y[:] = bias
            _layer(y.ctypes.data, y.shape[0], x.ctypes.data, n_inputs, weight)
            for c in range(k):
                out[u, c] = y[c]
    return True


def _outside(ids: np.ndarray, offsets: np.ndarray, n_unigrams: int) -> ValueError:
    """Build the error for ids outside the table."""
    used = ids[offsets[0] : offsets[-1]]
    return ValueError(f"token ids must be in [0, {n_unigrams}), found {used.min()} to {used.max()}")


def _padded(array: np.ndarray) -> np.ndarray:
    """Return `array` as float32 with zero columns up to a multiple of 16, the narrowest vector of `_layer`."""
    out = np.zeros((*array.shape[:-1], -(-array.shape[-1] // 16) * 16), np.float32)
    out[..., : array.shape[-1]] = array
    return out


class _Layers(NamedTuple):
    padded: Heads
    m: int  # columns of the hidden layer that are no padding


def _layers(heads: Heads) -> _Layers:
    return _Layers(Heads(*(_padded(a) for a in heads)), heads.hidden.shape[1])


_known_layers = prepared(_layers)


def _call(
    ids: np.ndarray, offsets: np.ndarray, bag: Bag, layers: _Layers, features: np.ndarray, out: np.ndarray
) -> None:
    ids, offsets = np.ascontiguousarray(ids, np.int32), np.ascontiguousarray(offsets, np.int64)
    rows, gains = np.ascontiguousarray(bag.rows), np.ascontiguousarray(bag.gains, np.float32)
    (n_rows, d), n_unigrams, k = rows.shape, int(bag.n_unigrams[0]), out.shape[1]
    if not _run(
        ids.ctypes.data,
        offsets.ctypes.data,
        len(offsets) - 1,
        rows.ctypes.data,
        gains.ctypes.data,
        n_rows,
        d,
        n_unigrams,
        layers.padded.hidden.ctypes.data,
        layers.padded.hidden_bias,
        layers.m,
        layers.padded.weight.ctypes.data,
        layers.padded.bias,
        k,
        features,
        out,
    ):
        raise _outside(ids, offsets, n_unigrams)


def pool(ids: np.ndarray, offsets: np.ndarray, bag: Bag) -> np.ndarray:
    """See `affectcore.kernels.bag.pool`."""
    d = bag.rows.shape[1]
    features = np.empty((len(offsets) - 1, d), np.float32)
    nothing = Heads(np.empty((d, 0)), np.empty(0), np.empty((d, 0)), np.empty(0))
    _call(ids, offsets, bag, _layers(nothing), features, features[:, :0])
    return features


def logits(ids: np.ndarray, offsets: np.ndarray, bag: Bag, heads: Heads) -> np.ndarray:
    """See `affectcore.kernels.bag.logits`."""
    out = np.empty((len(offsets) - 1, len(heads.bias)), np.float32)
    if out.size:
        _call(ids, offsets, bag, _known_layers(heads), np.empty((1, bag.rows.shape[1]), np.float32), out)
    return out
