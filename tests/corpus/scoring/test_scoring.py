"""Scoring with an encoder: the card's scores, the same bytes however work is cut, survivors only, and columns joined by key."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.classifier import ClassifierParams
from corpus.classifier.model import Pages, fit
from corpus.draw import unit_interval
from corpus.scoring import ScoringParams
from corpus.scoring.attach import Scored
from corpus.scoring.scorer import GRID, Scorer, on_grid
from corpus.scoring.worker import DROPPED_TEXT, Check, ScoringWorker
from corpus.stage import KEEP
from store.errors import InputError, RecipeError, StepError
from store.executor import Task
from store.fs import Folder
from store.schema import CLUSTERS, DOCUMENT, DROPPED

WORDS = {True: ["Arzt", "Klinik", "Fieber", "Therapie", "Blut", "Herz"], False: ["Fluss", "Stadt", "Berge", "Verein", "Tor", "Garten"]}
FILLING = ["der", "die", "das", "und", "in", "von", "zu", "mit", "auf", "ist", "im", "nicht"]
STEP = 1.001 / GRID


def page(number):
    """A page of 5 to 160 words; even numbers are medical."""
    rng = np.random.default_rng(number)
    own = WORDS[number % 2 == 0]
    return " ".join(str(rng.choice(own if rng.random() < 0.3 else FILLING)) for _ in range(int(rng.integers(5, 160))))


TEXTS = [page(i) for i in range(300)]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Kind -> (folder of its files, the model in memory)."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pages = Pages(TEXTS[:160], np.array([i % 2 for i in range(160)]), np.arange(160))
    held = Pages(TEXTS[160:200], np.array([i % 2 for i in range(40)]), np.arange(40))
    made = {}
    for kind in ("embedding", "encoder"):
        transformer = {
            "max_tokens": 64,
            "epochs": 4,
            "batch_rows": 8,
            "learning_rate": 3e-3,
            "folds": 2,
            "l2": [1e-3],
            "prefix": "query: ",
        }
        model = fit(
            ClassifierParams.model_validate({"kind": kind, "labels": "x", "max_chars": 500, "transformer": transformer}), pages, held
        )
        folder = Folder(str(tmp_path_factory.mktemp(kind)))
        model.save(folder)
        made[kind] = folder, model
    yield made
    torch.set_num_threads(threads)


def score(scorer, texts):
    return scorer.probabilities(scorer.prepare(pa.array(texts, pa.large_string())))


@pytest.mark.parametrize("kind", ["embedding", "encoder"])
def test_scores_are_the_models_own_on_the_grid(models, kind):
    folder, model = models[kind]
    scorer = Scorer.open(folder, dtype="float32")
    found = score(scorer, TEXTS)
    expected = model.probabilities([t[:500] for t in TEXTS])
    assert scorer.labels == ("medical", "other") and found.dtype == np.float32
    assert np.abs(found - expected).max() <= STEP and (found * GRID == np.rint(found * GRID)).all()
    assert found[:, 0].max() - found[:, 0].min() > 0.3
    assert np.abs(found.sum(axis=1) - 1).max() <= STEP


@pytest.mark.parametrize("kind", ["embedding", "encoder"])
@pytest.mark.parametrize("tokens", [64, 600, 16_384])
def test_a_page_scores_the_same_in_any_company(models, kind, tokens):
    scorer = Scorer.open(models[kind][0], dtype="float32", tokens_per_batch=tokens)
    together = score(scorer, TEXTS)
    assert (score(scorer, TEXTS) == together).all()
    order = np.random.default_rng(1).permutation(len(TEXTS))
    shuffled = score(scorer, [TEXTS[i] for i in order])
    alone = np.concatenate([score(scorer, [t]) for t in TEXTS[:40]])
    assert np.abs(shuffled - together[order]).max() <= STEP and np.abs(alone - together[:40]).max() <= STEP
    assert score(scorer, []).shape == (0, 2)


def test_only_the_head_is_seen_and_a_page_without_words_has_a_score(models):
    scorer = Scorer.open(models["embedding"][0])
    ids = scorer.prepare(pa.array(["Arzt " * 400, "Arzt " * 900, "", "ü" * 600], pa.large_string()))
    assert ids[0] == ids[1] and len(ids[0]) == 64
    assert np.isfinite(scorer.probabilities(ids)).all()


def test_bfloat16_stays_near(models):
    exact, short = (Scorer.open(models["embedding"][0], dtype=d) for d in ("float32", "bfloat16"))
    assert 0 < np.abs(score(exact, TEXTS[:60]) - score(short, TEXTS[:60])).max() < 0.15


def test_the_grid_holds_what_thresholds_compare():
    p = np.linspace(0, 1, 10_001)
    found = on_grid(p)
    assert np.abs(found - p).max() <= 0.5 / GRID + 1e-7 and found[0] == 0 and found[-1] == 1 and (np.diff(found) >= 0).all()
    # No threshold of up to three decimals is a float32's rounding away from a score.
    thresholds = np.arange(1, 1000) / 1000
    assert all(((found >= t) == (found.astype(np.float64) >= t)).all() for t in thresholds[::7])


class Documents:
    """Two units of pass 1: kept and dropped files, and clusters."""

    def __init__(self, folder, n=120):
        self.folder, self.n = Folder(str(folder)), n
        for unit in (0, 1):
            keys = [unit << 32 | i for i in range(n)]
            columns = {f.name: pa.nulls(n, f.type) for f in DOCUMENT}
            texts = pa.array([TEXTS[(unit * n + i) % 300] for i in range(n)], pa.large_string())
            columns |= {"doc_key": pa.array(keys, pa.int64()), "id": pa.array([f"id-{k}" for k in keys]), "text": texts}
            self._write("kept", unit, pa.table(columns), 50)
            gone = {f.name: pa.nulls(n, f.type) for f in DROPPED}
            gone |= {"doc_key": pa.array([k + 1000 for k in keys], pa.int64()), "id": pa.array([f"gone-{k}" for k in keys]),
                     "stage": pa.array(["score" if i % 4 else "language" for i in range(n)]),
                     "text": pa.array([t if i % 3 else None for i, t in enumerate(texts.to_pylist())], pa.large_string())}  # fmt: skip
            self._write("dropped", unit, pa.table(gone, schema=DROPPED), 50)
        rows = [(3, 3, 2, "exact"), (5, 3, 2, "exact"), ((1 << 32) + 7, 3, 2, "minhash")]
        self.clusters = str(folder / "clusters.parquet")
        pq.write_table(pa.table([list(c) for c in zip(*rows, strict=True)], schema=CLUSTERS), self.clusters)

    def _write(self, kind, unit, table, group):
        (self.folder / kind).make()
        pq.write_table(table, self.folder.path(f"{kind}/{unit:06d}.parquet"), row_group_size=group, write_page_checksum=True)

    def tasks(self):
        return [Task(f"{u:06d}", {k: f"{k}/{u:06d}.parquet" for k in ("kept", "dropped")}) for u in (0, 1)]

    def worker(self, out, model, check=None, **fields):
        params = ScoringParams(dtype="float32", **fields)
        return ScoringWorker(Folder(str(out)).make(), self.folder, model, params, self.clusters, check or Check())


@pytest.fixture
def documents(tmp_path):
    return Documents(tmp_path)


def test_survivors_are_scored_and_the_drawn_dropped_pages(documents, models, tmp_path):
    tests = {"id-3": 0.9, "id-5": 0.2, "gone-1": 0.7, "gone-4": 0.7, "gone-x": 1.0}
    worker = documents.worker(tmp_path / "out", models["embedding"][0], Check("score", 0.5, tests))
    receipts = [worker.run(t) for t in documents.tasks()]
    assert [dict(r.counts)["duplicates"] for r in receipts] == [1, 1] and sum(r.counts["scored"] for r in receipts) == 238
    first = pq.read_table(tmp_path / "out/scores/000000.parquet")
    assert first["doc_key"].to_pylist() == [k for k in range(120) if k != 5]
    scorer = worker.scorer
    # The company is the row group's survivors.
    survivors = [TEXTS[i] for i in range(50) if i != 5]
    assert (first["medical"].to_numpy()[:49] == score(scorer, survivors)[:, 0]).all()
    checked = pq.read_table(tmp_path / "out/checked/000000.parquet")["doc_key"].to_pylist()
    ids, keys = pa.array([f"gone-{i}" for i in range(120)]), pa.array(range(1000, 1120), pa.int64())
    drawn = unit_interval(ids, keys, DROPPED_TEXT) < 0.5
    assert checked == [1000 + i for i in range(120) if drawn[i] and i % 4 and i % 3] and 20 < len(checked) < 60
    data = receipts[0].data
    assert (data["test_passed"][0], data["test_passed"][50], data["test_dropped"][0]) == (2, 1, 1)  # gone-4 fell for its language
    scores = first["medical"].to_numpy()
    at = first["doc_key"].to_pylist().index(3)
    assert data["found"][0] == 120 and data["found"][50] == (scores >= 0.5).sum() + int(scores[at] >= 0.5)  # 3 stands for 2
    assert data["checked"][0] == len(checked)


def test_the_same_bytes_for_any_order_and_number_of_workers_and_after_a_kill(documents, models, tmp_path):
    check = Check("score", 1.0, {})
    one = documents.worker(tmp_path / "one", models["encoder"][0], check)
    expected = [one.run(t) for t in documents.tasks()]
    found = []
    for task in reversed(documents.tasks()):  # a worker each, the other way round
        worker = documents.worker(tmp_path / "two", models["encoder"][0], check)
        (tmp_path / "two/scores").mkdir(exist_ok=True)
        (tmp_path / f"two/scores/{task.key}.parquet").write_bytes(b"half a file")
        found.insert(0, worker.run(task))
    assert [r.files for r in found] == [r.files for r in expected] and [r.data for r in found] == [r.data for r in expected]
    assert {f.name for r in found for f in r.files} == {f"{k}/{u:06d}.parquet" for k in ("scores", "checked") for u in (0, 1)}


def attach(scored, keys, ids=None):
    batch = pa.RecordBatch.from_pydict({"doc_key": pa.array(keys, pa.int64()), "id": ids or [f"i{k}" for k in keys]})
    return scored.open("000000").apply(batch)


def scored_with(tmp_path, labels=("medical", "other"), positive="medical", p=None, **fields):
    p = p if p is not None else [[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]
    (tmp_path / "scores").mkdir(exist_ok=True)
    columns = {"doc_key": pa.array([1, 3, 9], pa.int64()), **{n: pa.array(np.array(p, np.float32)[:, i]) for i, n in enumerate(labels)}}
    pq.write_table(pa.table(columns), tmp_path / "scores/000000.parquet")
    return Scored("fine", ScoringParams(**fields), labels, positive, Folder(str(tmp_path)))


def test_scores_are_joined_by_key_and_pages_below_go(tmp_path):
    outcome = attach(scored_with(tmp_path, min=0.5, classes=("other",)), [3, 9])
    assert {n: c.to_pylist() for n, c in outcome.columns.items()} == {"score_fine": pytest.approx([0.2, 0.5]),
                                                                      "score_fine_other": pytest.approx([0.8, 0.5])}  # fmt: skip
    assert outcome.verdict.tolist() == [0, KEEP] and outcome.value.tolist() == pytest.approx([0.2, 0.5])
    assert attach(scored_with(tmp_path), [3]).verdict is None
    stays = attach(scored_with(tmp_path, min=0.5, keep_below=0.999999), [3, 3, 3]).verdict
    assert stays.tolist() == [KEEP] * 3
    for keys in ([2], [10], [0]):
        with pytest.raises(StepError, match="no score"):
            attach(scored_with(tmp_path), keys)
    with pytest.raises(RecipeError, match="no label 'law'"):
        scored_with(tmp_path, label="law").check()


def test_of_several_classes_the_most_probable_is_written_by_name(tmp_path):
    p = [[0.2, 0.7, 0.1], [0.4, 0.4, 0.2], [0.1, 0.1, 0.8]]
    scored = scored_with(tmp_path, ("lay", "professional", "law"), None, p, column="register")
    outcome = attach(scored, [1, 3, 9])
    assert outcome.columns["register"].to_pylist() == ["professional", "lay", "law"]
    assert outcome.columns["register_score"].to_pylist() == pytest.approx([0.7, 0.4, 0.8])
    assert scored.open("000000").scores == ("register_score",) and scored.stage == "scoring-fine"


def test_a_fasttext_classifier_is_refused(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(InputError, match="has no encoder"):
        Scorer.open(Folder(str(tmp_path)))
