"""Scoring with a transformers encoder: the survivors of deduplication into columns that pass 2 reads, in a step of its own.

See docs/scoring.md: why it is no stage of a pass, how batches are cut, and how the recall lost by the first step is estimated.
"""

from corpus.scoring.params import ScoringParams

__all__ = ["ScoringParams"]
