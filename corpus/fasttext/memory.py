"""Reading and writing memory by address, as LLVM instructions that numba has no spelling for.

The kernels of this package look at some hundred million tokens an hour. Words begin at any byte and rows of a mapped file at any
offset, where a typed array cannot reach, and numba counts references (an atomic operation each) whenever an array is handed on. So
kernels take addresses: plain integers. **The caller keeps the arrays alive and guarantees every range**; nothing is checked here.
Only corpus.fasttext.model calls the kernels, with arrays it owns and sizes that corpus.fasttext.model_file has checked; and
corpus.fasttext.scripts, which checks its own.

The operations are LLVM's portable vector types, which become AVX, SSE or NEON. Adds are plain IEEE adds in a fixed order, so results do
not depend on the machine's vector width. Byte order: little-endian.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LANES = 16
"""Floats per vector operation: rows of sums are padded to a multiple of it."""
BLOCK = 64
"""Bytes per mask. Text must be followed by so many readable bytes."""
KEY_BYTES = 32
"""Longest token whose bytes fit one key."""

I1, I8, I32, I64, I128, F32 = (*(ir.IntType(n) for n in (1, 8, 32, 64, 128)), ir.FloatType())
BYTES, FLOATS = ir.VectorType(I8, BLOCK), ir.VectorType(F32, LANES)
INT, WORD, VOID = types.int64, types.uint64, types.void
FOUR_WORDS: Any = types.UniTuple(WORD, 4)  # type: ignore[no-untyped-call]
HALF_KEYS = [0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F, 0x165667B1, 0xD3A2646C, 0xFD7046C5, 0xB55A4F09]
"""What is added to the eight halves of a key before they are multiplied: odd mixtures of bits, from xxHash's primes."""
KEY, WORDS = ir.VectorType(I8, KEY_BYTES), ir.VectorType(I64, KEY_BYTES // 8)


def instruction(result: types.Type, *arguments: types.Type) -> Callable[[Callable[..., Any]], Any]:
    """A function that kernels call and that ``emit(builder, *values)`` writes as LLVM; emit returns the value, None for void."""

    def made(emit: Callable[..., Any]) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001  numba's protocol
            value = emit(builder, *args)
            if isinstance(value, list):
                return context.make_tuple(builder, result, value)
            return context.get_dummy_value() if value is None else value

        def define(typingctx: Any, *given: Any) -> Any:  # noqa: ARG001  numba's protocol
            return result(*arguments), codegen

        define.__name__, define.__doc__, define.__module__ = emit.__name__, emit.__doc__, emit.__module__
        # numba reads the number of arguments from here; the builder stands where the typing context does.
        define.__signature__ = inspect.signature(emit)  # type: ignore[attr-defined]
        return intrinsic(define)

    return made


def _store(builder: Any, address: Any, value: Any, align: int = 1) -> None:
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=align)


def _load(builder: Any, address: Any, kind: Any, align: int = 1) -> Any:
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=align)


def _splat(kind: Any, value: int) -> Any:
    return ir.Constant(kind, [value] * kind.count)


def _key(builder: Any, begin: Any, n_bytes: Any) -> Any:
    """The token's bytes in a vector, NULs behind them."""
    blank = ir.Constant(KEY, ir.Undefined)
    n = builder.insert_element(blank, builder.trunc(n_bytes, I8), ir.Constant(I32, 0))
    n = builder.shuffle_vector(n, blank, ir.Constant(ir.VectorType(I32, KEY_BYTES), [0] * KEY_BYTES))
    inside = builder.icmp_unsigned("<", ir.Constant(KEY, list(range(KEY_BYTES))), n)
    return builder.select(inside, _load(builder, begin, KEY), _splat(KEY, 0))


@instruction(INT, INT)
def byte_at(builder: Any, address: Any) -> Any:
    """The byte at an address, as an int64 from 0 to 255."""
    return builder.zext(_load(builder, address, I8), I64)


@instruction(INT, INT)
def signed_byte_at(builder: Any, address: Any) -> Any:
    """The byte at an address, as an int64 from -128 to 127."""
    return builder.sext(_load(builder, address, I8), I64)


@instruction(VOID, INT, INT)
def put_byte(builder: Any, address: Any, value: Any) -> None:
    """Write the low byte of an int64."""
    _store(builder, address, builder.trunc(value, I8))


@instruction(INT, INT)
def int32_at(builder: Any, address: Any) -> Any:
    """The int32 at an address, as an int64."""
    return builder.sext(_load(builder, address, I32), I64)


@instruction(types.float32, INT)
def float_at(builder: Any, address: Any) -> Any:
    """The float32 at an address."""
    return _load(builder, address, F32)


@instruction(WORD, INT)
def word_at(builder: Any, address: Any) -> Any:
    """The uint64 at an address."""
    return _load(builder, address, I64)


@instruction(VOID, INT, WORD)
def put_word(builder: Any, address: Any, value: Any) -> None:
    """Write a uint64."""
    _store(builder, address, value)


@instruction(WORD, WORD, WORD, WORD)
def remainder32(builder: Any, value: Any, divisor: Any, magic: Any) -> Any:
    """value % divisor of two uint64 below 2^32; magic = 2^64 // divisor + 1, its low 64 bits (Lemire et al. 2019, arXiv 1902.01961)."""
    fraction = builder.zext(builder.mul(value, magic), I128)
    return builder.trunc(builder.lshr(builder.mul(fraction, builder.zext(divisor, I128)), ir.Constant(I128, 64)), I64)


@instruction(WORD, WORD, WORD)
def high_product(builder: Any, a: Any, b: Any) -> Any:
    """The upper half of the 128-bit product of two uint64."""
    product = builder.mul(builder.zext(a, I128), builder.zext(b, I128))
    return builder.trunc(builder.lshr(product, ir.Constant(I128, 64)), I64)


@instruction(WORD, INT)
def spaces(builder: Any, address: Any) -> Any:
    """Bit k is set if byte k of the next 64 is one of fastText's separators: space, NUL, and 9 to 13."""
    block = _load(builder, address, BYTES)
    controls = builder.icmp_unsigned("<", builder.sub(block, _splat(BYTES, 9)), _splat(BYTES, 5))
    space = builder.icmp_unsigned("==", block, _splat(BYTES, 32))
    null = builder.icmp_unsigned("==", block, _splat(BYTES, 0))
    return builder.bitcast(builder.or_(controls, builder.or_(space, null)), I64)


@instruction(WORD, INT)
def first_bytes(builder: Any, address: Any) -> Any:
    """Bit k is set if byte k of the next 64 begins a UTF-8 character."""
    # Continuation bytes 0x80..0xBF are the 64 smallest signed numbers.
    return builder.bitcast(builder.icmp_signed(">", _load(builder, address, BYTES), _splat(BYTES, -65)), I64)


@instruction(WORD, INT)
def ascii_letters(builder: Any, address: Any) -> Any:
    """Bit k is set if byte k of the next 64 is A to Z or a to z."""
    lower = builder.or_(_load(builder, address, BYTES), _splat(BYTES, 32))
    return builder.bitcast(builder.icmp_unsigned("<", builder.sub(lower, _splat(BYTES, 97)), _splat(BYTES, 26)), I64)


@instruction(WORD, INT)
def lead_bytes(builder: Any, address: Any) -> Any:
    """Bit k is set if byte k of the next 64 begins a UTF-8 character of two or more bytes."""
    return builder.bitcast(builder.icmp_unsigned(">=", _load(builder, address, BYTES), _splat(BYTES, 0xC0)), I64)


@instruction(INT, WORD)
def trailing_zeros(builder: Any, value: Any) -> Any:
    """Index of the lowest set bit of a uint64; 64 for 0."""
    return builder.cttz(value, ir.Constant(I1, 0))


@instruction(INT, WORD)
def set_bits(builder: Any, value: Any) -> Any:
    """Number of set bits of a uint64."""
    return builder.ctpop(value)


@instruction(FOUR_WORDS, INT, INT)
def key_words(builder: Any, begin: Any, n_bytes: Any) -> Any:
    """The token of at most 32 bytes at ``begin`` as four uint64, zero-padded."""
    words = builder.bitcast(_key(builder, begin, n_bytes), WORDS)
    return [builder.extract_element(words, ir.Constant(I32, k)) for k in range(WORDS.count)]


@instruction(types.boolean, INT, INT, INT)
def holds_key(builder: Any, slot: Any, begin: Any, n_bytes: Any) -> Any:
    """Whether the 32 bytes at ``slot`` are the token at ``begin``, zero-padded."""
    differs = builder.icmp_unsigned("!=", _key(builder, begin, n_bytes), _load(builder, slot, KEY))
    return builder.icmp_unsigned("==", builder.bitcast(differs, I32), ir.Constant(I32, 0))


@instruction(WORD, INT, INT, INT)
def put_key(builder: Any, target: Any, begin: Any, n_bytes: Any) -> Any:
    """Write the token of at most 32 bytes at ``begin`` as 32 bytes at ``target``, zero-padded; returns a hash of them.

    The hash is a sum of products of neighbouring 32-bit halves (NH, Black et al. 1999), multiplied once more; its upper half is good.
    """
    key = _key(builder, begin, n_bytes)
    _store(builder, target, key)
    halves = ir.VectorType(I32, KEY_BYTES // 4)
    shifted = builder.bitcast(builder.add(builder.bitcast(key, halves), ir.Constant(halves, HALF_KEYS)), WORDS)
    low, high = builder.and_(shifted, _splat(WORDS, 0xFFFFFFFF)), builder.lshr(shifted, _splat(WORDS, 32))
    products = builder.mul(low, high)
    blank = ir.Constant(WORDS, ir.Undefined)
    pair = ir.VectorType(I32, 2)
    sums = builder.add(*(builder.shuffle_vector(products, blank, ir.Constant(pair, [k, k + 1])) for k in (0, 2)))
    total = builder.add(builder.extract_element(sums, ir.Constant(I32, 0)), builder.extract_element(sums, ir.Constant(I32, 1)))
    return builder.mul(total, ir.Constant(I64, 0xC2B2AE3D27D4EB4F))


@instruction(types.boolean, INT, INT)
def fold_key(builder: Any, target: Any, source: Any) -> Any:
    """Write the 32 bytes at ``source``, UTF-8 padded with NUL, in lower case; whether that is right: nothing is above U+00FF.

    Capitals of Latin-1 are C3 80 to C3 9E without C3 97, the times sign, and 32 below their small letters.
    """
    key = _load(builder, source, KEY)
    before = builder.shuffle_vector(key, _splat(KEY, 0), ir.Constant(ir.VectorType(I32, KEY_BYTES), [KEY_BYTES, *range(KEY_BYTES - 1)]))
    capital = builder.icmp_unsigned("<", builder.sub(key, _splat(KEY, 65)), _splat(KEY, 26))
    accented = builder.icmp_unsigned("<", builder.sub(key, _splat(KEY, 0x80)), _splat(KEY, 0x1F))
    accented = builder.and_(accented, builder.icmp_unsigned("!=", key, _splat(KEY, 0x97)))
    accented = builder.and_(accented, builder.icmp_unsigned("==", before, _splat(KEY, 0xC3)))
    _store(builder, target, builder.add(key, builder.select(builder.or_(capital, accented), _splat(KEY, 32), _splat(KEY, 0))))
    lead, follows = (builder.icmp_unsigned("==", builder.and_(b, _splat(KEY, 0xFE)), _splat(KEY, 0xC2)) for b in (key, before))
    unknown = builder.and_(builder.icmp_signed("<", key, _splat(KEY, 0)), builder.not_(builder.or_(lead, follows)))
    return builder.icmp_unsigned("==", builder.bitcast(unknown, I32), ir.Constant(I32, 0))


@instruction(VOID, INT, INT)
def copy_key(builder: Any, target: Any, source: Any) -> None:
    """Write the 32 bytes at ``source``."""
    _store(builder, target, _load(builder, source, KEY))


@instruction(types.boolean, INT, INT)
def same_key(builder: Any, one: Any, other: Any) -> Any:
    """Whether the 32 bytes at two addresses are equal."""
    differs = builder.icmp_unsigned("!=", _load(builder, one, KEY), _load(builder, other, KEY))
    return builder.icmp_unsigned("==", builder.bitcast(differs, I32), ir.Constant(I32, 0))


@instruction(VOID, INT, INT)
def swap_blocks(builder: Any, one: Any, other: Any) -> None:
    """The 64 bytes at two addresses change places."""
    first, second = _load(builder, one, BYTES), _load(builder, other, BYTES)
    _store(builder, one, second)
    _store(builder, other, first)


@instruction(VOID, INT, INT)
def add_lanes(builder: Any, target: Any, source: Any) -> None:
    """The 16 float32 at ``target`` += the 16 at ``source``."""
    _store(builder, target, builder.fadd(_load(builder, target, FLOATS, 4), _load(builder, source, FLOATS)), 4)


@instruction(VOID, INT, INT)
def put_lanes(builder: Any, target: Any, source: Any) -> None:
    """The 16 float32 at ``target`` = the 16 at ``source``."""
    _store(builder, target, _load(builder, source, FLOATS), 4)


@instruction(VOID, INT, INT)
def add_float(builder: Any, target: Any, source: Any) -> None:
    """The float32 at ``target`` += the one at ``source``."""
    _store(builder, target, builder.fadd(_load(builder, target, F32), _load(builder, source, F32)), 4)


@instruction(VOID, INT)
def prefetch(builder: Any, address: Any) -> None:
    """Ask for the cache line of an address; nothing else happens."""
    pointer = builder.inttoptr(address, I8.as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, I32, I32, I32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")  # type: ignore[no-untyped-call]
    builder.call(function, [pointer, ir.Constant(I32, 0), ir.Constant(I32, 3), ir.Constant(I32, 1)])
