"""The report of a run: one self-contained HTML page made from files alone.

``write_report`` reads a run's record (store.run) and the artifacts of its steps (store.artifact), and nothing else: no model, no
cluster, no network. It works on a run that is unfinished, failed, or has no training, because every piece is optional. The same
files give the same page, byte for byte. The page has no script and loads nothing (its Content-Security-Policy forbids both), every
text is escaped, and every text that came from a document or a model is masked (evaluation.report.mask) before it is shown.
"""

from evaluation.report.page import write_report

__all__ = ["write_report"]
