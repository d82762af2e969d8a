"""Arrow schemas of what rooms exchange, and the document key.

A document carries one int64 key: ``unit << 32 | row``, where unit numbers the input's row groups in sorted file order and row is
the row in that group. Duplicate marks, scores and joins travel as keys, never as strings.
"""

from __future__ import annotations

import pyarrow as pa

from store.errors import InputError

ROW_BITS = 32

# FineWeb2's Parquet columns (huggingface/fineweb-2). Only text is required of a source; what is absent becomes null.
SOURCE = pa.schema(
    [
        ("text", pa.large_string()),
        ("id", pa.string()),
        ("dump", pa.string()),
        ("url", pa.string()),
        ("date", pa.string()),
        ("file_path", pa.string()),
        ("language", pa.string()),
        ("language_score", pa.float64()),
        ("language_script", pa.string()),
        ("minhash_cluster_size", pa.int64()),
        ("top_langs", pa.string()),
    ]
)

KEY = pa.field("doc_key", pa.int64(), nullable=False)

# What a source yields to the first stage of a pass.
DOCUMENT = pa.schema([KEY, *SOURCE])

# A dropped document: enough to answer for it. ``value`` is the number the rule looked at; ``text`` is kept for a deterministic
# sample only (null otherwise), so that dropping 98 % of a corpus does not copy it.
DROPPED = pa.schema(
    [
        KEY,
        ("id", pa.string()),
        ("url", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("value", pa.float64()),
        ("text", pa.large_string()),
    ]
)

# A document that could not be judged at all (no text, broken UTF-8, unreadable row group): named, counted, not lost.
# ``row`` is the row in the file, from 0 (null: not counted, in a later stretch of a JSONL file); ``offset`` the byte at which it begins
# in the decompressed file (null: Parquet). An entry may stand for ``n_docs`` documents of an unreadable stretch; ``at_least``: or more.
QUARANTINED = pa.schema(
    [
        ("unit", pa.string()),
        ("file", pa.string()),
        ("row", pa.int64()),
        ("offset", pa.int64()),
        ("n_docs", pa.int64()),
        ("at_least", pa.bool_()),
        ("id", pa.string()),
        ("reason", pa.string()),
    ]
)

# Columns the signature stage adds; written beside the documents, not into them. A column per band, so that one can be read alone.
EXACT = ("exact_0", "exact_1")
MINIMA = "minima"


def band_name(band: int) -> str:
    """Column of a MinHash band."""
    return f"band_{band:03d}"


def signature_schema(n_bands: int, n_minima: int = 0) -> pa.Schema:
    """doc_key, the two halves of the 128-bit hash of the simplified text, one uint64 per MinHash band, and the length in characters.

    With ``n_minima`` also the minima that the bands were made of, as a list of that many uint32.
    """
    bands = [band_name(band) for band in range(n_bands)]
    minima = [pa.field(MINIMA, pa.list_(pa.uint32(), n_minima))] if n_minima else []
    return pa.schema([KEY, *((name, pa.uint64()) for name in (*EXACT, *bands)), ("n_chars", pa.int32()), *minima])


def is_signature(column: str) -> bool:
    """Whether a column belongs to the signatures."""
    return column in (*EXACT, "n_chars", MINIMA) or column.startswith("band_")


# Members of duplicate clusters of two or more; documents not listed are alone. ``level`` is "exact" or "minhash".
CLUSTERS = pa.schema([KEY, ("survivor_key", pa.int64()), ("cluster_size", pa.int32()), ("level", pa.string())])

# Documents of earlier corpora that lose to a new one. ``corpus`` is -1 for the last earlier one, -2 for the one before, ...;
# ``doc_key`` is the key in that corpus, ``survivor_key`` one of this corpus.
DISPLACED = pa.schema([("corpus", pa.int32()), KEY, ("id", pa.string()), ("survivor_key", pa.int64()), ("survivor_id", pa.string()),
                       ("level", pa.string())])  # fmt: skip

# One row per document of a token shard; tokens lie in the shard's flat uint32 file in this order. A cluster size of 0 is not known.
TOKEN_INDEX = pa.schema([KEY, ("n_tokens", pa.int32()), ("n_bytes", pa.int32()), ("minhash_cluster_size", pa.int64())])


def doc_key(unit: int, row: int) -> int:
    """The int64 key of a document."""
    return (unit << ROW_BITS) | row


def require_columns(found: pa.Schema, wanted: list[str], where: str) -> None:
    """InputError naming the columns that are missing and those that are there."""
    missing = [c for c in wanted if c not in found.names]
    if missing:
        raise InputError(
            f"the column{'s' if len(missing) > 1 else ''} {', '.join(missing)} {'are' if len(missing) > 1 else 'is'} missing",
            where=where,
            expected=f"columns {', '.join(wanted)}, found {', '.join(found.names)}",
            remedy="map the columns in the recipe: corpus.source.columns: {text: your_column}",
        )
