"""The proof itself: every promise has tests that are there, and a broken one is not overlooked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from scripts import prove
from scripts.prove import Promise, Result

PROMISE = Promise("G1", "order", ("tests/engine/test_promises.py",))


RESULT = Result(promise=PROMISE, examples=5, failed=0, figures={}, took_s=1.0)


def result(**fields: Any) -> Result:
    return evolve(RESULT, **fields)


def test_every_promise_has_tests_and_they_are_there() -> None:
    prove.check(prove.PROMISES)
    names = [promise.name for promise in prove.PROMISES]
    assert names == [*(f"G{n}" for n in range(1, 10)), *(f"P{n}" for n in range(1, 9))]


@pytest.mark.parametrize(
    ("tests", "why"),
    [
        ((), "G1 has no test"),
        (("tests/test_none.py",), "there is no tests/test_none.py"),
        (("tests/test_prove.py::test_none",), "there is no tests/test_prove.py::test_none"),
    ],
)
def test_a_promise_without_a_test_is_an_error(tests: tuple[str, ...], why: str) -> None:
    with pytest.raises(prove.ProofError, match=why):
        prove.check([Promise("G1", "order", tests)])


def test_examples_are_counted_from_what_ran() -> None:
    said = """
    - during generate phase (0.1 seconds):
      - 60 passing, 0 failing, and 3 invalid test cases
    - during generate phase (9 seconds):
      - 2000 passing, 0 failing, and 0 invalid test cases
    """
    assert prove.count_examples(said) == 2_060


def test_the_greatest_value_of_a_figure_is_the_worst_and_skipped_tests_prove_nothing(
    tmp_path: Path,
) -> None:
    report = tmp_path / "report.xml"
    report.write_text(
        """<testsuites><testsuite>
        <testcase name="a"><property name="late ms" value="0.5"/></testcase>
        <testcase name="b"><property name="late ms" value="2"/></testcase>
        <testcase name="c"><failure message="no"/></testcase>
        <testcase name="d"><skipped message="not here"/></testcase>
        </testsuite></testsuites>"""
    )
    assert prove.read_report(report) == (2, 1, {"late ms": 2.0})


def test_a_broken_promise_fails_the_proof_and_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    def run(promise: Promise, examples: int) -> Result:
        return result(failed=1, said="it broke", figures={"late ms": 2.0})

    assert prove.main(["--no-soak", "--jobs", "1"], run, [PROMISE]) == 1
    said = capsys.readouterr().out
    assert "1 BROKEN" in said
    assert "late ms 2" in said
    assert "it broke" in said


def test_a_proof_that_holds_asks_for_as_many_examples_as_it_was_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[int] = []

    def run(promise: Promise, examples: int) -> Result:
        asked.append(examples)
        return result()

    for arguments in ([], ["--examples", "7"], ["--full"]):
        assert prove.main(["--no-soak", *arguments], run, [PROMISE]) == 0
    assert asked == [prove.EXAMPLES, 7, 100_000]
    assert "held" in capsys.readouterr().out


def test_a_promise_that_does_not_exist_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert prove.main(["--only", "G9", "--no-soak"], promises=[PROMISE]) == 2
    assert "G9" in capsys.readouterr().out


def test_tests_that_are_run_for_a_promise_are_counted() -> None:
    tried = prove.try_one(Promise("G9", "cost", ("tests/realtime/test_limits.py",)), 20)
    assert tried.failed == 0
    assert tried.examples > 40, "two properties of 20 examples, and the plain tests"
