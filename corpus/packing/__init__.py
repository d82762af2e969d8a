"""From token stores to a pack plan: the mixture chooses documents (mixture.py), best-fit decreasing packs them (rows.py)."""

from corpus.packing.params import MixtureEntry, PackParams
from corpus.packing.plan import plan

__all__ = ["MixtureEntry", "PackParams", "plan"]
