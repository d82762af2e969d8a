"""Three machine operations that numba has no name for: an unaligned 8-byte load, a folded 128-bit product, and a count of zero bits.

numba puts together an 8-byte word from single bytes with an index check each, and keeps only the lower half of a product.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_I64, _I128 = ir.IntType(64), ir.IntType(128)
PAD = 64
"""Bytes that must be readable behind the last byte of a text: kernels look at blocks of up to 64 bytes."""


@intrinsic
def _load64(context: Any, data: Any, at: Any) -> Any:  # noqa: ARG001  numba looks at names and order
    """load64(data, at): the eight bytes data[at:at + 8] of a uint8 array as a little-endian uint64. No bounds are checked."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        pointer = builder.bitcast(builder.gep(array.data, [args[1]]), _I64.as_pointer())
        word = builder.load(pointer)
        word.align = 1
        return word

    return types.uint64(data, types.intp), generate


@intrinsic
def _fold(context: Any, a: Any, b: Any) -> Any:  # noqa: ARG001
    """fold(a, b): the upper half of the 128-bit product of two uint64 exclusive-or the lower half."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        product = builder.mul(builder.zext(args[0], _I128), builder.zext(args[1], _I128))
        high = builder.trunc(builder.lshr(product, ir.Constant(_I128, 64)), _I64)
        return builder.xor(high, builder.trunc(product, _I64))

    return types.uint64(types.uint64, types.uint64), generate


@intrinsic
def _trailing_zeros(context: Any, value: Any) -> Any:  # noqa: ARG001
    """trailing_zeros(value): how many of the lowest bits of a uint64 are zero; 64 for zero."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


# mypy sees the two-step signature of an intrinsic; kernels call it with the second step's arguments.
load64: Any = _load64
fold: Any = _fold
trailing_zeros: Any = _trailing_zeros
