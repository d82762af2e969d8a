"""The benchmark for GPUs, as far as a CPU can run it, where ray, mergekit and polars are absent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.trainer_gpu import QWEN_HALF_B, SEQ_LEN, config_of, fitting, keep
from training.estimate import memory
from training.shape import ModelShape

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, os, sys
for name in ("ray", "mergekit", "polars"):
    sys.modules[name] = None
import benchmarks.trainer_gpu as gpu
from training.params import ModelInit, TrainParams

init = ModelInit(vocab_size=500, hidden_size=32, n_layers=1, n_heads=2, intermediate_size=64)
world = gpu.make_world(sys.argv[1], None, 64, 500, 40)
params = TrainParams(precision="fp32", max_steps=10, rows_per_step=2, micro_batch_rows=2, save_every_steps=None, cpu_threads=1,
                     profile_steps=(6, 7), peak_tflops=1.0)
shape = gpu.ModelShape.from_config(gpu.config_of(init))
figures = gpu.measure(world, init, params, shape, 1e12, sys.argv[1])
gpu.print_profile(sys.argv[1])
print(json.dumps([figures, gpu.dense_flops_per_token(shape, 64), gpu.gpu_figures(sys.argv[1], None, quick=True)]))
"""


def test_it_measures_without_ray_mergekit_and_polars(tmp_path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], env=env, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    figures, flops, without_device = json.loads(done.stdout.splitlines()[-1])
    assert figures["gpu.mfu"] == pytest.approx(figures["gpu.tokens_per_s"] * flops / 1e12)
    assert 0 < figures["gpu.mfu_needed_work"] < figures["gpu.mfu"] and 0 < figures["gpu.data_wait"] < 1
    assert "aten::mm" in done.stdout and without_device == {} and "skipped, no CUDA device" in done.stdout


def test_the_micro_batch_fits_the_device() -> None:
    shape = ModelShape.from_config(config_of(QWEN_HALF_B))
    assert shape.n_parameters == 494_032_768
    found = [fitting(shape, size, steps=12).micro_batch_rows for size in (int(24e9), int(80e9), int(141e9))]
    assert found == sorted(found) and found[0] < found[-1]
    assert memory(shape, fitting(shape, int(141e9), steps=12), SEQ_LEN).total < 0.85 * 141e9
    dense, flex = (fitting(shape, int(80e9), steps=12, attention=a) for a in ("sdpa", "flex_attention"))
    assert (dense.attn_implementation, flex.attn_implementation) == ("sdpa", "flex_attention")
    assert dense.micro_batch_rows < flex.micro_batch_rows, "a mask of T x T takes memory"


def test_figures_are_kept_beside_those_of_the_cpu(tmp_path) -> None:
    path = tmp_path / "trainer.json"
    path.write_text(json.dumps({"name": "trainer", "machine": "here", "figures": {"step.seconds": 1.0, "gpu.old": 2}}))
    keep({"gpu.mfu": 0.5}, str(path))
    assert json.loads(path.read_text()) == {"name": "trainer", "machine": "here", "figures": {"step.seconds": 1.0, "gpu.mfu": 0.5}}
