"""Labels on the cluster's GPUs: rows, settings and replies as Ray Data has them. vLLM itself needs a GPU and is not run."""

import asyncio
import importlib.util
import json

import pytest

from cluster.labelling_batch import (
    BatchAnswerer,
    batch_answerers,
    kept,
    processor_settings,
    reply_of,
    rows_of,
    sampling_for,
    vllm_processor,
)
from corpus.labelling.answer import Reply, read_answer
from corpus.labelling.ask_params import AskParams
from corpus.labelling.request import NoAnswer, voters_of
from store.errors import RecipeError, ResourceError

LABELS = [{"name": "medical", "about": "health"}, {"name": "ö, other", "about": "rest"}]


def params(batch=None, extra=None, **more):
    model = {"name": "org/m", "batch": batch or {}, "extra": extra or {}}
    return AskParams.model_validate({"labels": LABELS, "models": [model], **more})


def requests(asked, n):
    (voter,) = voters_of(asked)
    return [voter.request(i, f"Seite {i}", 1 + i % 2) for i in range(n)]


def test_rows_hold_messages_and_seeds():
    found = requests(params(), 3)
    table = rows_of(found)
    assert table["row"].to_pylist() == [0, 1, 2] and table["seed"].to_pylist() == [1, 2, 1]
    assert [[dict(m) for m in r.messages] for r in found] == table["messages"].to_pylist()
    assert rows_of(requests(params(seed=None), 2))["seed"].to_pylist() == [None, None]


def test_sampling_has_the_schema_and_the_seed_of_the_row():
    add = sampling_for(params(temperature=0.5, max_tokens=9))
    found = add({"row": 0, "seed": 7, "messages": []})["sampling_params"]
    schema = json.loads(found.pop("structured_outputs")["json"])
    assert found == {"temperature": 0.5, "max_tokens": 9, "seed": 7} and schema["properties"]["label"]["enum"] == [
        "medical",
        "ö, other",
    ]
    assert "seed" not in add({"row": 0, "seed": None, "messages": []})["sampling_params"]
    assert "structured_outputs" not in sampling_for(params(structured="text"))({"seed": 1})["sampling_params"]


def test_replies_are_read_as_those_of_an_endpoint():
    row = {"row": 3, "generated_text": '{"label": "medical"}', "num_input_tokens": 50, "num_generated_tokens": 7, "prompt": "secret"}
    assert "prompt" not in kept(row)
    assert reply_of(kept(row), 64) == Reply('{"label": "medical"}', "stop", 50, 7)
    cut = reply_of({**kept(row), "generated_text": '{"label": "med', "num_generated_tokens": 64}, 64)
    assert read_answer(cut, ["medical"]).failure == "cut_off"
    refused = reply_of({"row": 3, "__inference_error__": "ValueError: the prompt 'secret' is too long"}, 64)
    assert isinstance(refused, NoAnswer) and "secret" not in refused.why


def test_settings_are_those_ray_knows():
    llm = pytest.importorskip("ray.data.llm")
    asked = params({"folder": "/models/m", "replicas": 3, "gpus": 2, "max_model_len": 4096, "accelerator_type": "H100"},
                   {"chat_template_kwargs": {"enable_thinking": False}})  # fmt: skip
    config = llm.vLLMEngineProcessorConfig(**processor_settings(asked.models[0]))
    assert config.model_source == "/models/m" and config.get_concurrency() == {"min_size": 3, "max_size": 3}
    assert config.engine_kwargs["tensor_parallel_size"] == 2 and config.engine_kwargs["max_model_len"] == 4096
    assert not config.engine_kwargs.get("trust_remote_code", False) and config.should_continue_on_error
    assert llm.ChatTemplateStageConfig(**config.chat_template_stage).chat_template_kwargs == {"enable_thinking": False}
    assert set(processor_settings(params().models[0])) <= set(llm.vLLMEngineProcessorConfig.model_fields)


def test_what_the_engine_would_not_see_is_refused():
    with pytest.raises(RecipeError, match=r"extra\.top_p"):
        BatchAnswerer(params(), params(extra={"top_p": 1}).models[0])
    assert list(batch_answerers(params())) == ["org/m"]


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is here")
def test_without_vllm_the_remedy_is_said():
    asked = params()
    with pytest.raises(ResourceError, match="Install the extra llm"):
        vllm_processor(asked, asked.models[0])


def echo(row):
    """Stands where the engine would: answers by the page's number; pages that a real engine refuses or loses are marked."""
    number = int(row["messages"][-1]["content"].split("Seite ")[1].split("\n")[0])
    assert [m["role"] for m in row["messages"]] == ["system", "user"] and row["sampling_params"]["max_tokens"] == 64
    text = json.dumps({"label": ["medical", "ö, other"][number % 2]}, ensure_ascii=False)
    out = {"generated_text": text, "num_input_tokens": number, "num_generated_tokens": 5, "__inference_error__": ""}
    return {**row, **out} | ({"__inference_error__": "too long"} if number == 4 else {})


@pytest.mark.slow
def test_rows_pass_through_ray_data(monkeypatch):
    """All but the engine is Ray Data's: rows there and back, in portions, whatever comes first."""
    import ray

    monkeypatch.setattr("cluster.labelling_batch.CHUNK_ROWS", 7)

    def build(asked, model):
        add = sampling_for(asked)
        return lambda rows: (
            rows.repartition(3).map(lambda r: {**r, **add(r)}).map(echo).filter(lambda r: r["row"] != 5)
            .map(lambda r: {**kept(r), "__inference_error__": r["__inference_error__"]})
        )  # fmt: skip

    asked, found = params(), {}
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
    try:
        answerer = BatchAnswerer(asked, asked.models[0], build)
        asyncio.run(answerer.answer(iter([None, *requests(asked, 10)]), lambda request, reply: found.setdefault(request.page, reply)))
    finally:
        ray.shutdown()
    assert sorted(found) == list(range(10)) and answerer.sent == 10
    assert {p for p, r in found.items() if isinstance(r, NoAnswer)} == {4, 5}  # page 4 is row 4 of the first portion, page 5 its row 5
    assert found[9] == Reply('{"label": "ö, other"}', "stop", 9, 5)
