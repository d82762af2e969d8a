"""How fast pages are signed, one core: definemed against datatrove and rensa, in alternation on the same pages, best round of each.

* from simplified text (lower case, numbers as 0, no punctuation): our shingles and 112 minima straight from the bytes, of words, of
  characters, and with datasketch's functions, which are also datasketch's own numbers (all minima compared); rensa's way is
  to split at blanks, join 5-grams and update an RMinHash of 112 values, page by page, or for all pages at once (digest_matrix).
* from the pages as they are: our stage ``signature`` over Arrow batches, which simplifies and also makes the exact hash and the length;
  datatrove's get_shingles and get_signature; rensa over 5-grams of ``\\w+`` of the lower-case text, the least that Python can do.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from benchmarks.dedup_pages import WORD
from benchmarks.dedup_peers import NUM_PERM
from benchmarks.dedup_peers.datatrove_peer import signer
from benchmarks.dedup_peers.tokens import ngrams, simplified
from corpus import datasketch_family
from corpus.columns import text_buffers
from corpus.minhash import band_hashes, hash_family, padded
from corpus.shingles import Grams
from corpus.signature import Signature
from corpus.simplify import simplify
from store.params import Json

BATCH = 1000
WORDS = Grams(5)


def signature_figures(pages: pa.Table, work: str, rounds: int, datatrove_pages: int) -> dict[str, Json]:
    """MB/s/core and ratios over ``rounds`` rounds; datatrove on ``datatrove_pages`` of the pages, evenly spread."""
    texts = pages["text"].combine_chunks()
    some = texts.take(pa.array(np.linspace(0, len(texts) - 1, min(datatrove_pages, len(texts))).astype(np.int64)))
    size, few = _bytes(texts), _bytes(some)
    plain = simplified(pages["text"])
    n_simplified = sum(len(t.encode()) for t in plain)
    few_plain = plain[:: max(1, len(plain) // datatrove_pages)]
    n_few = sum(len(t.encode()) for t in few_plain)
    grams, raw = [ngrams(t) for t in plain], texts.to_pylist()
    runs: dict[str, Callable[[], object]] = {
        "kernel": _kernel(texts), "stage": _stage(texts), "stage_few": _stage(some), "datatrove": _datatrove(some, work),
        "rensa": lambda: [_rensa(ngrams(t)) for t in plain], "rensa_ready": lambda: [_rensa(g) for g in grams],
        "rensa_pages": lambda: [_rensa(ngrams(" ".join(WORD.findall(t.lower())))) for t in raw],
        "chars": _kernel(texts, Grams(20, "char")), "few_functions": _kernel(texts, Grams(5), 16, 2),
        "datasketch_family": _datasketch_family(few_plain), "datasketch": _datasketch(few_plain),
        "rensa_words": lambda: [_rensa(t.split(" ")) for t in plain], "rensa_matrix": lambda: _matrix([ngrams(t) for t in plain]),
    }  # fmt: skip
    if not np.array_equal(runs["datasketch_family"](), runs["datasketch"]()):
        raise AssertionError("family datasketch is not datasketch's")
    best, n_shingles = _alternate(runs, rounds), sum(map(len, grams))
    rensa = min(best["rensa"], best["rensa_matrix"])
    return {
        "signature.mb_per_s_per_core": n_simplified / best["kernel"] / 1e6,
        "signature.with_normalisation_mb_per_s_per_core": size / best["stage"] / 1e6,
        "signature.docs_per_s_per_core": len(texts) / best["stage"],
        "signature.ratio_vs_datatrove": best["datatrove"] / best["stage_few"],
        "signature.datatrove_mb_per_s_per_core": few / best["datatrove"] / 1e6,
        "signature.datatrove_docs_per_s_per_core": len(some) / best["datatrove"],
        "signature.ratio_vs_rensa": rensa / best["kernel"],
        "signature.rensa_mb_per_s_per_core": n_simplified / rensa / 1e6,
        "signature.ratio_vs_rensa_from_pages": best["rensa_pages"] / best["stage"],
        "signature.ratio_vs_rensa_given_ready_ngrams": best["rensa_ready"] / best["kernel"],
        "signature.ratio_vs_rensa_of_single_words": best["rensa_words"] / best["kernel"],
        "signature.ns_per_shingle": best["kernel"] / n_shingles * 1e9,
        "signature.ns_per_shingle_of_96_functions": (best["kernel"] - best["few_functions"]) / n_shingles * 1e9,
        "signature.characters_20.mb_per_s_per_core": n_simplified / best["chars"] / 1e6,
        "signature.datasketch_family.mb_per_s_per_core": n_few / best["datasketch_family"] / 1e6,
        "signature.datasketch_family.ratio_vs_datasketch": best["datasketch"] / best["datasketch_family"],
        "signature.n_docs": len(texts),
    }  # fmt: skip


def _bytes(texts: pa.Array) -> int:
    offsets, _ = text_buffers(texts)
    return int(offsets[-1] - offsets[0])


def _alternate(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Least seconds of CPU of each, on one core; the first round of ours compiles and is not counted."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    best = dict.fromkeys(runs, float("inf"))
    try:
        for name in ("kernel", "few_functions", "stage", "chars", "datasketch_family"):
            runs[name]()
        for _ in range(rounds):
            for name, run in runs.items():
                begin = time.process_time()
                run()
                best[name] = min(best[name], time.process_time() - begin)
    finally:
        os.sched_setaffinity(0, cores)
    return best


def _batches(texts: pa.Array) -> list[pa.RecordBatch]:
    keys = np.arange(len(texts))
    return [
        pa.RecordBatch.from_pydict({"text": texts.slice(i, BATCH), "doc_key": keys[i : i + BATCH]}) for i in range(0, len(texts), BATCH)
    ]


def _stage(texts: pa.Array) -> Callable[[], object]:
    apply, batches = Signature().open({}), _batches(texts)
    return lambda: [apply(batch) for batch in batches]


def _datasketch_family(plain: list[str]) -> Callable[[], object]:
    a, b = datasketch_family.permutations(NUM_PERM, 1)
    offsets, data = text_buffers(pa.array(plain, pa.large_string()))
    ready = padded(data, int(offsets[-1]))
    return lambda: datasketch_family.minima(offsets, ready, Grams(5), a, b)


def _datasketch(plain: list[str]) -> Callable[[], object]:
    from datasketch import MinHash

    def minima(text: str) -> object:
        made = MinHash(NUM_PERM, seed=1)
        made.update_batch([g.encode() for g in ngrams(text)])
        return made.hashvalues

    return lambda: [minima(t) for t in plain]


def _kernel(texts: pa.Array, grams: Grams = WORDS, n_hashes: int = NUM_PERM, n_bands: int = 14) -> Callable[[], object]:
    factors = hash_family(n_hashes, 1)
    ready = [simplify(*text_buffers(batch.column("text"))) for batch in _batches(texts)]
    return lambda: [band_hashes(offsets, data, grams, factors, n_bands) for offsets, data in ready]


def _datatrove(texts: pa.Array, work: str) -> Callable[[], object]:
    step, pages = signer(os.path.join(work, "datatrove-speed")), texts.to_pylist()

    def run() -> None:
        for text in pages:
            shingles = step.get_shingles(text)
            if shingles.size:
                step.get_signature(shingles)

    run()  # loads its tokeniser
    return run


def _rensa(tokens: list[str]) -> object:
    from rensa import RMinHash

    sketch = RMinHash(num_perm=NUM_PERM, seed=42)
    sketch.update(tokens)
    return sketch


def _matrix(tokens: list[list[str]]) -> object:
    from rensa import RMinHash

    return RMinHash.digest_matrix_from_token_sets(tokens, NUM_PERM, 42)
