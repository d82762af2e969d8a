"""Parameters of the built-in sample. Together with the code they decide every byte that is written."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class SampleParams(BaseModel):
    """Size, seed and composition of the sample; what the shares leave are general German pages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_docs: int = Field(default=6000, ge=1, description="Number of pages over all web files.")
    seed: int = Field(default=1, description="Seed of every random decision.")
    docs_per_file: int = Field(default=1500, ge=1, description="Pages in one web file; the last file may hold fewer.")
    docs_per_row_group: int = Field(default=1000, ge=1, description="Pages in one Parquet row group.")
    medical_share: float = Field(default=0.30, ge=0, le=1, description="German pages on medicine, each one unique.")
    foreign_share: float = Field(default=0.10, ge=0, le=1, description="Pages in a language other than German.")
    junk_share: float = Field(default=0.08, ge=0, le=1, description="Spam, symbols, code, short pages, boilerplate.")
    exact_share: float = Field(default=0.04, ge=0, le=1, description="Exact copies of German pages.")
    near_share: float = Field(default=0.06, ge=0, le=1, description="Edited copies of German pages.")
    edit_rates: tuple[float, ...] = Field(
        default=(0.01, 0.02, 0.04, 0.08, 0.16),
        min_length=1,
        description="Shares of words that a near duplicate replaces, inserts or deletes; used in turn.",
    )
    leak_share: float = Field(default=0.002, ge=0, le=1, description="German pages that quote a benchmark item, half of them medical.")
    pii_share: float = Field(default=0.04, ge=0, le=1, description="German pages with planted personal data.")
    lookalike_share: float = Field(
        default=0.04, ge=0, le=1, description="German pages with planted strings that only look like personal data."
    )
    boilerplate_share: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="German pages with a menu, a cookie notice or an imprint around.",
    )
    label_share: float = Field(default=0.20, ge=0, le=1, description="Unique German pages that get a topic label.")
    min_labels: int = Field(default=400, ge=0, description="Least number of topic labels, if there are as many pages.")
    n_bench_items: int = Field(default=240, ge=1, description="Multiple-choice items in each of the two benchmarks.")
    n_open_items: int = Field(default=60, ge=1, description="Open questions in each of the two open benchmarks.")
    n_chats: int = Field(default=3000, ge=0, description="Instruction conversations about general facts.")

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        total = self.medical_share + self.foreign_share + self.junk_share + self.exact_share + self.near_share + self.leak_share
        if total > 1:
            raise ValueError(f"shares of the kinds of page add up to {total:.3f}; expected at most 1: lower one")
        return self
