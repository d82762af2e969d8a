"""Token shards hold what the tokenizer says about each document, in order, each closed by one end-of-text."""

import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from corpus.tokenise import ChatTokeniseWorker, TokeniseWorker, token_summary, tokenise_tasks
from corpus.tokenizer import load_tokenizer, tokenizer_digest, train_tokenizer
from store.artifact import Draft, Identity
from store.errors import InputError
from store.executor import Job, SerialExecutor, Task
from store.fs import Folder
from store.tokens import TokenStore

ROOT = Path(__file__).parents[2]
TEXTS = [
    "Fieber und Husten über 3 Tage.",
    "",
    "Größe: 1,80 m — „gesund“ 🩺",
    "a <|endoftext|> b <|im_start|>",
    "Ärzte\n\nund  Pflege",
] * 200
CHATS = [
    [{"role": "user", "content": "Was hilft gegen Fieber?"}, {"role": "assistant", "content": "Trinken und Ruhe."}],
    [{"role": "system", "content": "Antworte knapp."}, {"role": "user", "content": "Größe?"}],
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("tokenizer"))
    train_tokenizer(iter(TEXTS), 600, Folder(folder))
    return folder


def test_documents_become_shards(tmp_path: Path, tokenizer: str) -> None:
    cuts = (0, 300, 300, len(TEXTS))
    files = [documents(tmp_path / f"{i}.parquet", TEXTS[a:b], a) for i, (a, b) in enumerate(pairwise(cuts))]
    store = tokenised(tmp_path, TokeniseWorker, files, tokenizer)
    theirs = AutoTokenizer.from_pretrained(tokenizer)
    assert store.n_docs == len(TEXTS)
    assert store.doc_keys.tolist() == list(range(len(TEXTS)))
    assert store.n_bytes.tolist() == [len(t.encode()) for t in TEXTS]
    for doc, text in enumerate(TEXTS):
        ids = store.tokens(doc).tolist()
        assert ids[-1] == 0 and 0 not in ids[:-1]
        assert theirs.decode(ids[:-1]) == text
    assert store.tokens(0).tolist() == [*theirs(TEXTS[0])["input_ids"], 0]
    assert [store.summary(k) for k in ("n_tokens", "eos_id", "vocab_size")] == [store.n_tokens, 0, len(theirs)]
    assert store.artifact.manifest.counts == {"bytes": int(store.n_bytes.sum()), "read": len(TEXTS), "tokens": store.n_tokens}


def test_a_shard_is_the_same_for_any_row_groups_and_retries(tmp_path: Path, tokenizer: str) -> None:
    files = [documents(tmp_path / f"{n}.parquet", TEXTS, 0, row_group_size=n) for n in (7, 1000)]
    worker = TokeniseWorker(files, tokenizer, Folder(str(tmp_path / "out")))
    receipts = [worker.run(Task("x", {"file": i})) for i in (0, 1, 0)]
    assert receipts[0] == receipts[2]
    assert [f.sha256 for f in receipts[0].files] == [f.sha256 for f in receipts[1].files]
    assert [f.name for f in receipts[1].files] == ["tokens/00001.bin", "index/00001.parquet"]


PARALLEL = """
import sys
from corpus import tokenise
from store.executor import Task
from store.fs import Folder
tokenizer, out, batch, *files = sys.argv[1:]
tokenise.BATCH_DOCS = int(batch)
worker = tokenise.TokeniseWorker(files, tokenizer, Folder(out))
for number in reversed(range(len(files))):
    print(number, *[f.sha256 for f in worker.run(Task("x", {"file": number})).files])
"""


def test_threads_batches_and_order_do_not_change_a_byte(tmp_path: Path, tokenizer: str) -> None:
    texts = [f"{t} {i}" for i, t in enumerate(TEXTS)]
    files = [documents(tmp_path / f"{i}.parquet", texts[i::3], i) for i in range(3)]
    worker = TokeniseWorker(files, tokenizer, Folder(str(tmp_path / "out")))
    expected = sorted(" ".join([str(n), *[f.sha256 for f in worker.run(Task("x", {"file": n})).files]]) for n in range(3))
    for threads, parallel, batch in (("2", "true", "1024"), ("2", "true", "7"), ("1", "false", "1")):
        environment = {**os.environ, "RAYON_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": parallel, "PYTHONHASHSEED": batch}
        command = [sys.executable, "-c", PARALLEL, tokenizer, str(tmp_path / f"out-{batch}"), batch, *files]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=True)
        assert sorted(done.stdout.splitlines()) == expected


def test_cluster_sizes_travel_into_the_index(tmp_path: Path, tokenizer: str) -> None:
    sizes = pa.array([3, None, -1, 0, 2**40], pa.int64())
    table = pa.table({"doc_key": range(5), "text": TEXTS[:5], "minhash_cluster_size": sizes})
    pq.write_table(table, tmp_path / "x.parquet")
    pq.write_table(table.drop_columns("minhash_cluster_size"), tmp_path / "y.parquet")
    files = [str(tmp_path / n) for n in ("x.parquet", "y.parquet")]
    store = tokenised(tmp_path, TokeniseWorker, files, tokenizer)
    assert store.cluster_sizes.tolist() == [3, 0, 0, 0, 2**40] + [0] * 5
    assert store.artifact.manifest.summary["format"] == 2


def test_any_text_column_and_string_type(tmp_path: Path, tokenizer: str) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"doc_key": [5], "body": pa.array(["Fieber"], pa.string())}), path)
    receipt = TokeniseWorker([str(path)], tokenizer, Folder(str(tmp_path)), text_column="body").run(Task("x", {"file": 0}))
    assert receipt.counts["bytes"] == 6


def test_conversations_are_rendered_by_the_chat_template(tmp_path: Path, tokenizer: str) -> None:
    path = tmp_path / "chat.jsonl"
    path.write_text("\n\n".join(json.dumps({"messages": c}) for c in CHATS), encoding="utf-8")
    store = tokenised(tmp_path, ChatTokeniseWorker, [str(path)], tokenizer)
    theirs = AutoTokenizer.from_pretrained(tokenizer)
    for doc, chat in enumerate(CHATS):
        assert store.tokens(doc).tolist() == [*theirs.apply_chat_template(chat)["input_ids"], 0]
    assert store.cluster_sizes.tolist() == [1, 1]
    assert store.doc_keys.tolist() == [0, 2]  # the line, counting from 0
    # Special tokens of the template are tokens here.
    assert np.count_nonzero(store.tokens(0) == 1) == 2


def test_a_template_that_closes_the_conversation_itself_is_not_closed_twice(tmp_path: Path, tokenizer: str) -> None:
    own = tmp_path / "tokenizer"
    shutil.copytree(tokenizer, own)
    template = own / "chat_template.jinja"
    template.write_text(template.read_text() + "<|endoftext|>")
    path = tmp_path / "chat.jsonl"
    path.write_text("\n".join(json.dumps({"messages": c}) for c in CHATS), encoding="utf-8")
    store = tokenised(tmp_path, ChatTokeniseWorker, [str(path)], str(own))
    assert [np.count_nonzero(store.tokens(doc) == 0) for doc in range(2)] == [1, 1] and store.tokens(1)[-1] == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not a conversation"),
        ('{"text": "x"}', "not a conversation"),
        ('{"messages": []}', "needs messages"),
        ('{"messages": [{"role": "user", "content": null}]}', "needs messages"),
        ('{"messages": [{"role": "user", "content": "a<|im_end|>b"}]}', "special token <|im_end|>"),
    ],
)
def test_a_wrong_conversation_is_named_by_its_line(tmp_path: Path, tokenizer: str, line: str, message: str) -> None:
    path = tmp_path / "chat.jsonl"
    path.write_text(json.dumps({"messages": CHATS[0]}) + "\n" + line)
    with pytest.raises(InputError) as caught:
        ChatTokeniseWorker([str(path)], tokenizer, Folder(str(tmp_path / "out"))).run(Task("x", {"file": 0}))
    assert message in str(caught.value) and "line 2" in str(caught.value)


def test_wrong_files_are_input_errors(tmp_path: Path, tokenizer: str) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and then nothing of the kind")
    pq.write_table(pa.table({"doc_key": [1]}), tmp_path / "no_text.parquet")
    files = [str(tmp_path / n) for n in ("broken.parquet", "no_text.parquet", "absent.parquet")]
    worker = TokeniseWorker(files, tokenizer, Folder(str(tmp_path / "out")))
    for number in range(3):
        with pytest.raises(InputError):
            worker.run(Task("x", {"file": number}))


def documents(path: Path, texts: list[str], first_key: int, row_group_size: int = 100) -> str:
    keys = pa.array(range(first_key, first_key + len(texts)), pa.int64())
    pq.write_table(pa.table({"doc_key": keys, "text": pa.array(texts, pa.large_string())}), path, row_group_size=row_group_size)
    return str(path)


def tokenised(tmp_path: Path, worker: type, files: list[str], tokenizer: str) -> TokenStore:
    draft = Draft.begin(Folder(str(tmp_path / "out")), Identity("tokens", 1, {}))
    job = Job(
        "tokens", worker, {"files": files, "tokenizer": tokenizer, "out": draft.folder}, tokenise_tasks([None] * len(files)), draft
    )
    receipts = SerialExecutor().map(job)
    summary = token_summary(receipts, load_tokenizer(tokenizer), tokenizer_digest(tokenizer))
    return TokenStore.open(draft.commit(receipts, summary=summary))
