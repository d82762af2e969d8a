"""The errors a user can meet. Each says what happened, where, what was expected and what to do.

    DefinemedError
    |-- RecipeError        the recipe is wrong: unknown key, wrong type, missing file it names
    |-- InputError         input data cannot be read: truncated, corrupt, a missing column
    |-- ArtifactError      an artifact is incomplete, damaged, or not the one expected
    |-- StepError          a step failed; names the tasks that kept failing
    +-- ResourceError      the machine lacks something: disk space, memory, a package, a service

The command line prints one of these as a sentence and ends with exit code 2; anything else is a defect and keeps its traceback.
"""

from __future__ import annotations

import errno


class DefinemedError(Exception):
    """Base of all expected failures.

    Args:
        what: one sentence without a full stop: what happened.
        where: file, recipe key, shard or step.
        expected: what would have been right.
        remedy: what to do.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str | None = None, expected: str | None = None, remedy: str | None = None) -> None:
        self.what, self.where, self.expected, self.remedy = what, where, expected, remedy
        super().__init__(self.sentence())

    def sentence(self) -> str:
        """The message as one line of prose."""
        text = self.what if self.where is None else f"{self.where}: {self.what}"
        if self.expected:
            text += f"; expected {self.expected}"
        if self.remedy:
            # A remedy that begins with a command keeps its spelling.
            remedy = self.remedy if self.remedy.startswith("definemed ") else self.remedy[0].upper() + self.remedy[1:]
            text += f"{'' if text.endswith(('.', '?', '!')) else '.'} {remedy}"
        return text if text.endswith((".", "?", "!")) else text + "."

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return _rebuild, (type(self), self.what, self.where, self.expected, self.remedy)


class RecipeError(DefinemedError):
    """The recipe is wrong."""


class InputError(DefinemedError):
    """Input data cannot be read. Never retried: the same bytes fail again."""


class ArtifactError(DefinemedError):
    """An artifact is incomplete, damaged or not the one expected."""


class StepError(DefinemedError):
    """A step failed; the message names the tasks."""


class ResourceError(DefinemedError):
    """The machine lacks something the work needs."""


def _rebuild(cls: type[DefinemedError], what: str, where: str | None, expected: str | None, remedy: str | None) -> DefinemedError:
    """Unpickling: keyword arguments do not survive the default protocol, and errors cross process borders."""
    return cls(what, where=where, expected=expected, remedy=remedy)


def is_disk_full(error: OSError) -> bool:
    """Whether the disk, or what the user may have of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def from_os_error(error: OSError, where: str) -> DefinemedError:
    """The user's view of an operating-system error met while reading or writing ``where``."""
    if is_disk_full(error):
        return ResourceError("the disk is full", where=where, remedy="free space or choose another --out; finished work is kept")
    if isinstance(error, FileNotFoundError):
        return InputError("no such file", where=where, remedy="check the path in the recipe")
    if isinstance(error, PermissionError):
        return ResourceError("permission denied", where=where, remedy="choose a folder you may read and write")
    return ResourceError(f"{type(error).__name__}: {error.strerror or error}", where=where)
