"""A synthetic German web corpus with recorded truth: pages, duplicates, junk, planted data."""
