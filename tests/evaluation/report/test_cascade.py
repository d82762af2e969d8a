"""The chapter on what a first step loses: sentences with their numbers, a warning, and nothing where nothing is known."""

from evaluation.report.blocks import Figure, Note, Paragraph
from evaluation.report.cascade import blocks_of

ROW = {"threshold": 0.5, "recall_lost": 0.021, "recall_lost_low": 0.01, "recall_lost_high": 0.043}
CHOSEN = {"after": "score", "n_dropped": 9000, "n_checked": 500, "source": ROW, "labels": {**ROW, "n_test": 200, "n_dropped": 4}}
CURVES = {"source": [ROW, {**ROW, "threshold": 0.6}], "labels": []}


def test_the_loss_is_said_and_drawn():
    found = blocks_of("fine", CURVES, {**CHOSEN, "warning": "the first step may lose 4.3 %"})
    assert [type(b) for b in found] == [Paragraph, Note, Figure]
    text = found[0].text
    assert "The stage score dropped 9,000 pages before fine; 500 of them" in text
    assert "loses 2.1 % (1.0 to 4.3 %) of the pages that fine would take" in text and "200 positive test pages" in text
    assert found[1].kind == "warning" and found[1].text == "The first step may lose 4.3 %."
    assert len(found[2].legend) == 3  # labels have no curve


def test_nothing_known_is_nothing_said():
    assert blocks_of("fine", {}, {}) == []
    assert [type(b) for b in blocks_of("fine", {}, {k: v for k, v in CHOSEN.items() if k != "source"})] == [Paragraph]
