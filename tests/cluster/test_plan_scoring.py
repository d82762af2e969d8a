"""What scoring would cost: FLOPs of an encoder counted by torch, hours by hand, and the lines of the plan."""

import json

import pytest
from typer.testing import CliRunner

from cluster.cli import app
from cluster.costs import EncoderRates, EncoderShape, Rates, encoder_cost


def test_flops_are_those_that_torch_counts():
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import BertConfig, BertModel

    config = BertConfig(vocab_size=50, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=80)
    config._attn_implementation = "eager"
    model = BertModel(config, add_pooling_layer=False).eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.ones(1, 40, dtype=torch.long))
    assert EncoderShape.from_config(config.to_dict()).flops(40) == counter.get_total_flops()
    with pytest.raises(ValueError, match="intermediate_size"):
        EncoderShape.from_config({"num_hidden_layers": 2, "hidden_size": 3})


def test_hours_by_hand():
    shape, rates = EncoderShape(1, 10, 20), EncoderRates(gflops_per_core=2.0, tokenise_us=1000.0)
    # 4 tokens x 1 layer x (2 x 800 weights + 4 x 10 x 4) = 7,040 FLOPs a page.
    cost = encoder_cost(1e6, 4, shape, rates, device_flops=7.04e6, pages_per_s=None)
    assert shape.flops(4) == 7040 and cost.forward_core_s == pytest.approx(3.52) and cost.tokenise_core_s == pytest.approx(1000)
    assert cost.device_s == pytest.approx(1000) and cost.cores_to_keep_up(4) == 4
    assert encoder_cost(1e6, 4, shape, rates, 7.04e6, pages_per_s=500).device_s == 2000
    assert encoder_cost(1e6, 4, shape, rates, None, None).device_s is None


def test_the_measured_rates_are_there():
    rates = Rates.load()
    assert rates is not None and rates.encoder is not None and rates.encoder.gflops_per_core > 0 and "score" in rates.stage_us


def test_the_plan_says_what_scoring_would_cost(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"num_hidden_layers": 6, "hidden_size": 384, "intermediate_size": 1536}))
    (folder / "model.safetensors").write_bytes(b"")
    fine = f"corpus.classifiers={{fine: {{labels: 'sample://labels.jsonl', kind: encoder, transformer: {{model: {folder}}}}}}}"
    sets = ("--set", fine, "--set", "corpus.scoring={fine: {}}", "--set", "corpus.stages.score.min=0.1")
    options = ("--docs", "496e6", "--cores", "500", "--gpu", "H100", "--gpus", "8", "--out", str(tmp_path / "out"))

    def said(*more):
        done = CliRunner().invoke(
            app, ["plan", "demo", *sets, *options, *more], env={"COLUMNS": "200", "TERM": "dumb"}, catch_exceptions=False
        )
        assert done.exit_code == 0
        return done.output

    plain, given = said(), said("--pass-share", "0.2", "--encoder-rate", "1000")
    assert "estimate of scoring 496,000,000 pages" in plain and "6 layers of 384; 512 tokens" in plain
    assert "24,800,000 pages (5.0%, assumed" in plain and "8 x H100 at 30% of the peak (assumed)" in plain
    assert "99,200,000 pages (20.0%, given)" in given and "at 1,000 pages/s each: 3.4 h" in given
    assert "score (fastText)" in plain and "scoring-fine" in plain
