"""The road through the command line: continue after kill -9, the same bytes for any worker count, errors in one sentence."""

import json
import os
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from store.artifact import MANIFEST, Artifact
from store.fs import Folder
from store.run import RunRecord

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TO_TOKENS = ["demo", "--until", "tokens/general", "--set", "corpus.source.sample.n_docs=3000", "--set", "corpus.source.unit_docs=300",
             "--set", "corpus.source.sample.docs_per_row_group=100", "--set", "tokens.tokenizer.vocab_size=1024"]  # fmt: skip


def definemed(*arguments, out, check=None, **environment):
    command = [sys.executable, "-m", "cluster.cli", *arguments, *(["--out", str(out)] if out else [])]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=900, env={**os.environ, **environment}, check=False
    )
    if check is not None:
        assert done.returncode == check, done.stderr[-3000:]
    return done


def content_hashes(out):
    """Step name -> content hash of every artifact of the only run below ``out``."""
    (run,) = os.listdir(out / "runs")
    record = RunRecord.read(Folder(str(out / "runs" / run)))
    return {s.name: Artifact.open(Folder(str(out)) / s.folder).manifest.content_hash for s in record.steps}


@pytest.mark.slow
def test_killed_and_continued_and_one_worker_give_the_bytes_of_an_undisturbed_run(tmp_path):
    run = ["run", *TO_TOKENS, "--address", "local"]
    definemed(*run, out=tmp_path / "whole", check=0)
    expected = content_hashes(tmp_path / "whole")
    assert {"documents", "dedup", "select", "tokens/general"} <= set(expected)

    command = [sys.executable, "-m", "cluster.cli", *run, "--out", str(tmp_path / "killed")]
    victim = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    documents = tmp_path / "killed" / "artifacts" / "documents"
    finished = wait_for_receipts(documents, victim, at_least=2)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert not list(documents.glob(f"*/{MANIFEST}")), "killed too late to prove anything"
    assert finished >= 2
    done = definemed(*run, out=tmp_path / "killed", check=0)
    assert "sample" in done.stderr
    assert content_hashes(tmp_path / "killed") == expected

    definemed(*run, "--set", "cluster.workers=1", out=tmp_path / "one", check=0, PYTHONHASHSEED="7")
    assert content_hashes(tmp_path / "one") == expected
    again = definemed(*run, out=tmp_path / "one", check=0)
    assert "found finished" in again.stderr and "run  " not in again.stderr


def wait_for_receipts(documents, process, at_least):
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        receipts = list(documents.glob("*/_tasks/*.json"))
        if len(receipts) >= at_least:
            return len(receipts)
        time.sleep(0.01)
    raise AssertionError("the run never got to its documents step")


def recipe(tmp_path, **corpus):
    pq.write_table(pa.table({"text": ["Ein Satz."] * 20, "id": [str(i) for i in range(20)]}), tmp_path / "pages.parquet")
    data = {
        "name": "small",
        "corpus": {"source": {"files": [str(tmp_path / "pages.parquet")]}, "stages": [{"stage": "signature"}], **corpus},
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    return str(tmp_path / "r.yaml")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "dmo"], "there is no such recipe"),
        (["run", "RECIPE", "--set", "corpus.dedup.kep=first"], "did you mean keep?"),
        (["run", "RECIPE", "--set", "corpus.source.files=[/no/where.parquet]"], "no file matches"),
        (["run", "RECIPE", "--set", "corpus.dropped_text_share=much"], "valid number"),
        (["run", "RECIPE", "--until", "tokenise"], "there is no step tokenise"),
        (["run", "RECIPE", "--address", "ray://127.0.0.1:1"], "127.0.0.1:1"),
        (["inspect", "/no/such/artifact"], "no complete artifact"),
        (["report", "/no/such/run"], "not the folder of a run"),
    ],
)
def test_what_a_user_gets_wrong_is_one_sentence_and_exit_code_2(tmp_path, arguments, words):
    arguments = [recipe(tmp_path) if a == "RECIPE" else a for a in arguments]
    done = definemed(*arguments, out=tmp_path / "out" if arguments[0] == "run" else None, check=2)
    assert "Traceback" not in done.stderr and words in done.stderr
    assert len(done.stderr.strip().splitlines()[-1]) > 20
    debug = definemed(*arguments, "--debug", out=tmp_path / "out" if arguments[0] == "run" else None)
    assert "Traceback" in debug.stderr and debug.returncode != 0


def test_a_full_disk_is_one_sentence_and_finished_work_is_kept(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], check=False).returncode:
        pytest.skip("needs a mount of its own")
    try:
        done = definemed("run", "demo", "--until", "sample", "--address", "local", out=small, check=2)
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)
    assert "the disk is full" in done.stderr and "Traceback" not in done.stderr


def test_plan_shows_passes_steps_and_unreachable_sources(tmp_path):
    done = definemed("plan", "demo", out=tmp_path, check=0)
    for words in ("passes", "normalise > language", "barrier", "train/continued", "merge/merged", "evaluate"):
        assert words in done.stdout
    unreachable = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hub")}
    real = definemed("plan", "definemed-qwen2.5-7b", out=tmp_path, check=0, **unreachable)
    assert "Traceback" not in real.stderr and "nor to be had from the hub" in " ".join(real.stdout.split())
    assert "495,964,485" in real.stdout and "slerp of instruct and continued" in " ".join(real.stdout.split())


def test_schema_is_json_and_help_lists_the_commands():
    assert "corpus" in json.loads(definemed("schema", out=None, check=0).stdout)["properties"]
    text = definemed("--help", out=None, check=0).stdout
    assert all(c in text for c in ("run", "plan", "inspect", "report", "schema", "doctor", "--debug"))
