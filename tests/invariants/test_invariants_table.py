"""The table of invariants in the documentation names tests that exist, and leaves no invariant and no test out."""

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
TABLE = HERE.parents[1] / "docs" / "invariants.md"


def rows() -> dict[str, set[str]]:
    """Invariant to the tests its row names."""
    lines = [line for line in TABLE.read_text().splitlines() if re.match(r"\| I\d+ \|", line)]
    return {line.split("|")[1].strip(): set(re.findall(r"`(\w+::test_\w+)`", line)) for line in lines}


def existing() -> set[str]:
    """The tests of this folder as the table names them."""
    return {
        f"{file.stem.removeprefix('test_invariants_')}::{node.name}"
        for file in HERE.glob("test_invariants_of_*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_invariant_has_a_row_that_names_tests() -> None:
    found = rows()
    assert list(found) == [f"I{number}" for number in range(1, 26)]
    assert all(found.values())


def test_every_row_names_tests_that_exist() -> None:
    assert set().union(*rows().values()) - existing() == set()


def test_every_test_is_in_the_row_of_its_invariant() -> None:
    found = rows()
    for test in existing():
        name = test.partition("::")[2]
        numbers = [f"I{int(number)}" for number in re.findall(r"(?:^test|_)_?i(\d\d)(?=_)", name)]
        assert numbers, f"{name} does not begin with the number of its invariant"
        assert any(test in found[number] for number in numbers), f"{name} is not in the table"
