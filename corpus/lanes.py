"""Vector operations that numba does not find by itself: minima of many linear hashes at once, and the blanks of 64 bytes as bits.

numba's own loop over hash functions loads and stores every minimum for every shingle. Here a tile of minima stays in registers while
all shingles pass by: per shingle and 16 functions that leaves one 32-bit product, one sum and one minimum. The width is written in
LLVM's vectors of 16 x 32 bit, which a machine without such registers cuts into narrower ones: the same numbers on every machine.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
"""Hash functions per vector. Their number is padded to a multiple."""

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_I32, LANES)
_BYTES = ir.VectorType(ir.IntType(8), 64)


def _splat(builder: Any, value: Any, vector: Any) -> Any:
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(_I32, 0))
    first = ir.Constant(ir.VectorType(_I32, vector.count), [0] * vector.count)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), first)


def _minima(n_vectors: int, by_function: bool) -> Any:
    """An intrinsic for ``n_vectors`` vectors of hash functions; the offset is of the function, or of the shingle."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        found, factor, offset, out = (context.make_array(t)(context, builder, v).data for t, v in zip(
            (signature.args[0], *signature.args[2:5]), (args[0], *args[2:5]), strict=True))  # fmt: skip
        count, at = args[1], args[5]

        def place(array: Any, i: int) -> Any:
            here = builder.gep(array, [builder.add(at, ir.Constant(_I64, i * LANES))])
            return builder.bitcast(here, _VECTOR.as_pointer())

        def load(array: Any, i: int) -> Any:
            vector = builder.load(place(array, i))
            vector.align = 4
            return vector

        factors = [load(factor, i) for i in range(n_vectors)]
        offsets = [load(offset, i) for i in range(n_vectors)] if by_function else []
        with builder.goto_entry_block():
            minima = [builder.alloca(_VECTOR) for _ in range(n_vectors)]  # become registers
        for i, least in enumerate(minima):
            builder.store(load(out, i), least)
        halves = builder.bitcast(found, _I32.as_pointer())
        with cgutils.for_range(builder, count) as loop:
            low = builder.shl(loop.index, ir.Constant(_I64, 1))
            high = builder.load(builder.gep(halves, [builder.or_(low, ir.Constant(_I64, 1))]))
            x = _splat(builder, high, _VECTOR)
            shared = None if by_function else _splat(builder, builder.load(builder.gep(halves, [low])), _VECTOR)
            for i, least in enumerate(minima):
                h = builder.add(builder.mul(x, factors[i]), offsets[i] if by_function else shared)
                old = builder.load(least)
                builder.store(builder.select(builder.icmp_unsigned("<", h, old), h, old), least)
        for i, least in enumerate(minima):
            builder.store(builder.load(least), place(out, i)).align = 4
        return context.get_dummy_value()

    def typing(context: Any, found: Any, count: Any, factor: Any, offset: Any, out: Any, at: Any) -> Any:  # noqa: ARG001
        return types.void(found, types.int64, factor, offset, out, types.int64), generate

    return intrinsic(typing)


_four, _two, _one = (_minima(n, False) for n in (4, 2, 1))
_four_b, _two_b, _one_b = (_minima(n, True) for n in (4, 2, 1))


@njit(cache=True, nogil=True)
def least_of_pairs(found, count, factor, minima):  # type: ignore[no-untyped-def]
    """minima[k] = min(minima[k], low + factor[k] high) modulo 2^32, over the two halves of found[:count] (uint64).

    factor and minima are uint32, of the same length, a multiple of LANES.
    """
    at, n = 0, len(minima)
    while at + 4 * LANES <= n:
        _four(found, count, factor, factor, minima, at)
        at += 4 * LANES
    if at + 2 * LANES <= n:
        _two(found, count, factor, factor, minima, at)
        at += 2 * LANES
    if at < n:
        _one(found, count, factor, factor, minima, at)


@njit(cache=True, nogil=True)
def least_of_products(found, count, factor, offset, minima):  # type: ignore[no-untyped-def]
    """minima[k] = min(minima[k], offset[k] + factor[k] high) modulo 2^32, over the upper halves of found[:count] (uint64).

    factor, offset and minima are uint32, of the same length, a multiple of LANES.
    """
    at, n = 0, len(minima)
    while at + 4 * LANES <= n:
        _four_b(found, count, factor, offset, minima, at)
        at += 4 * LANES
    if at + 2 * LANES <= n:
        _two_b(found, count, factor, offset, minima, at)
        at += 2 * LANES
    if at < n:
        _one_b(found, count, factor, offset, minima, at)


@intrinsic
def _blanks64(context: Any, data: Any, at: Any) -> Any:  # noqa: ARG001
    """blanks64(data, at): bit i is set if data[at + i] of a uint8 array is a blank, for 64 bytes. No bounds are checked."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        block = builder.load(builder.bitcast(builder.gep(array.data, [args[1]]), _BYTES.as_pointer()))
        block.align = 1
        return builder.bitcast(builder.icmp_unsigned("==", block, ir.Constant(_BYTES, [0x20] * 64)), _I64)

    return types.uint64(data, types.intp), generate


# mypy sees the two-step signature of an intrinsic; kernels call it with the second step's arguments.
blanks64: Any = _blanks64
