"""Votes, a number for each voter and page, and the labels they decide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from corpus.labelling.answer import FAILURES, NO_ANSWER, NO_TEXT, Verdict

I16 = npt.NDArray[np.int16]
UNKNOWN = -1
NOT_A_LABEL = (NO_TEXT, NO_ANSWER, *FAILURES)
"""Reasons why a voter gave no label; reason i is written as -2 - i."""
NOT_READ, NO_MAJORITY, NOT_UNANIMOUS = "no_readable_answer", "no_majority", "not_unanimous"


@dataclass(frozen=True)
class Ballot:
    """Votes: ``codes`` [V voters, N pages] is the label's number, UNKNOWN, or a reason's; ``again`` [V, N] times asked again."""

    labels: tuple[str, ...]
    codes: I16
    again: I16

    @classmethod
    def empty(cls, labels: tuple[str, ...], n_voters: int, n_pages: int) -> Ballot:
        return cls(labels, np.full((n_voters, n_pages), UNKNOWN, np.int16), np.zeros((n_voters, n_pages), np.int16))

    def record(self, voter: int, page: int, verdict: Verdict) -> None:
        """A voter's final verdict on a page."""
        if verdict.label is not None:
            self.codes[voter, page] = self.labels.index(verdict.label)
        else:
            self.refuse(voter, page, str(verdict.failure))

    def refuse(self, voter: int, page: int, reason: str) -> None:
        self.codes[voter, page] = -2 - NOT_A_LABEL.index(reason)

    def counts(self) -> npt.NDArray[np.int64]:
        """[N, L] votes of each label."""
        return np.stack([(self.codes == i).sum(axis=0) for i in range(len(self.labels))], axis=1)

    def decide(self, rule: Literal["majority", "unanimous"]) -> tuple[npt.NDArray[np.int64], list[str | None]]:
        """([N] label or -1, [N] reason or None where there is a label). Voters without a label count as voters."""
        counts, n_voters = self.counts(), len(self.codes)
        most = counts.max(axis=1, initial=0)
        wins = most * 2 > n_voters if rule == "majority" else most == n_voters
        labels = np.where(wins, counts.argmax(axis=1), -1)
        no_text, no_answer = ((self.codes == -2 - NOT_A_LABEL.index(r)).any(axis=0) for r in (NO_TEXT, NO_ANSWER))
        split = NO_MAJORITY if rule == "majority" else NOT_UNANIMOUS
        why = np.select([wins, no_text, no_answer, most == 0], [0, 1, 2, 3], 4)
        reasons = (None, NO_TEXT, NO_ANSWER, NOT_READ, split)
        return labels, [reasons[i] for i in why.tolist()]

    def vote(self, voter: int, page: int) -> tuple[str | None, str | None]:
        """(label, reason), one of them None."""
        code = int(self.codes[voter, page])
        return (self.labels[code], None) if code >= 0 else (None, NOT_A_LABEL[-2 - code])
