"""The CUDA section of benchmarks/trainer.py, and a script of its own: tokens per second, MFU and memory of Qwen2.5-0.5B's shape.

    python benchmarks/trainer_gpu.py [--data FOLDER] [--attention auto|sdpa|flex|flash] [--quick] [--write]

One device, rows of 4,096 tokens, bfloat16, compiled layers, flash attention where its package is, else flex attention. Prints the
figures as JSON and the profile of two steps, which explains what is missing to the peak. gpu.mfu takes PaLM's count, as published
figures do; gpu.mfu_needed_work counts only pairs of tokens of the same document. --write puts the figures into
benchmarks/results/trainer.json beside those of the CPU. Runs where ray, mergekit and polars are absent.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from glob import glob

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import torch  # noqa: E402

from benchmarks.trainer_peers import World, make_world  # noqa: E402
from store.params import Json  # noqa: E402
from training.attention import attention_on  # noqa: E402
from training.estimate import memory  # noqa: E402
from training.log import TIMING, read_lines  # noqa: E402
from training.loop import train  # noqa: E402
from training.mfu import dense_flops_per_token, find_gpu  # noqa: E402
from training.params import Attention, ModelInit, TrainParams  # noqa: E402
from training.shape import ModelShape  # noqa: E402

QWEN_HALF_B = ModelInit(
    model_type="qwen2", vocab_size=151_936, hidden_size=896, n_layers=24, n_heads=14, n_kv_heads=2, intermediate_size=4864,
    tie_word_embeddings=True, max_position_embeddings=32_768, rope_theta=1e6,
)  # fmt: skip
SEQ_LEN, N_STEPS, N_WARM = 4096, 24, 8
ATTENTIONS: dict[str, Attention] = {"auto": "auto", "sdpa": "sdpa", "flex": "flex_attention", "flash": "flash_attention_2"}
RESULT = os.path.join(ROOT, "benchmarks", "results", "trainer.json")


def main() -> None:
    """Measure, print, and with --write keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with web/*.parquet; default: the built-in sample")
    parser.add_argument("--attention", choices=list(ATTENTIONS), default="auto", help="kernels that keep documents apart")
    parser.add_argument("--quick", action="store_true", help="half the steps, fewer pages")
    parser.add_argument("--write", action="store_true", help="put the figures into benchmarks/results/trainer.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        figures = gpu_figures(scratch, options.data, ATTENTIONS[options.attention], quick=options.quick)
    print(json.dumps(figures, indent=1))
    if options.write and figures:
        keep(figures, RESULT)


def keep(figures: dict[str, Json], path: str) -> None:
    """Put the figures of the GPU into the result file; those of the CPU, and what it says of its machine, stay."""
    with open(path, encoding="utf-8") as file:
        body = json.load(file)
    body["figures"] = {k: v for k, v in body["figures"].items() if not k.startswith("gpu.")} | figures
    with open(path, "w", encoding="utf-8") as file:
        file.write(json.dumps(body, indent=1, sort_keys=True) + "\n")


def gpu_figures(scratch: str, data: str | None, attention: Attention = "auto", *, quick: bool) -> dict[str, Json]:
    """Figures of a run on the first CUDA device; none, and a line that says so, where there is no device."""
    if not torch.cuda.is_available():
        print("gpu.tokens_per_s, gpu.mfu: skipped, no CUDA device")
        return {}
    name = torch.cuda.get_device_name(0)
    gpu = find_gpu(name)
    where = os.path.join(scratch, "gpu")
    os.makedirs(where)
    world = make_world(where, data, SEQ_LEN, QWEN_HALF_B.vocab_size or 0, n_pages=1500 if quick else 6000)
    shape = ModelShape.from_config(config_of(QWEN_HALF_B))
    params = fitting(shape, torch.cuda.get_device_properties(0).total_memory, steps=12 if quick else N_STEPS, attention=attention)
    kernels = attention_on(torch.device("cuda"), params.attn_implementation, params.precision)
    print(f"{name}: {params.micro_batch_rows} rows of {SEQ_LEN} a micro-batch, {kernels}")
    figures = measure(world, QWEN_HALF_B, params, shape, None if gpu is None else gpu.peak_flops, where)
    print_profile(where)
    return {"gpu.device": name, "gpu.torch": torch.__version__, "gpu.attention": kernels, **figures}


def config_of(init: ModelInit) -> dict[str, object]:
    """The keys of a transformers config that the shape needs."""
    return {
        "model_type": init.model_type, "vocab_size": init.vocab_size, "hidden_size": init.hidden_size,
        "num_hidden_layers": init.n_layers, "num_attention_heads": init.n_heads, "num_key_value_heads": init.n_kv_heads,
        "intermediate_size": init.intermediate_size, "tie_word_embeddings": init.tie_word_embeddings,
    }  # fmt: skip


def fitting(shape: ModelShape, device_bytes: int, steps: int, attention: Attention = "auto") -> TrainParams:
    """The largest micro-batch estimated below 85 % of the device; compiled."""
    values: dict[str, object] = {
        "precision": "bf16", "max_steps": steps, "learning_rate": 1e-4, "save_every_steps": None, "verify_tokens": False,
        "attn_implementation": attention, "profile_steps": (N_WARM - 2, N_WARM - 1), "compile": True,
    }  # fmt: skip
    for rows in (8, 4, 2, 1):
        params = TrainParams.model_validate({**values, "micro_batch_rows": rows, "rows_per_step": 16})
        if memory(shape, params, SEQ_LEN).total < 0.85 * device_bytes:
            break
    return params


def measure(
    world: World, init: ModelInit, params: TrainParams, shape: ModelShape, peak_flops: float | None, where: str
) -> dict[str, Json]:
    """Train and read the times of the steps after the warm-up and the profiled ones."""
    train(params, init, world.plan, world.stores, f"{where}/out", f"{where}/state", watch_dir=where)
    lines = read_lines(f"{where}/state/{TIMING}")[N_WARM:]
    rate = statistics.median(float(str(line["positions_per_s"])) for line in lines)
    used = max(int(float(str(line["memory_bytes"]))) for line in lines)
    known = [float(str(line["mfu"])) for line in lines if line["mfu"] is not None]
    return {
        "gpu.tokens_per_s": rate, "gpu.memory_gb": used / 1e9,
        "gpu.memory_estimated_over_used": memory(shape, params, world.plan.seq_len).total / used,
        "gpu.mfu": None if peak_flops is None else rate * dense_flops_per_token(shape, world.plan.seq_len) / peak_flops,
        "gpu.mfu_needed_work": statistics.median(known) if known else None,
        "gpu.data_wait": sum(float(str(t["read_s"])) for t in lines) / sum(float(str(t["elapsed_s"])) for t in lines),
    }  # fmt: skip


def print_profile(where: str) -> None:
    """The top terms of the profiled steps: what explains the rest."""
    for name in glob(f"{where}/profile/*.txt"):
        with open(name, encoding="utf-8") as file:
            print(file.read())


if __name__ == "__main__":
    main()
