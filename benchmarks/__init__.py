"""Benchmarks: scripts that measure, compare with peers, check that the answers agree, and write benchmarks/results/NAME.json."""
