"""The check of the tests: its table fits the code, and it can tell a survivor from a fall."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

from scripts import mutants
from scripts.mutant_table import MUTANTS, Mutant

ADDS = Mutant(
    name="adds-two",
    breaks="one and one are three",
    file="sums.py",
    old="return a + b",
    new="return a + b + 1",
    tests=("test_sums.py",),
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project of one function and one test."""
    (tmp_path / "sums.py").write_text("def add(a, b):\n    return a + b\n")
    (tmp_path / "test_sums.py").write_text(
        "import sums\n\n\ndef test_one_and_one_are_two():\n    assert sums.add(1, 1) == 2\n"
    )
    return tmp_path


def test_the_table_names_what_there_is() -> None:
    # Whether each text is still found, `make mutants` asks first of all.
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 30
    for mutant in MUTANTS:
        assert mutant.old != mutant.new
        for name in (mutant.file, *mutant.tests):
            assert (mutants.ROOT / name).is_file(), f"{mutant.name}: there is no {name}"


def test_a_text_that_the_code_does_not_hold_is_an_error_that_names_the_mutant(tree: Path) -> None:
    with pytest.raises(mutants.MutantError, match=r"adds-two: its text stands 0 times in sums.py"):
        mutants.check([evolve(ADDS, old="return b + a")], tree)


def test_a_text_that_stands_twice_is_an_error() -> None:
    with pytest.raises(mutants.MutantError, match="stands 2 times"):
        mutants.mutated(ADDS, "return a + b\nreturn a + b\n")


def test_two_mutants_of_one_name_and_tests_that_do_not_exist_are_errors(tree: Path) -> None:
    with pytest.raises(mutants.MutantError, match="two mutants are named 'adds-two'"):
        mutants.check([ADDS, ADDS], tree)
    with pytest.raises(mutants.MutantError, match=r"there is no test_none.py"):
        mutants.check([evolve(ADDS, tests=("test_none.py",))], tree)


def test_a_mutant_that_a_test_notices_falls_and_the_copy_is_mended(tree: Path) -> None:
    before = (tree / "sums.py").read_text()
    result = mutants.try_one(ADDS, tree, 1)
    assert result.noticed_by == "test_sums.py::test_one_and_one_are_two"
    assert (tree / "sums.py").read_text() == before


def test_a_mutant_that_no_test_notices_survives_and_is_on_the_page(tree: Path) -> None:
    harmless = evolve(ADDS, new="return b + a")
    result = mutants.try_one(harmless, tree, 2)
    assert result.noticed_by is None
    page = mutants.page([result])
    assert "1 mutants, 0 noticed, 1 survived." in page
    assert "| adds-two | one and one are three | `sums.py` | **nothing: it survives** |" in page


def test_a_mutant_that_is_no_python_is_an_error_and_not_a_success(tree: Path) -> None:
    with pytest.raises(mutants.MutantError, match="adds-two: pytest ended with code 2"):
        mutants.try_one(evolve(ADDS, new="return a +"), tree, 3)


def test_tests_that_fail_without_any_change_are_an_error(tree: Path) -> None:
    (tree / "sums.py").write_text("def add(a, b):\n    return 0\n")
    with pytest.raises(mutants.MutantError, match="fail without any change"):
        mutants.check_baseline(tree, [ADDS])
