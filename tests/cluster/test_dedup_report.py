"""``definemed dedup report`` on a real run: the terminal, the page, and what it refuses."""

import contextlib
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from cluster.cli import app
from cluster.commands.dedup import find_artifacts
from cluster.pipeline import execute, plan_run
from cluster.recipe import load_recipe
from store.errors import ArtifactError, InputError
from store.executor import SerialExecutor, ignore
from store.fs import Folder

HOSTILE = "<script>alert('document')</script><img src=http://evil.example/x.png onerror=alert(1)> & \"quoted\""
PERSONAL = "Rückfragen an vor.nachname@example.org oder 0351 4455667"


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run of a recipe to the step dedup: 60 pages, 20 of them copies."""
    tmp_path = tmp_path_factory.mktemp("report")
    texts = [f"{HOSTILE} {PERSONAL} " + " ".join(word(i, k) for k in range(60)) for i in range(40)]
    texts += [text.replace(word(i, 30), "anders") for i, text in enumerate(texts[:15])] + texts[15:20]
    ids = [f"<b>{i}</b>" for i in range(60)]
    urls = [f"https://host{i}.example/vorname-nachname" for i in range(60)]
    pq.write_table(pa.table({"text": texts, "id": ids, "url": urls}), tmp_path / "pages.parquet")
    recipe = {
        "name": "pages",
        "corpus": {"source": {"files": [str(tmp_path / "pages.parquet")]}, "stages": [{"stage": "signature"}], "dedup": {},
                   "select": {"sets": {"all": {}}}},
    }  # fmt: skip
    (tmp_path / "pages.yaml").write_text(yaml.safe_dump(recipe))
    plan = plan_run(load_recipe(str(tmp_path / "pages.yaml"), []), Folder(str(tmp_path / "out")))
    context = SimpleNamespace(executor=SerialExecutor(), watch=ignore, local=plan.inputs.local)
    execute(plan, lambda: contextlib.nullcontext(context), {}, lambda *_: None, until="dedup")
    return plan.run_folder.url


def word(i, k):
    """Words of letters: numbers are all the same to deduplication."""
    return "wort" + "".join(chr(97 + d) for d in (i // 10, i % 10, k // 10, k % 10))


def report(*arguments):
    done = CliRunner().invoke(app, ["dedup", "report", *arguments], env={"COLUMNS": "200", "TERM": "dumb"}, catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_the_terminal_shows_figures_and_no_text(run_folder):
    shown = report(run_folder)
    assert "20 of 60 documents" in shown and "100.0" in shown.split("are duplicates")[1]
    for title in ("Clusters by size", "Similarity of dropped documents", "Pairs by similarity"):
        assert title in shown
    assert "wort" not in shown and "example" not in shown


def test_the_page_is_whole_safe_and_the_same_each_time(run_folder, tmp_path):
    report(run_folder, "--html", str(tmp_path / "a.html"))
    report(run_folder, "--html", str(tmp_path / "b.html"))
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert page == (tmp_path / "b.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    assert {"script", "img", "link", "iframe", "b"}.isdisjoint(tags.seen) and not tags.outside and tags.open == []
    assert "default-src &#39;none&#39;" in page
    assert "&lt;script&gt;" in page and "anders" in page  # the text is shown, as text
    assert "vor.nachname" not in page and "4455667" not in page and "vorname-nachname" not in page and "⟨e-mail⟩" in page
    assert len(re.findall("<mark>anders</mark>", page)) >= 3


def test_an_artifact_will_do_and_the_documents_may_have_moved(run_folder, tmp_path):
    clusters, documents = find_artifacts(Folder(run_folder), None)
    assert report(clusters.folder.url) == report(run_folder) == report(clusters.folder.url, "--documents", documents.folder.url)
    with pytest.raises(InputError, match="artifact of the step documents"):
        find_artifacts(documents.folder, None)
    with pytest.raises(ArtifactError):
        find_artifacts(clusters.folder, str(tmp_path))


def test_earlier_documents_that_lose_are_counted_and_listed(run_folder, tmp_path):
    """Longer copies of five pages come later: the two members of each of their clusters lose."""
    _, earlier = find_artifacts(Folder(run_folder), None)
    old = pq.read_table(earlier.path(earlier.files("kept/")[0].name)).to_pylist()
    texts = [f"{r['text']} und noch ein Schluss" for r in old[:5]]
    pq.write_table(pa.table({"text": texts, "id": [f"neu-{i}" for i in range(5)]}), tmp_path / "new.parquet")
    recipe = {
        "name": "new",
        "corpus": {"source": {"files": [str(tmp_path / "new.parquet")]}, "stages": [{"stage": "signature"}],
                   "dedup": {"keep": "longest", "against": [earlier.folder.url]}, "select": {"sets": {"all": {}}}},
    }  # fmt: skip
    (tmp_path / "new.yaml").write_text(yaml.safe_dump(recipe))
    plan = plan_run(load_recipe(str(tmp_path / "new.yaml"), []), Folder(str(tmp_path / "out")))
    context = SimpleNamespace(executor=SerialExecutor(), watch=ignore, local=plan.inputs.local)
    execute(plan, lambda: contextlib.nullcontext(context), {}, lambda *_: None, until="dedup")
    shown = report(plan.run_folder.url)
    assert re.search(r"the last of against\s+10\n", shown) and "neu-" not in shown
    report(plan.run_folder.url, "--html", str(tmp_path / "a.html"))
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "displaced.parquet" in page and "&lt;b&gt;3&lt;/b&gt;" in page and "neu-3" in page and "these 10 documents" in page


class Tags(HTMLParser):
    """Elements of a page, addresses it would load, and elements left open."""

    VOID = ("meta", "rect", "line", "br")

    def __init__(self):
        super().__init__()
        self.seen, self.outside, self.open = set(), [], []

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.open += [] if tag in self.VOID else [tag]
        self.outside += [v for k, v in attrs if k in ("src", "href") and not (v or "").startswith("#")]
        assert not any(k.startswith("on") for k, _ in attrs)

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                raise AssertionError(f"{tag} closes another element")
