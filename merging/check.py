"""What must hold after a merge: the layout of the instruct parent, and a model that loads and generates."""

from __future__ import annotations

import os

from merging.weights import DTYPES, TensorEntry, read_headers
from store.errors import StepError
from store.models import ModelFolder

PROMPT = "1 2 3"
N_NEW_TOKENS = 4


def same_layout(merged: dict[str, TensorEntry], instruct: ModelFolder, dtype: str) -> None:
    """StepError unless the merged model has exactly the parent's tensors, in the number format asked for."""
    parent = read_headers(instruct)
    layout = {n: e.shape for n, e in merged.items()}
    if layout != {n: e.shape for n, e in parent.items()}:
        different = sorted(n for n in layout.keys() | parent.keys() if n not in parent or layout.get(n) != parent[n].shape)
        raise StepError(f"mergekit's result has not the tensors of its parents: {', '.join(different[:3])}", where="step merge",
                        remedy="mergekit may not know this architecture: update it")  # fmt: skip
    wrong = sorted(n for n, e in merged.items() if DTYPES.get(e.dtype) != dtype)
    if wrong:
        raise StepError(f"the merged tensor {wrong[0]} is {merged[wrong[0]].dtype}", where="step merge", expected=dtype)


def generates(folder: str, device: str = "cpu") -> list[int]:
    """Load the model with transformers and generate greedily; StepError if its scores are not finite. Returns the new token ids."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", local_files_only=True, trust_remote_code=False)
    model = model.to(device).eval()  # type: ignore[arg-type]  # transformers wraps to() in an untyped decorator
    # tokenizer.json verbatim: AutoTokenizer may rebuild it from the class that config.json suggests and change the ids.
    fast = os.path.isfile(os.path.join(folder, "tokenizer.json"))
    tokenizer = (PreTrainedTokenizerFast if fast else AutoTokenizer).from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    ids = torch.tensor([tokenizer(PROMPT)["input_ids"]], device=device)
    with torch.inference_mode():
        if not bool(model(ids).logits.isfinite().all()):
            raise StepError("the merged model's scores are not finite", where="step merge")
        out = model.generate(ids, max_new_tokens=N_NEW_TOKENS, do_sample=False)
    return [int(i) for i in out[0, ids.shape[1] :]]
