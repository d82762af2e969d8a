"""Tiny models of real architectures, made once per session: a parent and the same parent with every weight moved a little."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

SENTENCES = [
    "Die Patientin klagt über Brustschmerzen und Atemnot.",
    "Der Arzt verordnet dreimal täglich eine Tablette Amoxicillin.",
    "Morgen wird das Wetter schön, und die Kinder spielen im Garten.",
] * 4
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MakeModel = Callable[..., str]


def tokenizer(extra: tuple[str, ...] = ()):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>", *extra],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(SENTENCES, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = TEMPLATE
    return fast


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    """make_model(seed, parent=None, noise=0.0, arch="qwen2", dtype="float32", extra=(), **config) -> folder."""

    def make(seed: int, parent: str | None = None, noise: float = 0.0, arch: str = "qwen2", dtype: str = "float32",
             extra: tuple[str, ...] = (), template: bool = True, **config: object) -> str:  # fmt: skip
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

        fast = tokenizer(extra)
        settings: dict[str, object] = {
            "vocab_size": len(fast), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "max_position_embeddings": 128, "eos_token_id": fast.eos_token_id,
            "pad_token_id": fast.pad_token_id, "bos_token_id": None, **config,
        }  # fmt: skip
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(Qwen2Config(**settings)) if arch == "qwen2" else LlamaForCausalLM(LlamaConfig(**settings))
        if parent is not None:
            base = type(model).from_pretrained(parent, dtype=torch.float32).state_dict()
            moved = {k: v + noise * torch.randn(v.shape) * v.pow(2).mean().sqrt().clamp_min(1e-3) for k, v in base.items()}
            model.load_state_dict(moved)
        folder = str(tmp_path_factory.mktemp("model"))
        model.to(getattr(torch, dtype)).save_pretrained(folder)
        if not template:
            fast.chat_template = None
        fast.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def parents(make_model: MakeModel) -> tuple[str, str]:
    """(instruct, trained), float32, every weight moved by 30 %: angles far above mergekit's linear fallback."""
    instruct = make_model(1)
    return instruct, make_model(2, parent=instruct, noise=0.3)


def read(folder: str) -> dict:
    from safetensors.torch import load_file

    return {k: v for f in sorted(Path(folder).glob("*.safetensors")) for k, v in load_file(f).items()}


@pytest.fixture(scope="session")
def tensors() -> Callable[[str], dict]:
    return read
