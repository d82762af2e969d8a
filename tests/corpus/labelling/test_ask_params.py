"""Parameters and prompts: what bears identity, what is refused, what a request says."""

import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from corpus.labelling.ask_params import AskParams, EndpointParams, prompts_of
from corpus.labelling.prompt import BUILT_IN, FOLDER, Prompt
from corpus.labelling.request import voters_of
from store.errors import InputError, RecipeError
from store.fs import digest_file
from store.params import Params

LABELS = [{"name": "medical", "about": "health,\n  disease"}, {"name": "other", "about": "{page} or the rest"}]
MODEL = {"name": "m", "endpoint": {"url": "http://127.0.0.1:1/v1"}}


def params(**more):
    return AskParams.model_validate({"labels": LABELS, "models": [MODEL], **more})


def digest(url):
    return digest_file(url)[1]


def identity(**more):
    return params(**more).identity(digest)


EXECUTION = {
    "url": "https://elsewhere.example/api/v1", "api_key_env": "KEY", "check_model": False, "concurrency": 3, "requests_per_minute": 5,
    "tokens_per_minute": 6, "timeout_s": 7, "attempts": 8, "max_wait_s": 9, "stop_after": 10, "input_price": 11, "output_price": 12,
    "answer_s": 13,
}  # fmt: skip


def test_where_and_how_a_model_is_reached_bears_no_identity():
    assert set(EXECUTION) == set(EndpointParams.model_fields)
    same = [
        identity(models=[{"name": "m", "endpoint": EXECUTION}]), identity(models=[{"name": "m", "batch": {"replicas": 4}}]),
        identity(max_cost=5, chars_per_token=2.5),
    ]  # fmt: skip
    assert all(s == identity() for s in same)
    assert "127.0.0.1" not in str(identity()) and FOLDER not in str(identity())


@pytest.mark.parametrize(
    "change",
    [
        {"models": [MODEL | {"name": "n"}]}, {"models": [MODEL | {"extra": {"top_p": 0.5}}]}, {"labels": LABELS[::-1]},
        {"prompts": ["de"]},
        {"labels": [LABELS[0], LABELS[1] | {"about": "x"}]}, {"vote": "unanimous"}, {"temperature": 0.5}, {"seed": 2}, {"seed": None},
        {"max_tokens": 65}, {"max_chars": 4001}, {"tries": 1}, {"unanswered": "leave_out"}, {"structured": "text"},
    ],
)  # fmt: skip
def test_what_decides_labels_bears_identity(change):
    assert identity(**change) != identity()


def test_a_prompt_is_its_content(tmp_path):
    copy = shutil.copy(Path(FOLDER, "en.yaml"), tmp_path / "mine.yaml")
    assert identity(prompts=[str(copy)]) == identity(prompts=["en"])
    with open(copy, "a", encoding="utf-8") as file:
        file.write("# more\n")
    assert identity(prompts=[str(copy)]) != identity(prompts=["en"])


def test_identity_holds_inside_other_parameters():
    class Outer(Params):
        ask: AskParams

    assert Outer(ask=params()).identity(digest)["ask"] == identity()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": LABELS[:1]}, "at least 2"),
        ({"labels": [LABELS[0], LABELS[0] | {"name": "Medical"}]}, "a label is listed twice"),
        ({"labels": [LABELS[0], {"name": 'a"b', "about": "x"}]}, "pattern"),
        ({"labels": [LABELS[0], {"name": " a", "about": "x"}]}, "pattern"),
        ({"models": [MODEL, MODEL]}, "a model is listed twice"),
        ({"prompts": ["en", "en"]}, "a prompt is listed twice"),
        ({"models": [{"name": "m"}]}, "either endpoint or batch"),
        ({"models": [MODEL | {"batch": {}}]}, "either endpoint or batch"),
        ({"models": [MODEL | {"extra": {"temperature": 1}}]}, "which other parameters give"),
        ({"models": [MODEL | {"extra": {"api_key": "x"}}]}, "looks like a secret"),
        ({"models": [{"name": "m", "endpoint": {"url": "ftp://x/v1"}}]}, "begins with http"),
        ({"models": [{"name": "m", "endpoint": {"url": "file:///etc/passwd"}}]}, "begins with http"),
        ({"models": [{"name": "m", "endpoint": {"url": "http://x:99999/v1"}}]}, "range"),
        ({"models": [{"name": "m", "endpoint": {"url": "http://user:word@x/v1"}}]}, "no user, password"),
        ({"models": [{"name": "m", "endpoint": {"url": "http://x/v1?key=abc"}}]}, "no user, password, query"),
        ({"models": [{"name": "m", "endpoint": {"url": "http://x/v1", "api_key_env": "sk-abc"}}]}, "pattern"),
    ],
)
def test_what_is_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        params(**change)


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_prompts_work_for_any_labels(name):
    prompt = Prompt.read(name)
    assert prompt.name == name
    system, user = (m["content"] for m in prompt.messages([("Wald", "Bäume"), ("Moor", "Torf")], "Der Text.", 1))
    assert "- Wald: Bäume\n- Moor: Torf" in system and '"Wald", "Moor"' in system
    assert user.startswith("<page ") and "\nDer Text.\n</page " in user
    assert not [w for w in ("medi", "{labels}", "{names}", "{page}") if w in (system + user).lower()]
    again = prompt.messages([("Wald", "Bäume"), ("Moor", "Torf")], "Der Text.", 2)
    assert again[0]["content"] == system and again[1]["content"].startswith(user) and '"Wald", "Moor"' in again[1]["content"]


def test_descriptions_and_pages_are_filled_in_once_and_stay_as_they_are():
    (voter,) = voters_of(params())
    system, user = (m["content"] for m in voter.request(0, "a {labels} {names} page", 1).messages)
    assert "- medical: health, disease\n- other: {page} or the rest" in system
    assert "\na {labels} {names} page\n" in user


def test_a_prompt_needs_no_system_message_and_no_more_for_a_further_try(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("name: own\nuser: |\n  {names}?\n  {page}\n", encoding="utf-8")
    prompt = Prompt.read(str(file))
    first, second = (prompt.messages([("a", "x"), ("b", "y")], "T", n) for n in (1, 2))
    assert first == second and [m["role"] for m in first] == ["user"] and first[0]["content"].startswith('"a", "b"?\n<page ')


@pytest.mark.parametrize(
    "text",
    ["", "just words", "name: x\n", "name: x\nuser: no place\n", "name: x y\nuser: '{page}'\n",
     "name: x\nuser: '{page}'\nsytem: s\n",
     "name: x\nuser: [1]\n", "name: !!python/object/apply:os.system ['true']\nuser: '{page}'\n",
     "name: x\nuser: '{page}'\ndigest: d\n"],
)  # fmt: skip
def test_files_that_are_no_prompts(tmp_path, text):
    file = tmp_path / "p.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=r"p\.yaml: (this is no prompt|the prompt has no place)"):
        Prompt.read(str(file))


def test_a_prompt_that_is_not_there():
    with pytest.raises(InputError, match="no such file"):
        Prompt.read("fr")


def test_two_prompts_of_one_name(tmp_path):
    copy = shutil.copy(Path(FOLDER, "en.yaml"), tmp_path / "mine.yaml")
    with pytest.raises(RecipeError, match="bear the name en"):
        prompts_of(params(prompts=["en", str(copy)]))


def test_keys_of_requests_differ_by_what_decides_the_answer():
    def key(text="T", attempt=1, **more):
        return voters_of(params(**more))[0].request(0, text, attempt).key

    base = key()
    others = [
        key(text="U"), key(attempt=2), key(temperature=0.1), key(seed=3), key(max_tokens=65), key(prompts=["de"]),
        key(structured="text"),
        key(models=[MODEL | {"name": "n"}]), key(models=[MODEL | {"extra": {"top_p": 1}}]), key(labels=LABELS[::-1]),
    ]  # fmt: skip
    assert len({base, *others}) == 1 + len(others)
    assert base == key(vote="unanimous", tries=5, models=[{"name": "m", "endpoint": EXECUTION}], chars_per_token=9)
    assert base == voters_of(params())[0].request(7, "T", 1).key


def test_the_schema_of_parameters_describes_every_field():
    def fields(schema):
        yield from schema.get("properties", {}).items()

    schema = AskParams.model_json_schema()
    found = [f for part in (schema, *schema["$defs"].values()) for f in fields(part)]
    assert len(found) > 30 and not [name for name, field in found if not field.get("description")]
