"""Steps that give models: those that exist, those that are trained (with their pack plan), those that are merged."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass

from cluster.graph import Context, Node
from cluster.inputs import Inputs
from cluster.recipe import (
    ChatData,
    GivenModel,
    MergedModel,
    MergeSpec,
    Recipe,
    TrainedModel,
    TrainSpec,
    chat_name,
    heldout_rules,
    in_order,
)
from cluster.steps.tokens import TOKENIZER
from corpus.packing import MixtureEntry, plan
from corpus.passes import peak_rss_mb
from corpus.select import HELDOUT
from corpus.tokenizer import require_same_ids
from merging.params import MergeParams
from store.artifact import Artifact, Draft, Receipt
from store.errors import InputError, ResourceError
from store.executor import Job, Task
from store.fingerprint import canonical_json, sha256_hex
from store.fs import FileEntry, Folder
from store.models import MODEL, ModelFolder
from store.params import Json
from store.tokens import TokenStore
from training.params import ModelInit, TrainParams

VERSIONS = {"model": 1, "pack": 2, "train": 2, "merge": 1}
COMMIT = re.compile(r"[0-9a-f]{40}")
HUB_FILES = ["model*.safetensors", "*.json", "*.jinja", "merges.txt", "tokenizer.model"]


def model_nodes(recipe: Recipe, inputs: Inputs) -> list[Node]:
    """The nodes of the models section, parents first."""
    nodes: list[Node] = []
    for name in in_order(recipe.models):
        spec = recipe.models[name]
        if isinstance(spec, TrainedModel):
            nodes += [_pack_node(name, spec.train, inputs), _train_node(name, spec.train, recipe, inputs)]
        elif isinstance(spec, MergedModel):
            nodes.append(_merge_node(name, spec.merge, recipe, inputs))
        else:
            nodes.append(_given_node(name, spec))
    return nodes


def model_step(recipe: Recipe, name: str) -> str:
    """The step that gives a model of the recipe."""
    spec = recipe.models[name]
    kind = "train" if isinstance(spec, TrainedModel) else "merge" if isinstance(spec, MergedModel) else "model"
    return f"{kind}/{name}"


def model_folder(recipe: Recipe, name: str, artifact: Artifact) -> str:
    """The local folder of a model of the recipe. A given model stays where it is; its artifact records its digests only."""
    spec = recipe.models[name]
    if isinstance(spec, GivenModel):
        return resolve_model(spec.source, spec.revision)
    return artifact.path(MODEL)


# ---------------------------------------------------------------------------------------------------------------- given models


def _given_node(name: str, spec: GivenModel) -> Node:
    def run(_: Context, draft: Draft, __: Mapping[str, Artifact]) -> Artifact:
        found = ModelFolder.open(resolve_model(spec.source, spec.revision))
        digests: dict[str, Json] = dict(found.digests())
        entry = draft.folder.write_bytes("digests.json", json.dumps(digests, indent=1, sort_keys=True).encode())
        return draft.commit(files=[entry], summary={"has_chat_template": found.has_chat_template})

    return Node(f"model/{name}", "model", VERSIONS["model"], {}, lambda: _given_identity(spec), run, f"take {spec.source}")


def _given_identity(spec: GivenModel) -> dict[str, Json]:
    if os.path.isdir(spec.source):
        return {"files": sha256_hex(canonical_json(dict(ModelFolder.open(spec.source).digests())))}
    return {"hub": spec.source, "commit": hub_commit(spec.source, spec.revision)}


def hub_commit(name: str, revision: str) -> str:
    """The commit a hub revision names: asked of the hub, or of the local cache when the hub cannot be reached."""
    if COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return str(HfApi().model_info(name, revision=revision, timeout=5).sha)
    except HFValidationError as error:
        raise InputError("neither a folder nor a valid name on the hub", where=name) from error
    except Exception as unreachable:  # the hub's client raises its transport's errors, which differ between its versions
        try:
            return os.path.basename(snapshot_download(name, revision=revision, local_files_only=True))
        except Exception:
            raise ResourceError(
                f"the model is neither here nor to be had from the hub ({type(unreachable).__name__})", where=name,
                remedy="download it on a machine with network, and give the folder as models.<name>.source",
            ) from unreachable  # fmt: skip


def resolve_model(source: str, revision: str) -> str:
    """The local folder of a model; hub files are fetched once, safetensors only."""
    if os.path.isdir(source):
        return source
    from huggingface_hub import snapshot_download

    # By commit: a branch may have moved since the fingerprint was taken.
    return str(snapshot_download(source, revision=hub_commit(source, revision), allow_patterns=HUB_FILES))


# --------------------------------------------------------------------------------------------------------------------- packing


@dataclass(frozen=True)
class PackWorker:
    """One task: plan the rows of a model's training data."""

    folder: Folder
    stores: Mapping[str, Folder]
    mixture: tuple[MixtureEntry, ...]
    seq_len: int
    seed: int

    def run(self, task: Task) -> Receipt:
        begin = time.perf_counter()
        stores = {name: TokenStore.open(Artifact.open(folder)) for name, folder in self.stores.items()}
        packed, summary = plan(stores, self.mixture, self.seq_len, self.seed)
        timing = {"pack": time.perf_counter() - begin, "peak_rss_mb": peak_rss_mb()}
        return Receipt(key=task.key, files=tuple(packed.write(self.folder)), data=summary, timing=timing)


def _sources(spec: TrainSpec) -> dict[str, MixtureEntry]:
    """Source name -> amount, in the recipe's order."""
    named = [(chat_name(d) if isinstance(d, ChatData) else d.set, d) for d in spec.data]
    return {name: data.entry(name) for name, data in named}


def _pack_node(name: str, spec: TrainSpec, inputs: Inputs) -> Node:
    sources = _sources(spec)
    roles = {f"tokens:{s}": f"tokens/{s}" for s in sources}

    def run(ctx: Context, draft: Draft, artifacts: Mapping[str, Artifact]) -> Artifact:
        stores = {s: artifacts[f"tokens:{s}"].folder for s in sources}
        kwargs: dict[str, object] = {
            "folder": draft.folder, "stores": stores, "mixture": tuple(sources.values()),
            "seq_len": spec.seq_len, "seed": spec.pack_seed,
        }  # fmt: skip
        receipts = ctx.executor.map(Job("pack", PackWorker, kwargs, [Task("plan", {})], draft, unit="plans"))
        return draft.commit(receipts, summary=dict(receipts[0].data))

    def identity() -> dict[str, Json]:
        mixture: list[Json] = [dict(e.identity(inputs.digest)) for e in sources.values()]
        return {"seq_len": spec.seq_len, "seed": spec.pack_seed, "mixture": mixture}

    about = f"pack {', '.join(sources)} into rows of {spec.seq_len}"
    return Node(f"pack/{name}", "pack", VERSIONS["pack"], roles, identity, run, about)


# -------------------------------------------------------------------------------------------------------------------- training


def train_params(spec: TrainSpec) -> TrainParams:
    """The training room's view of a recipe's train section."""
    return TrainParams.model_validate({n: getattr(spec, n) for n in TrainParams.model_fields})


def _train_node(name: str, spec: TrainSpec, recipe: Recipe, inputs: Inputs) -> Node:
    sources = _sources(spec)
    heldout = [s + HELDOUT for s in heldout_rules(recipe) if not recipe.tokens or not recipe.tokens.sets or s in recipe.tokens.sets]
    roles = {"plan": f"pack/{name}", TOKENIZER: TOKENIZER, **{f"tokens:{s}": f"tokens/{s}" for s in sources}}
    roles |= {f"heldout:{s}": f"tokens/{s}" for s in heldout}
    files = [h.name for h in recipe.tokens.heldout] if recipe.tokens else []
    roles |= {f"heldout:{n}": f"tokens/heldout-{n}" for n in files}
    if isinstance(spec.init, str):
        roles["parent"] = model_step(recipe, spec.init)

    def run(ctx: Context, draft: Draft, artifacts: Mapping[str, Artifact]) -> Artifact:
        from cluster.steps.training import run_train_step

        parent = model_folder(recipe, spec.init, artifacts["parent"]) if isinstance(spec.init, str) else None
        if parent is not None:
            end = recipe.tokens.tokenizer.end_of_text if recipe.tokens else None
            require_same_ids(artifacts[TOKENIZER].path(TOKENIZER), parent, end)
        return run_train_step(ctx, draft, name, artifacts, list(sources), [*heldout, *files], spec, parent, recipe.cluster)

    def identity() -> dict[str, Json]:
        out = dict(train_params(spec).identity(inputs.digest))
        if isinstance(spec.init, ModelInit):
            out["init"] = dict(spec.init.identity(inputs.digest))
        return out

    start = spec.init if isinstance(spec.init, str) else f"random weights ({spec.init.model_type})"
    return Node(f"train/{name}", "train", VERSIONS["train"], roles, identity, run, f"train {name} from {start}")


# --------------------------------------------------------------------------------------------------------------------- merging


@dataclass(frozen=True)
class MergeWorker:
    """One task: merge two model folders into ``model/``."""

    folder: Folder
    params: MergeParams
    instruct: str
    trained: str
    device: str

    def run(self, task: Task) -> Receipt:
        from merging.merge import merge

        begin = time.perf_counter()
        out = self.folder.path(MODEL)
        shutil.rmtree(out, ignore_errors=True)
        summary = merge(self.params, self.instruct, self.trained, out, device=self.device)
        timing = {"merge": time.perf_counter() - begin, "peak_rss_mb": peak_rss_mb()}
        return Receipt(key=task.key, files=tuple(model_entries(self.folder)), data=summary, timing=timing)


def model_entries(folder: Folder) -> list[FileEntry]:
    """Entries of every file below ``model/``."""
    return [folder.entry(name) for name in folder.names(MODEL)]


def _merge_node(name: str, spec: MergeSpec, recipe: Recipe, inputs: Inputs) -> Node:
    params = MergeParams.model_validate({n: getattr(spec, n) for n in MergeParams.model_fields})
    roles = {"instruct": model_step(recipe, spec.instruct), "trained": model_step(recipe, spec.trained)}

    def run(ctx: Context, draft: Draft, artifacts: Mapping[str, Artifact]) -> Artifact:
        kwargs: dict[str, object] = {
            "folder": draft.folder, "params": params, "instruct": model_folder(recipe, spec.instruct, artifacts["instruct"]),
            "trained": model_folder(recipe, spec.trained, artifacts["trained"]), "device": "cuda" if recipe.cluster.use_gpu else "cpu",
        }  # fmt: skip
        job = Job(
            "merge", MergeWorker, kwargs, [Task("merge", {})], draft, unit="models", n_gpus=1.0 if recipe.cluster.use_gpu else 0.0
        )
        receipts = ctx.executor.map(job)
        return draft.commit(receipts, summary=dict(receipts[0].data))

    about = f"{spec.method} of {spec.instruct} and {spec.trained}"
    return Node(f"merge/{name}", "merge", VERSIONS["merge"], roles, lambda: params.identity(inputs.digest), run, about)
