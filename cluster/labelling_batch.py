"""Labels from a language model on the cluster's own GPUs: vLLM through ray.data.llm (the extra ``llm``).

Implements corpus.labelling.request.Answerer. Requests go to Ray Data in portions of CHUNK_ROWS rows, which bounds the driver's memory;
the model is loaded once for each portion. Prompts the engine cannot take (too long for the model) get no answer, and their text is in
no message. Code of a model's folder is never run, and vLLM's own usage statistics are off.

The names are those of Ray 2.60. Rows were tried with Ray Data; the engine itself needs a GPU and was not run where this was written.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, cast

import pyarrow as pa

from corpus.labelling.answer import NO_ANSWER, Reply, answer_schema
from corpus.labelling.ask_params import AskParams, BatchParams, ModelParams
from corpus.labelling.request import Deliver, NoAnswer, Request
from store.errors import RecipeError, ResourceError
from store.params import Json

if TYPE_CHECKING:
    from ray.data import Dataset

CHUNK_ROWS = 50_000
MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
ROWS = pa.schema([("row", pa.int64()), ("messages", pa.list_(MESSAGE)), ("seed", pa.int64())])
ERROR = "__inference_error__"
NO_REPORTS = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
TEMPLATE = "chat_template_kwargs"
Row = dict[str, Json]
Processor = Callable[["Dataset"], "Dataset"]


class BatchAnswerer:
    """Answers the requests of one model. ``build`` makes Ray Data's processor; tests of the rows give another."""

    def __init__(
        self, params: AskParams, model: ModelParams, build: Callable[[AskParams, ModelParams], Processor] | None = None
    ) -> None:
        if other := sorted(set(model.extra) - {TEMPLATE}):
            raise RecipeError(f"extra.{other[0]} has no meaning for a model on the cluster's GPUs", where=model.name,
                              expected=f"{TEMPLATE} or nothing")  # fmt: skip
        self.params, self.model, self.sent = params, model, 0
        self._build = build or vllm_processor

    async def answer(self, requests: Iterator[Request | None], deliver: Deliver) -> None:
        """See the port. The cluster works in a thread, so that models at endpoints are asked meanwhile."""
        loop, found = asyncio.get_running_loop(), asyncio.Queue[tuple[Request, Reply | NoAnswer] | None]()
        while chunk := list(islice((r for r in requests if r is not None), CHUNK_ROWS)):
            self.sent += len(chunk)

            def tell(item: tuple[Request, Reply | NoAnswer] | None) -> None:
                loop.call_soon_threadsafe(found.put_nowait, item)

            def work(portion: list[Request] = chunk) -> None:
                try:
                    for each in self._answered(portion):
                        tell(each)
                finally:
                    tell(None)

            working = asyncio.create_task(asyncio.to_thread(work))
            while (item := await found.get()) is not None:
                deliver(*item)
            await working

    def _answered(self, chunk: list[Request]) -> Iterator[tuple[Request, Reply | NoAnswer]]:
        """Replies in any order; a row that does not come back got no answer."""
        from ray.data import from_arrow
        from ray.exceptions import RayError

        left = dict(enumerate(chunk))
        try:
            for row in self._build(self.params, self.model)(from_arrow(rows_of(chunk))).iter_rows():
                if (request := left.pop(int(row["row"]), None)) is not None:
                    yield request, reply_of(row, self.params.max_tokens)
        except RayError as error:
            why = f"the model cannot be run on the cluster ({type(error).__name__})"
            remedy = "see Ray's logs of the GPU nodes, then run again: answers so far are kept"
            raise ResourceError(why, where=self.model.name, remedy=remedy) from error
        yield from ((request, NoAnswer("the engine gave nothing back")) for request in left.values())


def rows_of(requests: list[Request]) -> pa.Table:
    """Requests as Ray Data takes them."""
    columns = [
        list(range(len(requests))),
        [[dict(m) for m in r.messages] for r in requests],
        [r.sampling.get("seed") for r in requests],
    ]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, ROWS, strict=True)], schema=ROWS)


def sampling_for(params: AskParams) -> Callable[[Row], Row]:
    """What a row needs besides its messages: vLLM's sampling parameters, with the schema unless answers are read as text."""
    fixed: Row = {"temperature": params.temperature, "max_tokens": params.max_tokens}
    if params.structured != "text":
        fixed["structured_outputs"] = {"json": json.dumps(answer_schema(params.names), ensure_ascii=False)}

    def add(row: Row) -> Row:
        seed = row["seed"]
        return {"sampling_params": fixed if seed is None else {**fixed, "seed": int(cast(int, seed))}}

    return add


def kept(row: Row) -> Row:
    """What comes back of a row: no prompt."""
    return {name: row[name] for name in ("row", "generated_text", "num_input_tokens", "num_generated_tokens")}


def reply_of(row: Row, max_tokens: int) -> Reply | NoAnswer:
    """A row of the result; vLLM through Ray Data does not say why an answer ended, so a full one counts as cut off."""
    if row.get(ERROR):
        return NoAnswer("the engine refused the prompt", NO_ANSWER)
    n_in, n_out = int(cast(int, row["num_input_tokens"])), int(cast(int, row["num_generated_tokens"]))
    return Reply(str(row["generated_text"]), "length" if n_out >= max_tokens else "stop", n_in, n_out)


def processor_settings(model: ModelParams) -> dict[str, object]:
    """Fields of ray.data.llm.vLLMEngineProcessorConfig."""
    at = cast(BatchParams, model.batch)
    engine: dict[str, Json] = {"tensor_parallel_size": at.gpus, "enable_prefix_caching": True}
    if at.max_model_len is not None:
        engine["max_model_len"] = at.max_model_len
    template: dict[str, Json] = {"enabled": True} | ({TEMPLATE: model.extra[TEMPLATE]} if TEMPLATE in model.extra else {})
    return {
        "model_source": at.folder or model.name, "engine_kwargs": engine, "concurrency": (at.replicas, at.replicas),
        "batch_size": at.batch_rows, "accelerator_type": at.accelerator_type, "should_continue_on_error": True,
        "chat_template_stage": template, "runtime_env": {"env_vars": NO_REPORTS},
    }  # fmt: skip


def vllm_processor(params: AskParams, model: ModelParams) -> Processor:
    """The processor that runs vLLM on GPUs; ResourceError if vLLM is not installed."""
    import importlib.util

    if importlib.util.find_spec("vllm") is None:
        raise ResourceError(
            "vLLM is not installed", where=model.name, remedy="install the extra llm on every GPU node, or give the model an endpoint"
        )
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    config = vLLMEngineProcessorConfig(**processor_settings(model))
    return cast(Processor, build_processor(config, preprocess=sampling_for(params), postprocess=kept))


def batch_answerers(params: AskParams) -> dict[str, BatchAnswerer]:
    """By name, for every model that the recipe runs on the cluster: what ``label_pages`` takes as ``batch``."""
    return {m.name: BatchAnswerer(params, m) for m in params.models if m.batch is not None}
