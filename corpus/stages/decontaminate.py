"""Drops pages that hold text of a benchmark, by word n-grams as in the GPT-3 and Gopher reports (Brown et al. 2020, appendix C).

Page and item are lower-cased and cut into words of letters, numbers and marks; everything else is a gap. An item's text is its question
followed by its choices. A page overlaps if it holds any ``n`` consecutive words of an item's text. Items shorter than ``n`` words are
looked for by their question alone if it has MIN_WORDS words, else by the question and as many choices as make MIN_WORDS; items with
fewer words in all cannot be told from chance and are left out, with a warning that counts them.

Words are compared by 64-bit hashes of the n-gram and not verified: of 10^12 page n-grams against 10^6 item n-grams, 0.05 would match
by chance.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import numba
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from pydantic import Field

from corpus.columns import text_buffers
from corpus.stage import KEEP, Apply, Outcome, Resources, Stage
from corpus.stages.code_points import WORD, decode, properties, width
from corpus.stages.words import BASE
from store.errors import InputError
from store.fs import open_input
from store.params import ByContent

MIN_WORDS = 6
MAX_BENCHMARKS = 64
FILTER_BITS_PER_HASH = 32
"""Bits of the first look-up: it lets 3 % of a page's n-grams through to the second, the binary search."""

log = logging.getLogger(__name__)


class Decontaminate(Stage):
    """Drop pages that hold ``n`` consecutive words of a benchmark item."""

    stage: Literal["decontaminate"] = Field(default="decontaminate", description="Name of the stage.")
    benchmarks: Annotated[tuple[str, ...], ByContent] = Field(
        min_length=1, max_length=MAX_BENCHMARKS, description="JSONL files of items: question (or problem_text) and optional choices."
    )
    n: int = Field(default=13, ge=MIN_WORDS, le=100, description="Consecutive words that make an overlap.")

    reasons: ClassVar[tuple[str, ...]] = ("benchmark_overlap",)

    def open(self, resources: Resources) -> Apply:  # noqa: ARG002  needs none
        """Read the benchmarks. A verdict's value is the number of the page's n-grams that overlap; counts are pages per benchmark.

        Raises:
            InputError: a benchmark is missing, empty or has a line that is no item.
        """
        hashes, members, lengths = item_n_grams([read_texts(file) for file in self.benchmarks], self.n)
        bits = _filter_bits(hashes)
        names = [file.rsplit("/", 1)[-1].removesuffix(".jsonl") for file in self.benchmarks]

        def apply(batch: pa.RecordBatch) -> Outcome:
            starts, words = words_lower(batch.column("text"))
            hits, seen_in = _overlaps(starts, words, lengths, hashes, members, bits)
            counts: dict[str, int] = {}
            for place, name in enumerate(names):
                pages = int(np.count_nonzero(seen_in >> np.uint64(place) & np.uint64(1)))
                if pages:
                    counts[f"overlap/{name}"] = counts.get(f"overlap/{name}", 0) + pages
            verdict = np.where(hits > 0, 0, KEEP).astype(np.int16)
            return Outcome(verdict=verdict, value=np.where(hits > 0, hits.astype(np.float64), np.nan), counts=counts)

        return apply


def read_texts(file: str) -> list[tuple[str, list[str]]]:
    """(question, choices) of every line of a benchmark.

    Raises:
        InputError: with file and line.
    """
    items = []
    with open_input(file) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                items.append(_item(line, f"{file}, line {number}"))
    if not items:
        raise InputError("the benchmark has no items", where=file, remedy="check the file")
    return items


def _item(line: bytes, where: str) -> tuple[str, list[str]]:
    expected = '{"question": "...", "choices": ["...", ...]} (or problem_text for question)'
    try:
        body = json.loads(line)
    except ValueError as error:
        raise InputError("the line is not JSON", where=where, expected=expected) from error
    question = body.get("question", body.get("problem_text")) if isinstance(body, dict) else None
    choices = body.get("choices", []) if isinstance(body, dict) else None
    if not isinstance(question, str) or not isinstance(choices, list):
        raise InputError("the line is not a benchmark item", where=where, expected=expected)
    return question, [str(choice) for choice in choices]


def item_n_grams(
    benchmarks: list[list[tuple[str, list[str]]]], n: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """(hashes, members, lengths): sorted hashes of the word runs looked for, bit sets of their benchmarks, the runs' lengths."""
    members: dict[int, int] = {}
    lengths: set[int] = set()
    for place, items in enumerate(benchmarks):
        parts = pa.array([part for question, choices in items for part in (question, *choices)], pa.large_string())
        starts, words = words_lower(pl.Series(parts).str.normalize("NFC").to_arrow().cast(pa.large_string()))
        n_short = row = 0
        for _, choices in items:
            runs = list(_runs([words[starts[k] : starts[k + 1]] for k in range(row, row + 1 + len(choices))], n))
            row += 1 + len(choices)
            n_short += not runs
            lengths |= {len(run) for run in runs}
            for run in runs:
                key = int(_run_hash(run))
                members[key] = members.get(key, 0) | 1 << place
        if n_short:
            log.warning("%d items of benchmark %d have fewer than %d words and are not looked for", n_short, place + 1, MIN_WORDS)
    hashes = np.array(sorted(members), np.uint64)
    return hashes, np.array([members[int(h)] for h in hashes], np.uint64), np.array(sorted(lengths), np.int64)


def _runs(parts: list[npt.NDArray[np.uint64]], n: int) -> Iterator[npt.NDArray[np.uint64]]:
    """The runs of words by which an item is looked for; ``parts`` are the words of the question and of each choice."""
    text = np.concatenate(parts)
    if len(text) >= n:
        for i in range(len(text) - n + 1):
            yield text[i : i + n]
        return
    for n_parts in range(1, len(parts) + 1):
        run = np.concatenate(parts[:n_parts])
        if len(run) >= MIN_WORDS:
            yield run
            return


def words_lower(column: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """(starts [n + 1], hashes): the lower-cased words of each row; row i's are hashes[starts[i]:starts[i + 1]]."""
    lower = pl.Series(column).str.to_lowercase().to_arrow().cast(pa.large_string())
    starts, hashes = _word_hashes(*text_buffers(lower), properties())
    return starts, hashes


def _filter_bits(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    n_bits = 1 << max(16, (FILTER_BITS_PER_HASH * len(hashes)).bit_length())
    bits = np.zeros(n_bits, np.uint8)
    bits[hashes & np.uint64(n_bits - 1)] = 1
    return np.packbits(bits, bitorder="little")


@numba.njit(nogil=True, cache=True)
def _spread(value):  # type: ignore[no-untyped-def]
    """The finaliser of splitmix64: every bit of the result depends on every bit of the value."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@numba.njit(nogil=True, cache=True)
def _word_hashes(offsets, data, props):  # type: ignore[no-untyped-def]
    """(starts, hashes) of the runs of WORD characters."""
    n = len(offsets) - 1
    starts = np.zeros(n + 1, np.int64)
    hashes = np.empty(
        (offsets[n] - offsets[0]) // 2 + n + 1, np.uint64
    )  # a word needs a gap, so there are at most half as many as bytes
    count = 0
    for row in range(n):
        value, inside = np.uint64(0), False
        at, end = offsets[row], offsets[row + 1]
        while at < end:
            size = width(data[at])
            if props[decode(data, at, size)] & WORD:
                for k in range(at, at + size):
                    value = value * BASE + np.uint64(data[k] + 1)
                inside = True
            elif inside:
                hashes[count] = _spread(value)
                count += 1
                value, inside = np.uint64(0), False
            at += size
        if inside:
            hashes[count] = _spread(value)
            count += 1
        starts[row + 1] = count
    return starts, hashes[:count]


@numba.njit(nogil=True, cache=True)
def _run_hash(words):  # type: ignore[no-untyped-def]
    """Hash of a run of words: polynomial, then spread."""
    value = np.uint64(0)
    for word in words:
        value = value * BASE + word
    return _spread(value)


@numba.njit(nogil=True, cache=True)
def _overlaps(starts, words, lengths, hashes, members, bits):  # type: ignore[no-untyped-def]
    """(hits [n] int64, members [n] uint64): how many runs of a row are looked for, and in which benchmarks they are."""
    n = len(starts) - 1
    mask = np.uint64(8 * len(bits) - 1)
    hits, seen_in = np.zeros(n, np.int64), np.zeros(n, np.uint64)
    for length in lengths:
        drop = np.uint64(1)
        for _ in range(length):
            drop *= BASE
        for row in range(n):
            value = np.uint64(0)
            first = starts[row]
            for i in range(first, starts[row + 1]):
                value = value * BASE + words[i]
                if i >= first + length:
                    value -= words[i - length] * drop
                if i < first + length - 1:
                    continue
                key = _spread(value)
                slot = key & mask
                if not bits[slot >> np.uint64(3)] >> (slot & np.uint64(7)) & np.uint64(1):
                    continue
                place = np.searchsorted(hashes, key)
                if place < len(hashes) and hashes[place] == key:
                    hits[row] += 1
                    seen_in[row] |= members[place]
    return hits, seen_in
