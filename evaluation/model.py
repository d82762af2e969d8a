"""A model folder opened for evaluation: weights, the tokenizer exactly as it is on disk, and the token texts start with."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from store.errors import InputError, ResourceError
from store.models import ModelFolder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class OpenModel:
    """A model in evaluation mode on its device.

    Attributes:
        start_id: the token every scored text starts after, so that its first token, and hence every byte, is predicted: BOS; where the
            tokenizer has none (Qwen), ``<|endoftext|>``, which separated documents when the model was trained; else EOS.
        max_context: positions the model was made for.
    """

    folder: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    start_id: int
    max_context: int

    @property
    def has_chat_template(self) -> bool:
        return bool(self.tokenizer.chat_template)


def choose_device(device: str) -> str:
    """ "auto" is CUDA where there is one. ResourceError if CUDA is asked for and absent."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ResourceError("CUDA is not available on this machine", where="step evaluate", remedy="use device cpu or auto")
    return device


def open_model(folder: str, device: str = "auto", dtype: str = "auto") -> OpenModel:
    """Load a local model folder (safetensors only, no remote code, no network)."""
    from transformers import AutoModelForCausalLM

    ModelFolder.open(folder)
    tokenizer = open_tokenizer(folder)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, local_files_only=True, use_safetensors=True, trust_remote_code=False
    )
    model = model.to(choose_device(device)).eval()  # type: ignore[arg-type]  # transformers wraps to() in an untyped decorator
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return OpenModel(folder, model, tokenizer, _start_id(tokenizer, folder), int(limit or 1 << 30))


def open_tokenizer(folder: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder.

    tokenizer.json is taken verbatim where there is one: AutoTokenizer may rebuild it as the class that config.json suggests, and a
    vocabulary of one's own then gets other ids without a word.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    kind = PreTrainedTokenizerFast if os.path.isfile(os.path.join(folder, "tokenizer.json")) else AutoTokenizer
    return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _start_id(tokenizer: PreTrainedTokenizerBase, folder: str) -> int:
    if tokenizer.bos_token_id is not None:
        return int(tokenizer.bos_token_id)
    found = tokenizer.get_vocab().get(END_OF_TEXT, tokenizer.eos_token_id)
    if found is None:
        raise InputError("the tokenizer has neither a start nor an end token", where=folder,
                         remedy="set bos_token or eos_token in tokenizer_config.json")  # fmt: skip
    return int(found)
