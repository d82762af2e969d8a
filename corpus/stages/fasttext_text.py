"""Text in the form fastText models see it: one line per document, made in columns.

A classifier must see the same form when it is trained and when it scores, so both import this module.
"""

from __future__ import annotations

import polars as pl
import pyarrow as pa

WHITE_SPACE = r"[\n\r\t\v\f\x00]+"
"""What fastText takes for the end of a line or a word, other than the space."""


def one_line(column: pa.Array) -> list[str]:
    """The texts with every run of line ends, tabs and NULs as one space: what fastText's predict demands."""
    return pl.Series(column).str.replace_all(WHITE_SPACE, " ").to_list()


def classifier_text(column: pa.Array, max_chars: int) -> list[str]:
    """Lower-cased heads of at most ``max_chars`` characters on one line, for training and scoring classifiers alike."""
    head = pl.Series(column).str.slice(0, max_chars)
    return head.str.to_lowercase().str.replace_all(WHITE_SPACE, " ").to_list()
