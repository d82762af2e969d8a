"""Deduplication: signature files in, clusters of duplicates out. params says what, run says how; docs/dedup.md is the whole story."""

from corpus.dedup.index import require_alike
from corpus.dedup.params import DedupParams
from corpus.dedup.run import connect, signatures_of

__all__ = ["DedupParams", "connect", "require_alike", "signatures_of"]
