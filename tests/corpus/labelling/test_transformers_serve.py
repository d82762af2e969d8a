"""A real server, ``transformers serve``, with a tiny model made here: it learns to answer a short prompt."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from corpus.labelling.ask_params import AskParams
from corpus.labelling.prompt import Prompt

for needed in ("fastapi", "uvicorn", "openai"):
    pytest.importorskip(needed, reason="transformers serve needs it")

pytestmark = pytest.mark.slow
PROMPT = "name: short\nuser: |\n  {page}\n  {names}?\n"
LABELS = [("medical", "health"), ("other", "the rest")]
WORDS = {"medical": ("Arzt", "Klinik", "Diagnose"), "other": ("Auto", "Verein", "Rezept")}
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
START_S = 180


def planted(number):
    label = LABELS[number % 2][0]
    return label, f"{WORDS[label][number % 3]} Seite {number}"


def learn(model, tokenizer, prompt, n_steps):
    """Teach it to answer the prompt about pages of the six words; loss on the answer only."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(n_steps):
        texts, heads = [], []
        for number in range(1000 + step * 16, 1016 + step * 16):
            label, text = planted(number * 7 % 6 + number // 6 * 6)
            head = tokenizer.apply_chat_template(prompt.messages(LABELS, text, 1), tokenize=False, add_generation_prompt=True)
            heads.append(len(tokenizer(head)["input_ids"]))
            texts.append(head + json.dumps({"label": label}) + "<|im_end|>")
        batch = tokenizer(texts, return_tensors="pt", padding=True)
        targets = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        for row, n in enumerate(heads):
            targets[row, :n] = -100
        loss = model(**batch, labels=targets).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

    folder = tmp_path_factory.mktemp("tiny")
    (folder / "short.yaml").write_text(PROMPT, encoding="utf-8")
    prompt = Prompt.read(str(folder / "short.yaml"))
    pages = [planted(i)[1] for i in range(200)]
    lines = [m["content"] for p in pages for m in prompt.messages(LABELS, p, 1)] + [json.dumps({"label": x}) for x, _ in LABELS] * 50
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Qwen2Tokenizer().train_new_from_iterator(lines, 600, new_special_tokens=special[1:])
    tokenizer.chat_template, tokenizer.padding_side = TEMPLATE, "right"
    torch.manual_seed(1)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a model gains nothing from more
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=4096, eos_token_id=end, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config)
    loss = learn(model, tokenizer, prompt, 250)
    torch.set_num_threads(n_threads)
    assert loss < 0.05, loss
    model.save_pretrained(folder / "tiny")
    tokenizer.save_pretrained(folder / "tiny")
    return folder


@pytest.fixture(scope="module")
def address(model_folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(model_folder / "tiny"), "--host", "127.0.0.1",
               "--port", str(port), "--device", "cpu", "--dtype", "float32"]  # fmt: skip
    with (model_folder / "serve.log").open("wb") as log:
        serving = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", serving, model_folder / "serve.log")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        serving.terminate()
        serving.wait(30)


def wait_for(url, serving, log):
    end = time.monotonic() + START_S
    while time.monotonic() < end and serving.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"transformers serve did not start: {Path(log).read_text(errors='replace')[-2000:]}")


def params(folder, address, prompts, **more):
    labels = [{"name": name, "about": about} for name, about in LABELS]
    model = {"name": str(folder / "tiny"), "endpoint": {"url": address, "concurrency": 2}}
    return AskParams.model_validate({"labels": labels, "prompts": prompts, "models": [model], "max_tokens": 24, **more})


def greedy(folder, pages):
    """What the model says when it is asked here."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (c.from_pretrained(folder / "tiny") for c in (AutoModelForCausalLM, AutoTokenizer))
    prompt, found = Prompt.read(str(folder / "short.yaml")), []
    for page in pages:
        head = tokenizer.apply_chat_template(prompt.messages(LABELS, page, 1), add_generation_prompt=True, return_tensors="pt")[
            "input_ids"
        ]
        told = model.generate(head, attention_mask=head.new_ones(head.shape), max_new_tokens=24, do_sample=False)
        found.append(json.loads(tokenizer.decode(told[0, head.shape[1] :], skip_special_tokens=True))["label"])
    return found


def test_a_real_server_gives_labels_and_a_second_run_asks_nothing(bench, model_folder, address):
    n = 24
    bench.write(n, [planted(i)[1] for i in range(n)])
    asked = params(model_folder, address, [str(model_folder / "short.yaml")])
    found = bench.ask(asked)
    labels = [r["label"] for r in pq.read_table(found.path("labels.parquet")).to_pylist()]
    assert labels == greedy(model_folder, [planted(i)[1] for i in range(n)])
    assert sum(label == planted(i)[0] for i, label in enumerate(labels)) >= 20 and len(set(labels)) == 2
    assert found.provenance()["requests_sent"] == n and found.provenance()["tokens_in"] > n * 20
    again = bench.ask(asked)
    assert again.manifest == found.manifest and again.provenance()["requests_sent"] == 0


def test_answers_that_are_cut_off_are_reported_and_never_a_label(bench, model_folder, address):
    n = 6
    bench.write(n, [planted(i)[1] for i in range(n)])
    found = bench.ask(params(model_folder, address, ["en"], max_tokens=2))
    voter = found.manifest.summary["voters"][0]
    assert voter["failure_rate"] == 1.0 and voter["asked_again"] == n and voter["without_label"] == {"cut_off": n}
    assert found.manifest.counts == {"read": n, "labelled": 0, "unlabelled/no_readable_answer": n}
    assert found.provenance()["requests_sent"] == 2 * n
