"""Parameters of a classifier: which labels to learn, with which kind of model, how it is split, searched, calibrated and measured."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from store.params import ByContent, Execution, Params


class SearchParams(Params):
    """Search of fastText's settings: random trials on a third of the training pages, the best third of them on all (one halving)."""

    n_trials: int = Field(default=12, ge=2, le=500, description="Settings to try; the first is the recipe's own.")


class TransformerParams(Params):
    """The encoder of the kinds embedding (frozen) and encoder (fine-tuned)."""

    model: Annotated[str | None, Execution] = Field(
        default=None, description="Folder or hub name of a transformers encoder, by its files; null: a small random one (for trials)."
    )
    revision: Annotated[str, Execution] = Field(default="main", description="Revision on the hub; the commit it names bears identity.")
    prefix: str = Field(default="", description='Put before every text, as the encoder was trained, e.g. "query: ".')
    max_tokens: int = Field(default=512, ge=8, description="Tokens of a page the encoder sees, special ones included.")
    batch_rows: int = Field(default=32, ge=1, description="Pages of a training batch (encoder).")
    l2: tuple[float, ...] = Field(
        default=(1e-5, 1e-4, 1e-3, 1e-2, 1e-1), min_length=1,
        description="Strengths of L2 (per page) to choose from by cross-validation (embedding).",
    )  # fmt: skip
    folds: int = Field(default=5, ge=2, le=20, description="Folds of the cross-validation, by group (embedding).")
    learning_rate: float | None = Field(
        default=None, gt=0.0, description="AdamW's peak learning rate (encoder); null: 3e-5, and 1e-3 for the small random one."
    )
    epochs: int = Field(default=3, ge=1, description="Passes over the training pages at most (encoder).")
    warmup_ratio: float = Field(default=0.1, ge=0.0, lt=1.0, description="Share of the steps in which the rate rises (encoder).")
    weight_decay: float = Field(default=0.01, ge=0.0, description="AdamW's weight decay; none on biases and norms (encoder).")
    evals_per_epoch: int = Field(default=2, ge=1, description="Looks at the validation pages in an epoch (encoder).")
    patience: int | None = Field(default=2, ge=1, description="Stop after so many looks without a better loss (encoder); null: never.")
    class_weights: bool = Field(default=True, description="Weigh classes by the reciprocal of their share in training (encoder).")


class TargetParams(Params):
    """What the threshold is chosen for: a precision or a recall."""

    precision: float | None = Field(default=None, gt=0.0, lt=1.0, description="Lowest threshold with at least this precision.")
    recall: float | None = Field(default=None, gt=0.0, lt=1.0, description="Highest threshold with at least this recall.")

    @model_validator(mode="after")
    def _one_of_two(self) -> TargetParams:
        if (self.precision is None) == (self.recall is None):
            raise ValueError("give either precision or recall")
        return self


class ClassifierParams(Params):
    """Which labels to learn and how (fastText's settings are named as fastText's)."""

    kind: Literal["fasttext", "embedding", "encoder"] = Field(
        default="fasttext", description="fastText; logistic regression on a frozen encoder; or an encoder that is fine-tuned."
    )
    labels: Annotated[str | None, ByContent] = Field(
        default=None, description="Labelled page ids: Parquet, CSV or JSONL with id and label columns; null: those of the step labels."
    )
    id_column: str = Field(default="id", description="Column of labels with the page id.")
    label_column: str = Field(default="label", description="Column of labels with the label.")
    group_column: str | None = Field(
        default=None, description="Column of labels with what a page belongs to (article, book): it stays on one side; null: none."
    )
    positive: str = Field(default="medical", description="The label to find; every other label counts as 'other'.")
    classes: tuple[str, ...] | None = Field(
        default=None, min_length=2, description="Labels to tell apart, as topics; pages labelled otherwise are left out; null: two."
    )
    ignore: tuple[str, ...] = Field(default=(), description="Labels to leave out, e.g. unsure.")
    max_labels: int | None = Field(
        default=20_000,
        ge=20,
        description="Use at most so many labelled pages, as many of each class as far as they go, drawn by id; null: all.",
    )
    test_share: float = Field(default=0.2, gt=0.0, lt=0.9, description="Share of the labelled pages held out to test.")
    validation_share: float = Field(
        default=0.15, gt=0.0, lt=0.9, description="Share of the rest held out to search, stop, calibrate and choose a threshold by."
    )
    split_by: Literal["id", "host"] = Field(default="id", description="Keep pages of one host on one side (host) or not (id).")
    near_duplicates: bool = Field(default=True, description="Keep near-duplicates (by MinHash) on one side.")
    threshold: float = Field(default=0.5, ge=0.0, le=1.0, description="Probability from which the card calls a page positive.")
    target: TargetParams | None = Field(default=None, description="Choose a threshold for this precision or recall; null: do not.")
    prevalence: float | None = Field(
        default=None, gt=0.0, lt=1.0,
        description="Share of positive pages in the corpus, by which pages are weighed in every figure; null: as they were labelled.",
    )  # fmt: skip
    calibrate: bool = Field(default=False, description="Write calibrated scores; the card holds the calibration in any case.")
    sample_pages: int | None = Field(
        default=10_000, ge=100, description="Pages of the source, drawn by id, whose scores tell the corpus's size; null: none."
    )
    search: SearchParams | None = Field(default=None, description="Search fastText's settings; null: take those below.")
    lr: float = Field(default=0.5, gt=0.0, description="fastText learning rate.")
    epoch: int | None = Field(
        default=None, ge=1, description="fastText epochs; null: 100,000 page visits, but at least 5 epochs and at most 50."
    )
    dim: int = Field(default=16, ge=1, description="fastText vector size.")
    word_ngrams: int = Field(default=2, ge=1, description="fastText wordNgrams.")
    min_count: int = Field(default=3, ge=1, description="fastText minCount.")
    minn: int = Field(default=0, ge=0, description="fastText minn: shortest character n-gram; 0: none.")
    maxn: int = Field(default=0, ge=0, description="fastText maxn: longest character n-gram; 0: none.")
    bucket: int = Field(default=200_000, ge=1, description="fastText hash buckets for n-grams.")
    transformer: TransformerParams = Field(default=TransformerParams(), description="The encoder of embedding and encoder.")
    max_chars: int = Field(default=4000, ge=100, description="Characters of a page the classifier sees.")
    seed: int = Field(default=1, ge=0, description="Seed of training, of the search and of the bootstrap.")

    @model_validator(mode="after")
    def _fits(self) -> ClassifierParams:
        if self.search is not None and self.kind != "fasttext":
            raise ValueError(f"search is fastText's; leave it out for kind {self.kind}")
        if self.minn > self.maxn or (self.minn == 0) != (self.maxn == 0):
            raise ValueError("minn and maxn are both 0, or minn is at most maxn")
        if self.classes is not None:
            if len(set(self.classes)) != len(self.classes):
                raise ValueError("a class is listed twice")
            for name in ("target", "prevalence"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is of two classes; leave it out, or leave classes out")
            if self.calibrate:
                raise ValueError("calibrated scores are of two classes; leave calibrate out, or leave classes out")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The classes in the order of columns of probabilities; with two, the positive one is first."""
        return self.classes if self.classes is not None else (self.positive, "other")
