"""A small language model made to answer the one question of a recipe, for trials of labelling where no large model can be served.

    python benchmarks/label_model.py RECIPE FOLDER --data FOLDER --tokenizer FOLDER [--pages 12000] [--minutes 9]
    python benchmarks/label_model.py RECIPE FOLDER --data FOLDER --tokenizer FOLDER --begin FOLDER --seed 2 --rate 3e-3

A transformer of two layers learns, from random weights, to answer the recipe's own prompt, filled by the product's own code with the
recipe's labels, by the label that FOLDER/truth/web.parquet has as topic_hint ("unsure" left out). It is shown the articles of
``is_for_model`` only, which the recipe is not to be run on: benchmarks/labelling_real.py draws from the others. FOLDER becomes a
transformers folder in float32 for `transformers serve`. --tokenizer is a transformers folder with a tokenizer and a chat template.

It stands for a large model that needs no such training, and speaks of nothing else: what comes of it is no measure of what language
models can do. AdamW, batches of 32, a rising and falling rate, loss of the answer's tokens; a third of the pages it is shown are
medical. --begin goes on from the weights of an earlier FOLDER.
"""

from __future__ import annotations

import argparse
import glob
import os
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import polars as pl  # noqa: E402
import pyarrow as pa  # noqa: E402
import torch  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402
from transformers import AutoTokenizer, DynamicCache, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase  # noqa: E402

from cluster.recipe import load_recipe  # noqa: E402
from corpus.draw import unit_interval  # noqa: E402
from corpus.labelling.ask_params import AskParams  # noqa: E402
from corpus.labelling.request import voters_of  # noqa: E402

MODEL_SHARE = 0.5
"""Of the articles, for the model."""
POSITIVE_SHARE, BATCH, WARMUP = 0.33, 32, 0.1
SIZE = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4}


def is_for_model(sources: pl.Series) -> pl.Series:
    """Whether the pages of an article (column source) are shown to the model; planted pages, which have no article, never."""
    return (_draws(sources, "article") < MODEL_SHARE) & (sources != "planted")


def _draws(names: pl.Series, salt: str) -> pl.Series:
    """A number in [0, 1) for each name, the same everywhere; another salt, another number."""
    return pl.Series("draw", unit_interval(pa.array(names.to_list(), pa.string()), pa.nulls(len(names)), f"label_model/{salt}"))


def shown(data: str, n: int) -> pl.DataFrame:
    """text, label of at most ``n`` pages of each label's share, in an order drawn by a hash of the id."""
    truth = pl.read_parquet(f"{data}/truth/web.parquet").filter(pl.col("topic_hint") != "unsure", pl.col("lang") == "deu")
    truth = truth.filter(is_for_model(truth["source"]))
    truth = truth.with_columns(_draws(truth["id"], "page")).sort("draw")
    yes, no = truth.filter(pl.col("topic_hint") == "medical"), truth.filter(pl.col("topic_hint") != "medical")
    rows = pl.concat([yes.head(n), no.head(n)]).select("id", label="topic_hint")
    pages = pl.concat([pl.read_parquet(f, columns=["id", "text"]) for f in sorted(glob.glob(f"{data}/web/*.parquet"))])
    found = rows.join(pages.unique("id", keep="first", maintain_order=True), on="id")  # in no order that one could rely on
    return found.with_columns(_draws(found["id"], "order")).sort("draw").select("text", "label")


def examples(params: AskParams, pages: pl.DataFrame, tokenizer: PreTrainedTokenizerBase) -> list[tuple[list[int], int]]:
    """(tokens of prompt and answer, number of the prompt's) of each page, as a server renders them."""
    (voter,) = voters_of(params)
    found = []
    for text, label in pages.iter_rows():
        messages = list(voter.request(0, text, 1).messages)
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        answer = f'{{"label": "{label}"}}{tokenizer.eos_token}'
        head = tokenizer(prompt, add_special_tokens=False).input_ids
        found.append((head + tokenizer(answer, add_special_tokens=False).input_ids, len(head)))
    return found


def train(model: LlamaForCausalLM, by_label: list[list[tuple[list[int], int]]], minutes: float, seed: int, rate: float) -> int:
    """As many batches as fit into the time; the number of pages seen. ``by_label``: examples of medical pages, and of the others."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01, betas=(0.9, 0.98))
    begin, losses, random = time.monotonic(), [], torch.Generator().manual_seed(seed)
    while (done := (time.monotonic() - begin) / (60 * minutes)) < 1:
        which = torch.rand(BATCH, generator=random) >= POSITIVE_SHARE
        rows = [by_label[int(w)][int(torch.randint(len(by_label[int(w)]), (1,), generator=random))] for w in which]
        optimizer.param_groups[0]["lr"] = rate * min(1.0, done / WARMUP + 0.02, (1 - done) / (1 - WARMUP))
        loss = answer_loss(model, rows)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if len(losses) % 20 == 0:
            print(f"{len(losses) * BATCH} pages, {time.monotonic() - begin:.0f} s, loss {sum(losses[-20:]) / 20:.4f}", flush=True)
    return len(losses) * BATCH


def answer_loss(model: LlamaForCausalLM, rows: list[tuple[list[int], int]]) -> torch.Tensor:
    """Mean loss of the answers' tokens. What all rows begin with is read once; padding stands behind: nothing looks back to it."""
    first, last = min(row for row, _ in rows), max(row for row, _ in rows)
    n_shared = next(i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    ids, wanted = torch.zeros(len(rows), max(len(r) for r, _ in rows) - n_shared, dtype=torch.long), []
    for i, (row, _) in enumerate(rows):
        ids[i, : len(row) - n_shared] = torch.tensor(row[n_shared:])
    cache = DynamicCache()
    model.model(input_ids=torch.tensor([rows[0][0][:n_shared]]), past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(len(rows))
    seen = torch.ones(len(rows), n_shared + ids.shape[1], dtype=torch.long)
    out = model.model(input_ids=ids, past_key_values=cache, attention_mask=seen, use_cache=True).last_hidden_state
    hidden = []
    for i, (row, n_prompt) in enumerate(rows):
        hidden.append(out[i, n_prompt - n_shared - 1 : len(row) - n_shared - 1])
        wanted += row[n_prompt:]
    return cross_entropy(model.lm_head(torch.cat(hidden)), torch.tensor(wanted))


def main() -> None:
    """Read, train, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="recipe with corpus.labelling.ask, one model and one prompt")
    parser.add_argument("folder", help="written")
    parser.add_argument("--data", required=True, help="folder with web/ and truth/")
    parser.add_argument("--tokenizer", required=True, help="transformers folder with a tokenizer and a chat template")
    parser.add_argument("--pages", type=int, default=12_000, help="of each label, at most")
    parser.add_argument("--minutes", type=float, default=9.0, help="of training")
    parser.add_argument("--begin", help="transformers folder of an earlier call; default: random weights")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    params = load_recipe(options.recipe).corpus.labelling.ask
    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)
    config = LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=2048, tie_word_embeddings=True, eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id, **SIZE,
    )  # fmt: skip
    model = LlamaForCausalLM.from_pretrained(options.begin) if options.begin else LlamaForCausalLM(config)
    pages = shown(options.data, options.pages)
    yes = pages["label"] == "medical"
    by_label = [examples(params, pages.filter(yes), tokenizer), examples(params, pages.filter(~yes), tokenizer)]
    mean = sum(len(r) for rows in by_label for r, _ in rows) / len(pages)
    print(f"{len(pages)} pages, {int(yes.sum())} medical; {mean:.0f} tokens; {model.num_parameters():,} parameters", flush=True)
    print("seen:", train(model, by_label, options.minutes, options.seed, options.rate))
    model.save_pretrained(options.folder)
    tokenizer.save_pretrained(options.folder)
    print("written:", options.folder)


if __name__ == "__main__":
    main()
