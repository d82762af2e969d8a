"""Answers on disk: what was put is got back, whatever happened to the file's end, and whoever else writes."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpus.labelling.answer import FAILURES, Verdict
from corpus.labelling.request_cache import Cached, open_cache, read_cache
from store.fingerprint import sha256_hex
from store.fs import Folder

ROOT = Path(__file__).resolve().parents[3]
VERDICTS = st.one_of(st.text(min_size=1).map(Verdict), st.sampled_from(sorted(FAILURES)).map(lambda f: Verdict(None, f)))
ANSWERS = st.builds(Cached, VERDICTS, st.integers(-1, 10**9), st.integers(-1, 10**9))


def key(number):
    return sha256_hex(str(number).encode())


def files(folder):
    return sorted(Path(folder).glob("answers-*.jsonl"))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ANSWERS, max_size=20), st.data())
def test_a_file_cut_anywhere_gives_all_whole_answers_back(tmp_path_factory, answers, data):
    folder = tmp_path_factory.mktemp("cache")
    with open_cache(Folder(str(folder))) as cache:
        for number, answer in enumerate(answers):
            cache.put(key(number), answer)
    (file,) = files(folder)
    whole = file.read_bytes()
    at = data.draw(st.integers(0, len(whole)))
    file.write_bytes(whole[:at])
    n_whole = whole[:at].count(b"\n")
    lost = [None] * (len(answers) - n_whole)
    assert [read_cache(Folder(str(folder))).get(key(i)) for i in range(len(answers))] == [*answers[:n_whole], *lost]
    with open_cache(Folder(str(folder))) as cache:
        assert len(cache) == n_whole
        cache.put(key("more"), Cached(Verdict("x")))
    assert file.read_bytes().startswith(whole[: whole[:at].rfind(b"\n") + 1])
    assert read_cache(Folder(str(folder))).get(key("more")) == Cached(Verdict("x"))


def test_damaged_lines_are_named_and_passed_over(tmp_path, caplog):
    folder = Folder(str(tmp_path))
    with open_cache(folder) as cache:
        for number in range(5):
            cache.put(key(number), Cached(Verdict("x"), number, number))
    (file,) = files(tmp_path)
    lines = file.read_bytes().splitlines(keepends=True)
    lines[1], lines[3] = b"\xff\x00 rubbish\n", lines[3].replace(b'"label":"x"', b'"label":null')
    file.write_bytes(b"".join(lines))
    with caplog.at_level(logging.WARNING):
        found = read_cache(folder)
    assert [found.get(key(i)) is not None for i in range(5)] == [True, False, True, False, True]
    assert "2 damaged lines" in caplog.text and str(file) in caplog.text


def test_failures_as_an_earlier_reader_saw_them_are_asked_again_and_labels_are_not(tmp_path):
    with open_cache(Folder(str(tmp_path))) as cache:
        cache.put(key(0), Cached(Verdict(None, "no_json")))
        cache.put(key(1), Cached(Verdict("x")))
    (file,) = files(tmp_path)
    file.write_bytes(file.read_bytes().replace(b'"reader":1', b'"reader":0'))
    found = read_cache(Folder(str(tmp_path)))
    assert found.get(key(0)) is None and found.get(key(1)) == Cached(Verdict("x"))


def test_the_first_answer_to_a_request_stays(tmp_path):
    for label in ("x", "y"):
        with open_cache(Folder(str(tmp_path))) as cache:
            cache.put(key(0), Cached(Verdict(label)))
    assert read_cache(Folder(str(tmp_path))).get(key(0)) == Cached(Verdict("x"))


def test_two_processes_write_two_files_and_read_both(tmp_path):
    code = """
import sys
from corpus.labelling.answer import Verdict
from corpus.labelling.request_cache import Cached, open_cache
from store.fs import Folder
with open_cache(Folder(sys.argv[1])) as cache:
    cache.put("00" * 32, Cached(Verdict("theirs")))
    print("there", flush=True)
    sys.stdin.readline()
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    other = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "there\n"
        with open_cache(Folder(str(tmp_path))) as cache:
            assert cache.get("00" * 32) == Cached(Verdict("theirs"))
            cache.put(key(1), Cached(Verdict("ours")))
        assert [f.read_bytes().count(b"\n") for f in files(tmp_path)] == [1, 1]
    finally:
        other.communicate("\n", timeout=30)
    with open_cache(Folder(str(tmp_path))) as cache:  # its lock ended with it
        assert len(cache) == 2
    assert len(files(tmp_path)) == 2


def test_looking_makes_nothing(tmp_path):
    assert len(read_cache(Folder(str(tmp_path / "none")))) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    from store.errors import ResourceError

    class Full:
        def write(self, data):
            raise OSError(28, "No space left on device")

        def fileno(self):
            return 0

    with open_cache(Folder(str(tmp_path))) as cache:
        file, cache._file = cache._file, Full()
        with pytest.raises(ResourceError, match="disk is full"):
            cache.put(key(0), Cached(Verdict("x")))
        cache._file = file
