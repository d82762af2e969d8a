"""Masks personal data, or drops the pages that hold any.

Rows that cannot hold a kind of data are passed over by one compiled regular expression per kind over the column; only the others
become Python strings, in which corpus.stages.personal_data finds and verifies. Counts name kinds, never values.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from corpus.stage import KEEP, Apply, Outcome, Resources, Stage
from corpus.stages.personal_data import CANDIDATE, find

KINDS = ("email", "phone", "ip", "iban")


class Privacy(Stage):
    """Mask e-mail addresses, phone numbers, public IP addresses and IBANs."""

    stage: Literal["privacy"] = Field(default="privacy", description="Name of the stage.")
    mode: Literal["replace", "drop"] = Field(default="replace", description="Mask what is found, or drop the page.")
    email: bool = Field(default=True, description="Look for e-mail addresses.")
    phone: bool = Field(default=True, description="Look for phone numbers.")
    ip: bool = Field(default=True, description="Look for public IP addresses.")
    iban: bool = Field(default=True, description="Look for IBANs with valid check digits.")
    email_token: str = Field(default="<EMAIL>", description="What an e-mail address becomes.")
    phone_token: str = Field(default="<TELEFON>", description="What a phone number becomes.")
    ip_token: str = Field(default="<IP>", description="What an IP address becomes.")
    iban_token: str = Field(default="<IBAN>", description="What an IBAN becomes.")

    writes: ClassVar[tuple[pa.Field, ...]] = (pa.field("text", pa.large_string()), pa.field("n_masked", pa.int32()))
    reasons: ClassVar[tuple[str, ...]] = ("personal_data",)

    def open(self, resources: Resources) -> Apply:  # noqa: ARG002  needs none
        """The function of this stage. ``n_masked`` is the number of values found in the row."""
        kinds = tuple(kind for kind in KINDS if getattr(self, kind))
        tokens = {kind: str(getattr(self, f"{kind}_token")) for kind in KINDS}

        def apply(batch: pa.RecordBatch) -> Outcome:
            text = batch.column("text")
            n_found, masked, counts = masked_rows(text, kinds, tokens)
            columns = {"n_masked": pa.array(n_found)}
            if self.mode == "replace":
                mask = pa.array(n_found > 0)
                return Outcome(columns={**columns, "text": pc.replace_with_mask(text, mask, masked)}, counts=_named("masked", counts))
            verdict = np.where(n_found > 0, 0, KEEP).astype(np.int16)
            value = np.where(n_found > 0, n_found.astype(np.float64), np.nan)
            return Outcome(columns={**columns, "text": text}, verdict=verdict, value=value, counts=_named("found", counts))

        return apply


def masked_rows(
    text: pa.Array, kinds: tuple[str, ...], tokens: dict[str, str]
) -> tuple[npt.NDArray[np.int32], pa.Array, dict[str, int]]:
    """(values found per row [n], the texts of the rows with any after masking, values found per kind)."""
    series = pl.Series(text)
    possible = {kind: series.str.contains(CANDIDATE[kind]).to_numpy() for kind in kinds}
    n_found, masked = np.zeros(len(text), np.int32), []
    counts = dict.fromkeys(kinds, 0)
    rows = np.flatnonzero(np.logical_or.reduce(list(possible.values()))) if kinds else np.zeros(0, np.int64)
    for row, content in zip(rows.tolist(), series.gather(rows).to_list(), strict=True):
        spans = find(content, tuple(kind for kind in kinds if possible[kind][row]))
        if spans:
            n_found[row] = len(spans)
            masked.append(_replaced(content, spans, tokens))
            for _, _, kind in spans:
                counts[kind] += 1
    return n_found, pa.array(masked, text.type), counts


def _replaced(text: str, spans: list[tuple[int, int, str]], tokens: dict[str, str]) -> str:
    pieces, at = [], 0
    for begin, end, kind in spans:
        pieces += [text[at:begin], tokens[kind]]
        at = end
    return "".join([*pieces, text[at:]])


def _named(verb: str, counts: dict[str, int]) -> dict[str, int]:
    return {f"{verb}/{kind}": count for kind, count in counts.items() if count}
