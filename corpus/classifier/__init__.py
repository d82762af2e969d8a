"""Classifiers from labelled pages: fastText, logistic regression on a frozen encoder, or a fine-tuned encoder; calibrated, with a card.

``run.train`` makes the artifact; ``ClassifierParams`` says which. See docs/classifier.md.
"""

from corpus.classifier.params import ClassifierParams, SearchParams, TargetParams, TransformerParams
from corpus.classifier.run import train

__all__ = ["ClassifierParams", "SearchParams", "TargetParams", "TransformerParams", "train"]
