"""Tiny models made once per session: without BOS (as Qwen2), with BOS (as Llama), and one that knows three answers by heart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

TEXTS = [
    "Die Patientin klagt über Brustschmerzen und Atemnot; sie wird sofort aufgenommen.",
    "Der Arzt verordnet dreimal täglich eine Tablette Amoxicillin.",
    "Morgen wird das Wetter schön, und die Kinder spielen im Garten.",
    "Grüße aus Köln! Größe: 1,80 m – Maße siehe Anhang 😀.",
    "Hm.",
    "Blutdruck und Puls wurden gemessen. " * 30,
]
LEARNT = {
    "Was ist Amoxicillin?": "Amoxicillin ist ein Penicillin.",
    "Wo schlägt das Herz?": "In der Brust.",
    "What is a fever?": "A high temperature.",
}
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer(bos: bool = False, template: bool = True):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(["<s>"] if bos else [])]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe.train_from_iterator(
        TEXTS * 3, trainers.BpeTrainer(vocab_size=380, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    )
    if bos:
        bpe.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bpe.token_to_id("<s>"))])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>", bos_token="<s>" if bos else None
    )
    fast.chat_template = TEMPLATE if template else None
    return fast


def network(fast, seed: int, bos: bool = False, hidden: int = 32):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    settings = {
        "vocab_size": len(fast), "hidden_size": hidden, "intermediate_size": 2 * hidden, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "eos_token_id": fast.eos_token_id,
        "pad_token_id": fast.pad_token_id, "bos_token_id": fast.bos_token_id, "initializer_range": 0.2,
    }  # fmt: skip
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**settings)) if bos else Qwen2ForCausalLM(Qwen2Config(**settings))


def _save(model, fast, folder: Path) -> str:
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """make_model(seed, bos=False, template=True) -> folder of a model with random weights."""

    def make(seed: int, bos: bool = False, template: bool = True) -> str:
        fast = tokenizer(bos, template)
        return _save(network(fast, seed, bos), fast, tmp_path_factory.mktemp("model"))

    return make


@pytest.fixture(scope="session")
def plain(make_model) -> str:
    return make_model(1)


@pytest.fixture(scope="session")
def with_bos(make_model) -> str:
    return make_model(2, bos=True, template=False)


@pytest.fixture(scope="session")
def scholar(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that answers LEARNT word for word through its chat template, and then stops."""
    import torch

    fast = tokenizer()
    model = network(fast, 3, hidden=64)
    rows = []
    for question, answer in LEARNT.items():
        prompt = fast.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False)
        rows.append(fast(prompt + answer + "<|im_end|>")["input_ids"])
    width = max(map(len, rows))
    ids = torch.tensor([r + [0] * (width - len(r)) for r in rows])
    labels = torch.tensor([r + [-100] * (width - len(r)) for r in rows])
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(80):
        loss = model(ids, attention_mask=(labels != -100).long(), labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1
    return _save(model, fast, tmp_path_factory.mktemp("scholar"))


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[..., str]:
    """jsonl(name, rows) -> path of a JSONL file."""

    def write(name: str, rows: list[object]) -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
        return str(path)

    return write


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return TEXTS


@pytest.fixture(scope="session")
def learnt() -> dict[str, str]:
    return LEARNT
