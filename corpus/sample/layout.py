"""Which page is what: a keyed permutation spreads the kinds of page over the corpus, in exact shares.

Every kind owns a range of places; page `i` has place `permutation(i)`. So a page's kind and its number within the kind
(its ordinal) are functions of (params, i), and the page with a given kind and ordinal is found without a search.
"""

from __future__ import annotations

from functools import cache

from corpus.sample.draw import Draw, Permutation
from corpus.sample.params import SampleParams

KINDS = ("general", "medical", "leak_general", "leak_medical", "foreign", "junk", "exact", "near")


class Layout:
    """Kinds, ordinals and originals of the pages of one sample."""

    def __init__(self, params: SampleParams) -> None:
        n, n_leaks = params.n_docs, round(params.leak_share * params.n_docs)
        self.counts = {
            "general": 0,
            "medical": round(params.medical_share * n),
            "leak_general": n_leaks - n_leaks // 2,
            "leak_medical": n_leaks // 2,
            "foreign": round(params.foreign_share * n),
            "junk": round(params.junk_share * n),
            "exact": round(params.exact_share * n),
            "near": round(params.near_share * n),
        }
        self.counts["general"] = max(0, n - sum(self.counts.values()))
        if not self.n_unique:  # copies need an original
            self.counts |= {"general": n - self.counts["foreign"] - self.counts["junk"], "exact": 0, "near": 0}
        self._starts: dict[str, int] = {}
        start = 0
        for kind in KINDS:
            self._starts[kind] = start
            start += self.counts[kind]
        self._seed = params.seed
        self._permutation = Permutation(n, params.seed, "layout")
        self._originals = Permutation(max(1, self.n_unique), params.seed, "originals")
        self._labels = Permutation(max(1, self.n_unique), params.seed, "labels")
        self.n_labels = min(self.n_unique, max(params.min_labels, round(params.label_share * self.n_unique)))

    @property
    def n_unique(self) -> int:
        """German pages that are neither copies nor leaks."""
        return self.counts["general"] + self.counts["medical"]

    def kind(self, index: int) -> tuple[str, int]:
        """Kind and ordinal of page `index`."""
        place = self._permutation.forward(index)
        for kind in KINDS:
            if place < self._starts[kind] + self.counts[kind]:
                return kind, place - self._starts[kind]
        raise IndexError(f"page {index} is outside the sample of {self._permutation.n} pages")

    def index(self, kind: str, ordinal: int) -> int:
        """The page of this kind with this ordinal."""
        return self._permutation.inverse(self._starts[kind] + ordinal)

    def original(self, kind: str, ordinal: int) -> int:
        """The page that a copy (kind exact or near) copies; few pages are copied often, most not at all."""
        unit = Draw(self._seed, "original", kind, ordinal).unit()
        pool = min(self.n_unique, 2 * (self.counts["exact"] + self.counts["near"]))
        return self._permutation.inverse(self._originals.forward(int(unit * unit * pool)))

    def labelled(self) -> list[tuple[int, str]]:
        """(page, topic) of the pages that get a topic label, in the order of the pages."""
        places = (self._labels.inverse(at) for at in range(self.n_labels))
        topics = ((place, "general" if place < self._starts["medical"] else "medical") for place in places)
        return sorted((self._permutation.inverse(place), topic) for place, topic in topics)


@cache
def layout(params: SampleParams) -> Layout:
    """The layout of a sample, made once per process."""
    return Layout(params)
