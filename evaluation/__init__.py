"""Checkpoint in, scores out: likelihood, multiple choice, answers, statistics, and the report of a run."""
