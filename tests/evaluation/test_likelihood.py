"""Bits per byte against a loop that scores one document at a time, and against lm-evaluation-harness."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.likelihood import read_texts, score_texts, windows
from evaluation.model import open_model
from store.errors import InputError


def naive(lm, text: str, context: int) -> float:
    """-ln p of one text: the token probabilities read off one by one, window by window."""
    import torch

    ids = lm.tokenizer(text, add_special_tokens=False)["input_ids"]
    x = [lm.start_id, *ids]
    total, done = 0.0, 0
    while done < len(ids):
        end = min(done + context, len(ids))
        begin = max(0, end - context)
        with torch.no_grad():
            log_p = lm.model(torch.tensor([x[begin:end]])).logits[0].double().log_softmax(-1)
        for target in range(done + 1, end + 1):
            total -= float(log_p[target - 1 - begin, x[target]])
        done = end
    return total


@pytest.mark.parametrize("which", ["plain", "with_bos"])
@pytest.mark.parametrize(("context", "tokens_per_batch"), [(2048, 4096), (16, 64), (16, 1), (7, 10_000)])
def test_equals_the_naive_loop(request, texts, which, context, tokens_per_batch):
    lm = open_model(request.getfixturevalue(which), "cpu")
    found = score_texts(lm, texts, context=context, tokens_per_batch=tokens_per_batch)
    wanted = [naive(lm, t, min(context, 128)) for t in texts]
    np.testing.assert_allclose(found.nats, wanted, rtol=1e-5)
    assert found.n_bytes.tolist() == [len(t.encode()) for t in texts]
    assert found.bits_per_byte.value == pytest.approx(sum(wanted) / math.log(2) / sum(len(t.encode()) for t in texts), rel=1e-5)


def test_equals_lm_evaluation_harness(plain, texts):
    """The harness starts from EOS where there is no BOS; given the same start token it must agree, long documents included."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    lm = open_model(plain, "cpu")
    harness = HFLM(pretrained=lm.model, tokenizer=lm.tokenizer, batch_size=2, backend="causal", prefix_token_id=lm.start_id)
    requests = [Instance("loglikelihood_rolling", {}, (t,), i) for i, t in enumerate(texts)]
    wanted = harness.loglikelihood_rolling(requests, disable_tqdm=True)
    assert max(len(lm.tokenizer(t)["input_ids"]) for t in texts) > lm.max_context
    np.testing.assert_allclose(-score_texts(lm, texts).nats, wanted, rtol=1e-5)


def test_the_start_token(plain, with_bos):
    assert open_model(plain, "cpu").tokenizer.convert_ids_to_tokens(open_model(plain, "cpu").start_id) == "<|endoftext|>"
    lm = open_model(with_bos, "cpu")
    assert lm.start_id == lm.tokenizer.bos_token_id


def test_a_vocabulary_of_ones_own_keeps_its_ids(plain, texts):
    """AutoTokenizer on a folder of type qwen2 would rebuild another tokenizer."""
    from tokenizers import Tokenizer

    lm = open_model(plain, "cpu")
    verbatim = Tokenizer.from_file(f"{plain}/tokenizer.json")
    for text in texts:
        assert lm.tokenizer(text, add_special_tokens=False)["input_ids"] == verbatim.encode(text, add_special_tokens=False).ids


def test_empty_texts_weigh_nothing(plain, texts):
    lm = open_model(plain, "cpu")
    found = score_texts(lm, ["", texts[0], ""])
    assert found.nats[[0, 2]].tolist() == [0.0, 0.0]
    assert found.bits_per_byte.value == pytest.approx(score_texts(lm, [texts[0]]).bits_per_byte.value, rel=1e-6)
    assert score_texts(lm, []).nats.tolist() == []


@given(st.integers(0, 300), st.integers(1, 40))
def test_windows_score_each_token_once(n_tokens, width):
    scored = []
    for begin, end, first in windows(n_tokens, width):
        assert 0 <= begin < end <= n_tokens
        assert end - begin <= width
        assert begin < first <= end
        scored += range(first, end + 1)
    assert scored == list(range(1, n_tokens + 1))


def test_documents_are_spread_over_all_files(tmp_path):
    names = []
    for f in range(3):
        table = pa.table({"text": [f"{f}-{i}" for i in range(20)], "n": list(range(20))})
        names.append(str(tmp_path / f"{f}.parquet"))
        pq.write_table(table, names[-1], row_group_size=7)
    every = [f"{f}-{i}" for f in range(3) for i in range(20)]
    assert read_texts(names, None) == every
    assert read_texts(names, 100) == every
    assert read_texts(names, 6) == every[::10]
    with pytest.raises(InputError, match=r"column body is missing.*found text, n"):
        read_texts(names, None, column="body")


def test_bad_held_out_files(tmp_path):
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "empty.parquet")
    with pytest.raises(InputError, match="no documents"):
        read_texts([str(tmp_path / "empty.parquet")], None)
    pq.write_table(pa.table({"text": ["a", None]}), tmp_path / "null.parquet")
    with pytest.raises(InputError, match="has nulls"):
        read_texts([str(tmp_path / "null.parquet")], None)
    (tmp_path / "no.parquet").write_text("no")
    with pytest.raises(InputError, match="not Parquet"):
        read_texts([str(tmp_path / "no.parquet")], None)
    with pytest.raises(InputError, match="no such file"):
        read_texts([str(tmp_path / "absent.parquet")], None)
