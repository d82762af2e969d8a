"""Errors are sentences, survive pickling, and give operating-system failures a remedy."""

import errno
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import errors
from store.errors import ArtifactError, DefinemedError, InputError, RecipeError, ResourceError, StepError, from_os_error

KINDS = (DefinemedError, RecipeError, InputError, ArtifactError, StepError, ResourceError)
maybe = st.none() | st.text(max_size=20)


def test_a_sentence_has_where_what_expected_and_remedy():
    error = InputError("the file is truncated", where="a.parquet", expected="8 MB", remedy="copy it again")
    assert str(error) == "a.parquet: the file is truncated; expected 8 MB. Copy it again."
    assert str(StepError("it failed")) == "it failed."
    assert str(StepError("why", remedy="did you mean x?")) == "why. Did you mean x?"


@given(st.sampled_from(KINDS), st.text(min_size=1, max_size=20), maybe, maybe, maybe)
def test_pickling_keeps_the_class_and_every_part(kind, what, where, expected, remedy):
    error = kind(what, where=where, expected=expected, remedy=remedy)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind and str(again) == str(error)
    assert (again.what, again.where, again.expected, again.remedy) == (what, where, expected, remedy)
    assert str(error).endswith((".", "?", "!")) and error.exit_code == 2


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (OSError(errno.ENOSPC, "No space left"), ResourceError, "the disk is full"),
        (OSError(errno.EDQUOT, "Quota"), ResourceError, "the disk is full"),
        (FileNotFoundError(errno.ENOENT, "No such file"), InputError, "no such file"),
        (PermissionError(errno.EACCES, "denied"), ResourceError, "permission denied"),
        (IsADirectoryError(errno.EISDIR, "Is a directory"), ResourceError, "IsADirectoryError: Is a directory"),
        (OSError("no number"), ResourceError, "OSError: no number"),
    ],
)
def test_operating_system_errors_have_words(error, kind, says):
    found = from_os_error(error, "/data/x")
    assert type(found) is kind and found.what == says and str(found).startswith("/data/x: ")


def test_every_error_of_the_tree_is_documented():
    for name in vars(errors):
        kind = getattr(errors, name)
        if isinstance(kind, type) and issubclass(kind, DefinemedError):
            assert name in errors.__doc__
