"""The split: whole groups on one side, planted near-duplicates found, and pages that nothing moves but their own group."""

import numpy as np
import polars as pl
import pytest

from corpus.classifier.collect import host_of
from corpus.classifier.params import ClassifierParams
from corpus.classifier.split import split
from store.errors import InputError


def frame(write_page, n=300, copies=(), hosts=None, groups=None):
    """Pages; (i, j) of copies: page j becomes page i with two words changed."""
    texts = [write_page("medical" if i % 2 else "other", i, length=120) for i in range(n)]
    for i, j in copies:
        words = texts[i].split()
        words[40], words[90] = "anders", "neu"
        texts[j] = " ".join(words)
    columns = {
        "id": [f"id-{i:04d}" for i in range(n)], "label": ["medical" if i % 2 else "other" for i in range(n)],
        "group": groups or [None] * n, "host": hosts or [None] * n, "text": texts,
    }  # fmt: skip
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))


def test_near_duplicates_are_on_one_side_and_others_are_not_joined(write_page):
    copies = [(i, 200 + i) for i in range(0, 80)]
    pages = frame(write_page, copies=copies)
    found = split(pages, ClassifierParams(labels="x"))
    assert all(found.groups[i] == found.groups[j] and found.sides[i] == found.sides[j] for i, j in copies)
    assert found.n_near == 80 and len(np.unique(found.groups)) == 220
    without = split(pages, ClassifierParams(labels="x", near_duplicates=False))
    assert any(without.sides[i] != without.sides[j] for i, j in copies)


def test_hosts_and_groups_join_and_pages_without_a_host_stay_single(write_page):
    hosts = [f"host-{i % 30}" if i < 240 else None for i in range(300)]
    groups = ["a" if i in (0, 1) else None for i in range(300)]
    found = split(frame(write_page, hosts=hosts, groups=groups), ClassifierParams(labels="x", split_by="host", group_column="g"))
    for side in range(3):
        assert not {h for h, s in zip(hosts, found.sides, strict=True) if h and s == side} & {
            h for h, s in zip(hosts, found.sides, strict=True) if h and s != side
        }
    assert len(np.unique(found.groups)) == 29 + 60  # two hosts share the group a


def test_more_pages_move_no_other_group(write_page):
    small, large = frame(write_page, 200), frame(write_page, 300)
    params = ClassifierParams(labels="x")
    assert np.array_equal(split(small, params).sides, split(large, params).sides[:200])
    shares = np.bincount(split(large, params).sides) / 300
    assert 0.12 < shares[2] < 0.28 and 0.06 < shares[1] < 0.2


def test_one_group_cannot_be_split(write_page):
    pages = frame(write_page, hosts=["one"] * 300)
    with pytest.raises(InputError, match=r"is on the side of the \w+ pages \(1 groups"):
        split(pages, ClassifierParams(labels="x", split_by="host"))


def test_hosts():
    assert host_of("https://a.example/x") == "a.example"
    assert [host_of(u) for u in (None, "", "not an address", "http://[")] == [None] * 4
