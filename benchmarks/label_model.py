"""A small language model made to answer the one question of a recipe, for trials of labelling where no large model can be served.

    python benchmarks/label_model.py RECIPE FIRST --data FOLDER --tokenizer FOLDER --pages 4000 --windows 4 --passes 1.1
    python benchmarks/label_model.py RECIPE SECOND --data FOLDER --tokenizer FOLDER --begin FIRST
        --seed 2 --share 0.125 --rate 7e-4 --passes 0.4

A transformer of two layers learns, from random weights, to answer the recipe's own prompt, filled by the product's own code with the
recipe's labels, by the label that FOLDER/truth/web.parquet has as topic_hint ("unsure" left out). It is shown the articles of
``is_for_model`` only, which the recipe is not to be run on: benchmarks/labelling_real.py draws from the others. FOLDER becomes a
transformers folder in float32, for `transformers serve` or a conversion to GGUF. --tokenizer is a transformers folder with a tokenizer
and a chat template.

It stands for a large model that needs no such training, and speaks of nothing else: what comes of it is no measure of what language
models can do. AdamW, batches of 24, a rising and falling rate. Loss of the answer's tokens, and of hints: after every token of the page
the model is also told which of the two label words is right, so that a page teaches as often as it has tokens, and not once.
--windows shows a page's later parts as if they were pages; --share is the share of medical pages, which decides how readily the model
says so: a third at first, near the source's own at last. --begin goes on from a folder's weights, by its first --layers if that is
given. The two calls above made the model of benchmarks/results/labelling_real.json, in some 15 minutes of one core.
"""

from __future__ import annotations

import argparse
import glob
import itertools
import os
import signal
import sys
import time
from collections.abc import Iterator

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
BATCH, WARMUP = 24, 0.1
SIZE = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4}

Example = tuple[list[int], int]
"""Tokens of a prompt and its answer, and the number of the prompt's."""


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


def examples(params: AskParams, pages: pl.DataFrame, tokenizer: PreTrainedTokenizerBase, windows: int) -> list[Example]:
    """(tokens of prompt and answer, number of the prompt's) of each page's first windows of max_chars, as a server renders them."""
    (voter,) = voters_of(params)
    found = []
    for text, label, at in pages.join(pl.DataFrame({"window": range(windows)}), how="cross").iter_rows():
        part = text[at * params.max_chars :]
        if at and len(part) < params.max_chars / 2:
            continue
        messages = list(voter.request(0, part, 1).messages)
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        answer = f'{{"label": "{label}"}}{tokenizer.eos_token}'
        head = tokenizer(prompt, add_special_tokens=False).input_ids
        found.append((head + tokenizer(answer, add_special_tokens=False).input_ids, len(head)))
    return found


def train(model: LlamaForCausalLM, by_label: list[list[Example]], passes: float, share: float, seed: int, rate: float) -> int:
    """``passes`` over the medical pages, with others drawn anew for each; the number of pages seen. ``by_label``: medical, others.

    The number of batches is known before, so a process that is stopped for a while trains as much as one that is not. SIGTERM ends it
    after the batch.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01, betas=(0.9, 0.98))
    random, begin, losses = torch.Generator().manual_seed(seed), time.monotonic(), []
    n_yes = max(1, round(BATCH * share))
    n = max(1, round(passes * len(by_label[0]) / n_yes))
    order = list(itertools.islice(batches(by_label, n_yes, random), n))
    words = label_words([rows[0] for rows in by_label])
    signal.signal(signal.SIGTERM, lambda *_: order.clear())
    for at, rows in enumerate(order):
        optimizer.param_groups[0]["lr"] = rate * min(1.0, at / n / WARMUP + 0.02, (1 - at / n) / (1 - WARMUP))
        told, hinted = losses_of(model, rows, words)
        (told + hinted).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append((told.item(), hinted.item()))
        if len(losses) % 10 == 0:
            means = torch.tensor(losses[-10:]).mean(0).tolist()
            print(f"{len(losses)}/{n}, {time.monotonic() - begin:.0f} s, answers {means[0]:.4f}, hints {means[1]:.4f}", flush=True)
    return len(losses) * BATCH


def label_words(rows: list[Example]) -> list[int]:
    """The token by which the answers of two examples differ first."""
    (a, n_a), (b, n_b) = rows
    return next([x, y] for x, y in zip(a[n_a:], b[n_b:], strict=False) if x != y)


def batches(by_label: list[list[Example]], n_yes: int, random: torch.Generator) -> Iterator[list[Example]]:
    """Batches without end with ``n_yes`` medical pages each; no page comes again before all of its label have come."""
    yes, no = (_shuffled(rows, random) for rows in by_label)
    while True:
        yield [next(yes) for _ in range(n_yes)] + [next(no) for _ in range(BATCH - n_yes)]


def _shuffled(rows: list[Example], random: torch.Generator) -> Iterator[Example]:
    while True:
        for i in torch.randperm(len(rows), generator=random).tolist():
            yield rows[i]


def losses_of(model: LlamaForCausalLM, rows: list[Example], words: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean loss of the answers' tokens, and of hints: which of the labels' ``words`` is likelier after each token of the page.

    What all rows begin with is read once; padding stands behind: nothing looks back to it.
    """
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
    hidden, of_page, labels = [], [], []
    for i, (row, n_prompt) in enumerate(rows):
        of_page.append(out[i, : n_prompt - n_shared])
        labels += [int(words[1] in row[n_prompt:])] * (n_prompt - n_shared)
        hidden.append(out[i, n_prompt - n_shared - 1 : len(row) - n_shared - 1])
        wanted += row[n_prompt:]
    hints = torch.cat(of_page) @ model.lm_head.weight[words].T
    return cross_entropy(model.lm_head(torch.cat(hidden)), torch.tensor(wanted)), cross_entropy(hints, torch.tensor(labels))


def begun(folder: str, layers: int | None) -> LlamaForCausalLM:
    """A model with the first ``layers`` of a folder's, in float32; None: all of them."""
    fewer = {} if layers is None else {"num_hidden_layers": layers}
    model: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, **fewer)
    return model


def main() -> None:
    """Read, train, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="recipe with corpus.labelling.ask, one model and one prompt")
    parser.add_argument("folder", help="written")
    parser.add_argument("--data", required=True, help="folder with web/ and truth/")
    parser.add_argument("--tokenizer", required=True, help="transformers folder with a tokenizer and a chat template")
    parser.add_argument("--pages", type=int, default=12_000, help="of each label, at most")
    parser.add_argument("--windows", type=int, default=1, help="parts of a page shown, of max_chars each, from its beginning on")
    parser.add_argument("--passes", type=float, default=2.0, help="over the medical pages, with others by --share")
    parser.add_argument("--share", type=float, default=1 / 3, help="of the pages shown, medical")
    parser.add_argument("--begin", help="transformers folder (Llama) to go on from; default: random weights")
    parser.add_argument("--layers", type=int, help="of --begin, the first ones; default: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    params = load_recipe(options.recipe).corpus.labelling.ask
    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)
    config = LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=2048, tie_word_embeddings=True, eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id, **SIZE,
    )  # fmt: skip
    model = begun(options.begin, options.layers) if options.begin else LlamaForCausalLM(config)
    pages = shown(options.data, options.pages)
    yes = pages["label"] == "medical"
    by_label = [examples(params, pages.filter(is_it), tokenizer, options.windows) for is_it in (yes, ~yes)]
    mean = sum(len(r) for rows in by_label for r, _ in rows) / sum(len(rows) for rows in by_label)
    print(f"{len(pages)} pages, {int(yes.sum())} medical; {mean:.0f} tokens; {model.num_parameters():,} parameters", flush=True)
    print("seen:", train(model, by_label, options.passes, options.share, options.seed, options.rate))
    model.save_pretrained(options.folder)
    tokenizer.save_pretrained(options.folder)
    print("written:", options.folder)


if __name__ == "__main__":
    main()
