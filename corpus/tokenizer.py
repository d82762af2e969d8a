"""Tokenizers: one that exists (a folder or a name on the hub), or a byte-level BPE trained on the corpus.

What turns text into ids is ``tokenizer.json``, run by the ``tokenizers`` library. transformers may read the same folder differently:
for some model types ``AutoTokenizer`` rebuilds the pre-tokeniser from a class of its own and silently changes ids. So a trained
tokenizer has exactly the pipeline that transformers rebuilds for Qwen2 (NFC, Qwen2's pre-tokenisation, byte-level), which is read
alike under every model type, and ``check_tokenizer`` refuses a foreign one that is not.

``<|endoftext|>`` closes a document and pads; ``<|im_start|>`` and ``<|im_end|>`` open and close the turns of a conversation (ChatML).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, model_validator
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from store.errors import InputError, RecipeError
from store.fingerprint import canonical_json, sha256_hex
from store.fs import FileEntry, Folder, digest_file
from store.params import ByContent, Json, Params

END_OF_TEXT = "<|endoftext|>"
SPECIAL_TOKENS = (END_OF_TEXT, "<|im_start|>", "<|im_end|>")
FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
         "tokenizer.model", "tekken.json", "vocab.json", "merges.txt")  # fmt: skip

# Qwen2's (Apache-2.0, transformers/models/qwen2): English contractions, words with one leading sign, single digits, runs of signs.
SPLIT = r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""

# Without a default system prompt: what a model is told is for the recipe to say.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# Probed with: so many tokens' texts, and what pre-tokenisers treat in ways of their own.
N_PROBES = 20_000
PROBE = "Die Prüfung: 12,5 mg/dl (±3 %)  it's\n\n\tCafe\u0301 Straße—„Zitat“ 日本語 नमस्ते 🩺\r\nx_1==2;   "


class TokenizerParams(Params):
    """Either ``source`` or ``vocab_size`` (train one)."""

    source: Annotated[str | None, ByContent] = Field(
        default=None, description="folder or hub name of a transformers tokenizer; identity is the content of its files"
    )
    vocab_size: int | None = Field(default=None, ge=512, description="train a byte-level BPE of so many tokens on the corpus")
    end_of_text: str | None = Field(
        default=None, description=f"token that closes a document; the tokenizer's own EOS if not given ({END_OF_TEXT} for Qwen)"
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> TokenizerParams:
        if (self.source is None) == (self.vocab_size is None):
            raise ValueError("give either source (a tokenizer that exists) or vocab_size (train one)")
        return self

    def identity(self, digest: Callable[[str], str]) -> dict[str, Json]:  # noqa: ARG002  the source is a folder, not a file
        """As Params.identity, with the source by the content of its files."""
        return super().identity(tokenizer_digest)


@dataclass(frozen=True)
class LoadedTokenizer:
    """A tokenizer for documents: no padding, no truncation."""

    tokenizer: Tokenizer
    eos_token: str
    eos_id: int

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return max(self.tokenizer.get_vocab(with_added_tokens=True).values()) + 1


def load_tokenizer(source: str, end_of_text: str | None = None) -> LoadedTokenizer:
    """Load the tokenizer of a folder or a hub name.

    Raises InputError if there is none, or if it has no token that closes a document (and ``end_of_text`` names none it knows).
    """
    folder = local_folder(source)
    path = os.path.join(folder, "tokenizer.json")
    tokenizer = Tokenizer.from_file(path) if os.path.isfile(path) else _converted(folder, source)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    token = end_of_text or _declared_eos(folder)
    eos_id = None if token is None else tokenizer.token_to_id(token)
    if token is None or eos_id is None:
        raise InputError(
            "the tokenizer names no end-of-text token" if token is None else f"the tokenizer has no token {token}", where=source,
            expected="eos_token in tokenizer_config.json, known to tokenizer.json",
            remedy="name the token that closes a document: tokenizer.end_of_text",
        )  # fmt: skip
    return LoadedTokenizer(tokenizer, token, eos_id)


def local_folder(source: str) -> str:
    """The local folder of a source; files of a hub name are fetched (once) into the hub's cache."""
    if os.path.isdir(source):
        return source
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return str(snapshot_download(source, allow_patterns=list(FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise InputError(
            f"no such folder, and not to be had from the hub ({type(error).__name__})", where=source,
            remedy="give the path of a folder with tokenizer.json",
        ) from error  # fmt: skip


def tokenizer_digest(source: str) -> str:
    """sha256 over the names and contents of a tokenizer's files: equal folders at different places have equal digests."""
    folder = local_folder(source)
    found = {f: digest_file(os.path.join(folder, f))[1] for f in FILES if os.path.isfile(os.path.join(folder, f))}
    if not found:
        raise InputError("there is no tokenizer here", where=source, expected=f"one of {', '.join(FILES[:2])}, tokenizer.model")
    return sha256_hex(canonical_json(dict(found)))


def _converted(folder: str, source: str) -> Tokenizer:
    """Older formats (SentencePiece, Tekken) as transformers converts them."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False).backend_tokenizer
    except (OSError, ValueError, ImportError, AttributeError) as error:
        raise InputError(
            f"cannot read the tokenizer ({type(error).__name__})", where=source, expected="a tokenizer.json",
            remedy="save it with transformers: AutoTokenizer.from_pretrained(x).save_pretrained(folder)",
        ) from error  # fmt: skip
    return tokenizer


def _declared_eos(folder: str) -> str | None:
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = os.path.join(folder, name)
        if not os.path.isfile(path):
            continue
        with open(path, encoding="utf-8") as file:
            token = json.load(file).get("eos_token")
        if token is not None:
            return str(token["content"] if isinstance(token, dict) else token)
    return None


def check_tokenizer(source: str, end_of_text: str | None = None) -> None:
    """RecipeError if transformers' AutoTokenizer gives other ids than tokenizer.json: trained on one code, served with another.

    Compared on the texts of the vocabulary itself: where the other reading cuts a text that this one has a token for, ids differ.
    """
    from transformers import AutoTokenizer

    ours = load_tokenizer(source, end_of_text).tokenizer
    try:
        theirs = AutoTokenizer.from_pretrained(local_folder(source), trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise InputError(
            f"transformers cannot load this tokenizer without running code from its folder ({type(error).__name__})", where=source,
            remedy="remove auto_map from tokenizer_config.json; tokenizer.json says all that is needed",
        ) from error  # fmt: skip
    size = ours.get_vocab_size(with_added_tokens=True)
    probes = [PROBE, *ours.decode_batch([[i] for i in range(0, size, max(1, size // N_PROBES))], skip_special_tokens=False)]
    if _ids(ours, probes) != _ids(theirs.backend_tokenizer, probes):
        raise RecipeError(
            f"transformers reads this tokenizer as {type(theirs).__name__} and gives other ids than its tokenizer.json", where=source,
            remedy="use the original folder of the model, or a tokenizer trained by the recipe (tokenizer.vocab_size)",
        )  # fmt: skip


def require_same_ids(source: str, model: str, end_of_text: str | None = None) -> None:
    """RecipeError if the tokenizer that lies beside a model gives other ids than ``source``: the model would learn noise.

    Compared on the texts of the vocabulary, added tokens left out (an instruct model may have more), and on the token that closes
    a document. A model without a tokenizer cannot be compared.
    """
    if not any(os.path.isfile(os.path.join(model, name)) for name in ("tokenizer.json", "tokenizer.model", "tekken.json")):
        return
    ours = load_tokenizer(source, end_of_text)
    path = os.path.join(model, "tokenizer.json")
    theirs = Tokenizer.from_file(path) if os.path.isfile(path) else _converted(model, model)
    theirs.no_padding()
    theirs.no_truncation()
    added, size = ours.tokenizer.get_added_tokens_decoder(), ours.tokenizer.get_vocab_size(with_added_tokens=True)
    ids = [i for i in range(0, size, max(1, size // N_PROBES)) if i not in added]
    probes = [PROBE, *ours.tokenizer.decode_batch([[i] for i in ids], skip_special_tokens=False)]
    if theirs.token_to_id(ours.eos_token) != ours.eos_id or _ids(ours.tokenizer, probes) != _ids(theirs, probes):
        raise RecipeError(
            "the model's own tokenizer gives other ids than that of the recipe", where=model,
            expected="a model trained on the tokens it was made for",
            remedy="set tokens.tokenizer.source to the model, and end_of_text to a token it has",
        )  # fmt: skip


def _ids(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def train_tokenizer(texts: Iterator[str], vocab_size: int, folder: Folder, prefix: str = "") -> list[FileEntry]:
    """Train a byte-level BPE (Sennrich et al. 2016) and write tokenizer.json, tokenizer_config.json and chat_template.jinja.

    The same texts give the same bytes, whatever the number of threads. There may be fewer than ``vocab_size`` tokens when the texts
    have too few different words. Memory: the distinct words of the texts with their counts.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=list(SPECIAL_TOKENS), show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    config: dict[str, Json] = {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END_OF_TEXT, "pad_token": END_OF_TEXT, "bos_token": None,
        "unk_token": None, "clean_up_tokenization_spaces": False, "add_prefix_space": False,
    }  # fmt: skip
    return [
        folder.write_bytes(f"{prefix}tokenizer.json", tokenizer.to_str(pretty=True).encode()),
        folder.write_bytes(f"{prefix}tokenizer_config.json", json.dumps(config, indent=1).encode()),
        folder.write_bytes(f"{prefix}chat_template.jinja", CHAT_TEMPLATE.encode()),
    ]
