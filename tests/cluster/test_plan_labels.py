"""What a plan says of asking language models: before pages are drawn, with them, and where it cannot know."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from cluster.commands.plan_labels import AskingStep, print_asking
from corpus.labelling.ask_params import AskParams
from store.fs import Folder

ENDPOINT = {"url": "http://127.0.0.1:1/v1", "requests_per_minute": 100, "input_price": 1.0, "output_price": 4.0}


def said(steps, tmp_path, **more):
    labels = [{"name": n, "about": n} for n in ("medical", "other")]
    models = [{"name": "org/model[70B]", "endpoint": ENDPOINT}]
    params = AskParams.model_validate({"labels": labels, "models": models, "prompts": ["de", "en"], **more})
    console = Console(file=io.StringIO(), width=200)
    print_asking(console, params, steps, Folder(str(tmp_path)))
    return console.file.getvalue()


def test_a_plan_of_260_thousand_pages(tmp_path):
    text = said([AskingStep("label-answers", 260_000)], tmp_path)
    assert "260,000 pages, each as long as max_chars allows: 0 answers are known, 520,000 requests to send" in text
    assert "at least 5,200.0 minutes" in text and "org/model[70B]: 520,000 requests" in text and "3 characters a token" in text


def test_pages_that_are_drawn_are_counted_as_they_are(tmp_path):
    pages = str(tmp_path / "pages.parquet")
    pq.write_table(pa.table({"id": ["a", "b", "c"], "text": ["x", "", "y" * 99]}), pages)
    text = said([AskingStep("label-answers", 260_000, pages)], tmp_path)
    assert "3 pages: 0 answers are known, 4 requests to send" in text
    assert "would refuse" in said([AskingStep("label-answers", 1, pages)], tmp_path, max_cost=0.0)


def test_what_cannot_be_known_is_said(tmp_path):
    text = said([AskingStep("label-answers", 10, str(tmp_path / "none.parquet")), AskingStep("label-answers/2", 10)], tmp_path)
    assert "label-answers: not known" in text and "no such file" in text and "label-answers/2: 10 pages" in text
