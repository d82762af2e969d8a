"""Identity comes from the parameters themselves: every field counts unless it is marked, files by content, paths never."""

from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from store.fingerprint import canonical_json, fingerprint, sha256_hex
from store.params import ByContent, Execution, FileByContent, Params

CONTENT = {"/a/model.bin": b"weights", "/b/copy.bin": b"weights", "/a/other.bin": b"other"}
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
jsons = st.recursive(
    st.none() | st.booleans() | numbers | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4),
)


def digest(path):
    return sha256_hex(CONTENT[path])


class Rule(Params):
    kind: Literal["length"] = "length"
    least: int | None = None


class Job(Params):
    model: FileByContent
    lists: Annotated[tuple[str, ...], ByContent] = ()
    rules: tuple[Rule, ...] = ()
    threshold: float = 0.5
    batch_docs: Annotated[int, Execution] = 1000


def test_files_count_by_content_and_execution_not_at_all():
    a = Job(model="/a/model.bin", batch_docs=1).identity(digest)
    b = Job(model="/b/copy.bin", batch_docs=9).identity(digest)
    assert a == b == {"model": sha256_hex(b"weights"), "lists": [], "rules": [], "threshold": 0.5}
    assert Job(model="/a/other.bin").identity(digest) != a
    one, two = (
        Job(model="/a/model.bin", lists=x).identity(digest)["lists"] for x in (("/a/model.bin",), ("/a/model.bin", "/a/other.bin"))
    )
    assert (len(one), len(two)) == (1, 2)


def test_off_is_not_zero():
    off, zero = (Job(model="/a/model.bin", rules=(Rule(least=x),)).identity(digest) for x in (None, 0))
    assert fingerprint("s", 1, off, {}) != fingerprint("s", 1, zero, {})


def test_parameters_are_frozen_and_closed():
    job = Job(model="/a/model.bin")
    with pytest.raises(ValidationError):
        job.threshold = 1.0
    with pytest.raises(ValidationError, match="treshold"):
        Job(model="/a/model.bin", treshold=0.1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_without_canonical_form_is_refused_before_it_reaches_a_fingerprint(value):
    with pytest.raises(ValidationError, match="finite number"):
        Job(model="/a/model.bin", threshold=value)


def test_a_marker_that_would_be_lost_is_refused():
    with pytest.raises(TypeError, match="put the marker outermost"):

        class _Hidden(Params):
            file: FileByContent | None = Field(default=None)


def test_a_set_has_no_canonical_form():
    class Loose(Params):
        names: frozenset[str] = frozenset({"a"})

    with pytest.raises(TypeError, match="frozenset has no canonical form"):
        Loose().identity(digest)


@given(jsons)
def test_canonical_json_is_one_byte_string_per_value(value):
    import json

    text = canonical_json(value)
    assert canonical_json(json.loads(text)) == text and b"\n" not in text
    if isinstance(value, dict):
        assert canonical_json(dict(reversed(value.items()))) == text


@given(jsons, jsons)
def test_different_values_have_different_bytes(a, b):
    def typed(v):  # 1 == 1.0 == True in Python, not in JSON
        if isinstance(v, dict):
            return {k: typed(x) for k, x in v.items()}
        return [typed(x) for x in v] if isinstance(v, list) else (type(v).__name__, repr(v))

    assert (canonical_json(a) == canonical_json(b)) == (typed(a) == typed(b))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_numbers_without_json_are_refused(bad):
    with pytest.raises(ValueError, match="no canonical JSON form"):
        canonical_json(bad)


def test_fingerprints_are_fixed_for_ever():
    """Artifacts on users' disks are found by these: a change here orphans them all."""
    found = fingerprint("documents", 1, {"b": 0.1, "a": ["ü", None, True]}, {"source": "00"})
    text = b'{"inputs":{"source":"00"},"params":{"a":["\xc3\xbc",null,true],"b":0.1},"step":"documents","version":1}'
    assert found == sha256_hex(text)
    assert len({found, fingerprint("documents", 2, {"b": 0.1, "a": ["ü", None, True]}, {"source": "00"})}) == 2
