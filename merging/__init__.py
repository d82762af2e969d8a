"""Checkpoints in, one checkpoint out: preflight, mergekit methods, what the merge really did."""
