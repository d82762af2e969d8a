"""Model folders: Hugging Face layout, safetensors only, checked without torch.

A model artifact keeps its model under ``model/``: config.json, *.safetensors, tokenizer files, and for instruct models
chat_template.jinja (or chat_template in tokenizer_config.json) and generation_config.json.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

from store.errors import InputError
from store.fs import digest_file

MODEL = "model"


@dataclass(frozen=True)
class ModelFolder:
    """A local folder with a transformers model."""

    path: str

    @classmethod
    def open(cls, path: str) -> ModelFolder:
        """Check that the folder is a model with safetensors weights; InputError says what is missing."""
        if not os.path.isfile(os.path.join(path, "config.json")):
            raise InputError("this is not a model folder (config.json is missing)", where=path,
                             expected="a transformers model folder, or the name of a model on the hub")  # fmt: skip
        if not any(f.endswith(".safetensors") for f in os.listdir(path)):
            raise InputError("the model has no safetensors weights", where=path,
                             remedy="convert it with model.save_pretrained(folder, safe_serialization=True)")  # fmt: skip
        return cls(path)

    @property
    def config(self) -> dict[str, object]:
        with open(os.path.join(self.path, "config.json"), encoding="utf-8") as file:
            return dict(json.load(file))

    @property
    def has_chat_template(self) -> bool:
        if os.path.isfile(os.path.join(self.path, "chat_template.jinja")):
            return True
        name = os.path.join(self.path, "tokenizer_config.json")
        if not os.path.isfile(name):
            return False
        with open(name, encoding="utf-8") as file:
            return bool(json.load(file).get("chat_template"))

    def digests(self) -> dict[str, str]:
        """sha256 of every file by relative name: the identity of a model given by path."""
        found = [os.path.join(d, f) for d, _, files in os.walk(self.path) for f in files]
        return {os.path.relpath(f, self.path): digest_file(f)[1] for f in sorted(found)}
