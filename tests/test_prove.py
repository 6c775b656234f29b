"""The proof itself: every promise has tests that are there, and a broken one is not overlooked."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import prove
from scripts.prove import TASTE, Budget, Promise, Ran

TEST = "tests/engine/test_promises.py"
PROMISE = Promise("G1", "order", (TEST,))
NO_SOAK = ("--no-soak", "--jobs", "1")


def test_every_promise_has_tests_and_they_are_there() -> None:
    prove.check(prove.PROMISES)
    names = [promise.name for promise in prove.PROMISES]
    assert names == [*(f"G{n}" for n in range(1, 10)), *(f"P{n}" for n in range(1, 9)), "T"]


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
        <testcase name="a" time="1.5"><property name="late ms" value="0.5"/></testcase>
        <testcase name="b" time="2"><property name="late ms" value="2"/></testcase>
        <testcase name="c"><failure message="no"/></testcase>
        <testcase name="d"><skipped message="not here"/></testcase>
        </testsuite></testsuites>"""
    )
    worst = {"late ms": 2.0}
    assert prove.read_report(report) == Ran(passed=2, failed=1, figures=worst, took_s=3.5)


def test_rounds_are_added_and_the_worst_figure_of_both_is_kept() -> None:
    first = Ran(examples=60, passed=2, figures={"late ms": 2.0, "off ms": 1.0}, took_s=1)
    second = Ran(examples=900, passed=2, failed=1, figures={"late ms": 0.5}, took_s=9, said="no")
    assert first + second == Ran(
        examples=960,
        passed=4,
        failed=1,
        figures={"late ms": 2.0, "off ms": 1.0},
        took_s=10,
        said="no",
    )


def test_a_broken_promise_fails_the_proof_and_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    def run(tests: str, examples: int, seed: int) -> Ran:
        return Ran(failed=1, said="it broke", figures={"late ms": 2.0})

    assert prove.main(["--examples", "9", *NO_SOAK], run, [PROMISE]) == 1
    said = capsys.readouterr().out
    assert "1 BROKEN" in said
    assert "late ms 2" in said
    assert "it broke" in said


@pytest.mark.parametrize(
    ("arguments", "examples"), [(["--examples", "7"], 7), (["--full"], prove.FULL_EXAMPLES)]
)
def test_so_many_examples_as_were_asked_for_run_in_one_round(
    arguments: list[str], examples: int, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[int, int]] = []

    def run(tests: str, examples: int, seed: int) -> Ran:
        asked.append((examples, seed))
        return Ran(examples=examples)

    assert prove.main([*arguments, "--seed", "5", *NO_SOAK], run, [PROMISE]) == 0
    assert asked == [(examples, 5)]
    assert "held" in capsys.readouterr().out


def test_tests_of_two_promises_run_once_and_count_for_each(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[tuple[str, int]] = []

    def run(tests: str, examples: int, seed: int) -> Ran:
        asked.append((tests, seed))
        return Ran(examples=TASTE if seed == 5 else examples, took_s=1.0)

    promises = [PROMISE, Promise("G2", "urgent", (TEST, "tests/chaos"))]
    assert prove.main(["--minutes", "10", "--seed", "5", *NO_SOAK], run, promises) == 0
    assert asked == [(TEST, 5), ("tests/chaos", 5), (TEST, 6)], "chaos is whole at once"
    rows = [line for line in capsys.readouterr().out.splitlines() if "held" in line and "│" in line]
    counts = [int(row.split("│")[3].replace(",", "")) for row in rows]
    assert counts[1] == counts[0] + TASTE
    assert 27_000 < counts[0] <= 28_860, "600 s, of which 0.8 are used, 60 examples a second"


def test_the_time_that_is_left_is_shared_and_what_one_leaves_is_for_the_next() -> None:
    budget = Budget(ends_s=1_000, waiting=4, workers=2)
    taste = Ran(examples=60, took_s=6)
    # 500 s each for four files on two workers; 0.8 of them, ten examples a second.
    assert budget.examples(taste, now_s=0) == 4_000
    # It was done early: three files share 2 x 900 s.
    assert budget.examples(taste, now_s=100) == 4_800
    assert budget.examples(taste, now_s=995) == 0, "the first round had more"
    assert budget.examples(Ran(took_s=0.001), now_s=0) == prove.FULL_EXAMPLES


def test_a_soak_is_a_row_and_a_failing_one_fails_the_proof(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(tests: str, examples: int, seed: int) -> Ran:
        return Ran(examples=examples)

    soak = ("soak", "two calls", lambda: Ran(examples=2, failed=1, figures={"MiB grown": 9.0}))
    monkeypatch.setattr(prove, "SOAKS", (soak,))
    assert prove.main(["--examples", "9", "--jobs", "2"], run, [PROMISE]) == 1
    said = capsys.readouterr().out
    assert "MiB grown 9" in said
    assert "1 BROKEN" in said


def test_the_soak_counts_its_calls_and_reports_its_figures() -> None:
    soaked = prove.soak(0, 5)
    assert (soaked.examples, soaked.failed, soaked.said) == (5, 0, "")
    assert soaked.figures["answers missing"] == 0
    assert 1 < soaked.figures["MiB at most"] < 1_000


def test_a_promise_that_does_not_exist_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert prove.main(["--only", "G9", "--no-soak"], promises=[PROMISE]) == 2
    assert "G9" in capsys.readouterr().out


def test_tests_are_run_and_counted_with_the_examples_that_were_asked_for() -> None:
    ran = prove.run_tests("tests/realtime/test_limits.py", 20, seed=1)
    assert ran.failed == 0
    assert ran.examples == 40, "two properties"
    assert ran.passed > 2


def test_a_failure_says_how_to_see_it_again(tmp_path: Path) -> None:
    wrong = tmp_path / "test_wrong.py"
    wrong.write_text("def test_it() -> None:\n    assert 1 == 2\n", "utf-8")
    ran = prove.run_tests(str(wrong), 20, seed=7)
    assert ran.failed == 1
    assert f"FRAMEPIPE_EXAMPLES=20 pytest --hypothesis-seed=7 {wrong}" in ran.said


def test_tests_that_are_all_skipped_prove_nothing(tmp_path: Path) -> None:
    skipped = tmp_path / "test_skipped.py"
    skipped.write_text("import pytest\n\ndef test_it() -> None:\n    pytest.skip('no')\n", "utf-8")
    with pytest.raises(prove.ProofError, match="skipped"):
        prove.run_tests(str(skipped), 20, seed=7)
