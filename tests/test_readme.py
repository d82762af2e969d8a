"""The README says what the result files say."""

import pytest

from benchmarks import readme


def test_the_tables_are_those_of_the_result_files():
    with open(readme.README, encoding="utf-8") as file:
        text = file.read()
    assert "<!-- demo-table -->" in text and "<!-- road-table -->" in text
    assert readme.render(text) == text, "run python benchmarks/readme.py"


@pytest.mark.parametrize("name", ["demo", "road", "tokens"])
def test_result_files_have_the_agreed_shape(name):
    result = readme.load(name)
    assert set(result) == {"name", "machine", "versions", "input", "figures", "notes"} and result["name"] == name
    assert all(value is None or isinstance(value, (int, float)) for value in result["figures"].values())
