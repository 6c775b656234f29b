"""Run the long proofs, and say of each promise how it was tried and whether it held.

    python scripts/prove.py                   two hours, as many examples as fit
    python scripts/prove.py --minutes 20      shorter
    python scripts/prove.py --full            100,000 examples of each property: days
    python scripts/prove.py --examples 100    so many, however long it takes
    python scripts/prove.py --only P2 G4      some of the promises; --no-soak leaves the soak out

Files of tests run in processes of their own, one a core, beside the soak. Each runs twice: first
with few examples, whose time says how many fit into its share of what is left, then with those and
with another seed. What several promises name runs once and counts for each of them. Counted is what
ran, not what was asked for.

The table that is printed has a row for each promise: examples that passed, the worst figure that a
test measured, and the verdict. A promise without a test, or one whose tests are not there, is an
error.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from attrs import define, evolve, field, frozen
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]

MINUTES: Final = 120
"""So long it takes unless asked otherwise."""

TASTE: Final = 60
"""Examples of each property in the first round."""

FULL_EXAMPLES: Final = 100_000
"""No property is given more."""

MARGIN: Final = 0.8
"""Of its share of the time, a file is given examples for so much: later ones are longer."""

WHOLE: Final = frozenset({"tests/chaos"})
"""What has no examples to add: the first round is all of it."""


@frozen
class Promise:
    """What is promised, and who tries to break it.

    Attributes:
        name: "G1" to "G9" for the engine, "P1" to "P8" for the voice, "T" for turns.
        says: The promise in a few words.
        tests: Files, or names of tests in them.
    """

    name: str
    says: str
    tests: tuple[str, ...]


_ENGINE: Final = "tests/engine/test_promises.py::"
_RECONNECT: Final = "tests/processors/test_realtime_reconnect.py::"
_PLAYOUT: Final = "tests/conversation/test_playout.py::"
_MACHINE: Final = "tests/engine/test_machine.py"
_BARGEIN: Final = "tests/conversation/test_bargein_machine.py"

PROMISES: Final = (
    Promise(
        "G1",
        "ordered frames arrive in order, once each",
        (
            f"{_ENGINE}test_g1_ordered_frames_reach_each_stage_once_each_in_the_order_they_were_emitted",
            _MACHINE,
        ),
    ),
    Promise(
        "G2",
        "urgent frames go first",
        (
            f"{_ENGINE}test_g2_when_emit_returns_every_stage_on_the_way_has_handled_an_urgent_frame",
            "tests/engine/test_delivery.py",
        ),
    ),
    Promise(
        "G3",
        "the cut is atomic, told last to first",
        (
            f"{_ENGINE}test_g3_a_cut_is_told_once_last_to_first_and_nothing_of_it_comes_after",
            "tests/engine/test_interrupt.py",
        ),
    ),
    Promise(
        "G4",
        "no stale frame is delivered",
        (
            f"{_ENGINE}test_g4_a_frame_is_delivered_dropped_or_refused_by_its_turn_alone",
            "tests/test_conversations.py",
        ),
    ),
    Promise(
        "G5",
        "everything is bounded",
        (
            f"{_ENGINE}test_g5_a_mailbox_holds_its_capacity_and_what_one_frame_becomes_at_most",
            "tests/engine/test_threads.py",
        ),
    ),
    Promise(
        "G6",
        "the end comes once, after everything",
        (
            f"{_ENGINE}test_g6_the_end_comes_once_after_everything_and_nothing_outlives_the_run",
            "tests/engine/test_running.py",
        ),
    ),
    Promise(
        "G7",
        "a failure ends the run as one error",
        (
            f"{_ENGINE}test_g7_a_failing_stage_goes_on_as_often_as_it_may_and_then_ends_the_run",
            "tests/test_disk_full.py",
        ),
    ),
    Promise(
        "G8",
        "a seeded run in virtual time is the same each time",
        (
            f"{_ENGINE}test_g8_the_same_run_in_virtual_time_is_the_same_event_for_event",
            "tests/test_conversations.py::test_a_conversation_is_the_same_every_time",
        ),
    ),
    Promise(
        "G9",
        "what is not there costs nothing; memory does not grow",
        (
            f"{_ENGINE}test_g9_without_an_observer_the_tables_hold_the_bare_handlers",
            f"{_ENGINE}test_g9_a_frame_visits_only_stages_that_want_it",
            f"{_ENGINE}test_g9_memory_does_not_grow_with_the_length_of_a_call",
        ),
    ),
    Promise(
        "P1",
        "mute first, without a click",
        (
            f"{_BARGEIN}::test_it_never_stays_muted_whatever_happens",
            "tests/conversation/test_speaker.py",
        ),
    ),
    Promise(
        "P2",
        "heard is exact",
        (
            "tests/conversation/test_playout_machine.py",
            "tests/conversation/test_sinkline.py",
            "tests/test_conversations.py",
        ),
    ),
    Promise(
        "P3",
        "an undo goes on with the very next sample",
        ("tests/conversation/test_playout_machine.py", "tests/transports/test_sink_contract.py"),
    ),
    Promise(
        "P4",
        "one fate for each sample of the microphone",
        (
            "tests/realtime/test_mic_ring.py",
            "tests/conversation/test_mic_gate.py",
            f"{_RECONNECT}test_every_sample_of_the_microphone_has_one_fate",
        ),
    ),
    Promise(
        "P5",
        "one response at a time, every turn answered once",
        (
            "tests/realtime/test_answers_machine.py",
            "tests/realtime/test_revocations_machine.py",
        ),
    ),
    Promise(
        "P6",
        "speech after the end of a response cuts what still plays",
        (
            f"{_PLAYOUT}test_speech_after_the_response_is_done_cuts_what_still_plays",
            "tests/test_conversations.py",
        ),
    ),
    Promise(
        "P7",
        "nothing kills the call",
        (
            "tests/chaos",
            "tests/realtime/test_client_fuzz.py",
            "tests/realtime/test_fuzz_server.py",
            "tests/realtime/test_reconnect.py",
        ),
    ),
    Promise(
        "P8",
        "decided inside, acted outside",
        (
            "tests/test_docs.py::test_the_layout_names_every_layer_in_the_order_of_the_contract",
            "tests/realtime/test_client_protocol.py",
            "tests/conversation/test_bargein.py",
            "tests/conversation/test_playout.py",
        ),
    ),
    Promise(
        "T",
        "a void turn has no effect, a committed one stays",
        (
            "tests/conversation/test_turns_machine.py::TestTurns",
            "tests/conversation/test_fallback.py",
            "tests/processors/test_turns.py",
        ),
    ),
)
"""Every promise. P8 is an import contract besides (``make lint``): decisions import no clock."""


class ProofError(Exception):
    """The proof itself does not work."""


@frozen(kw_only=True)
class Ran:
    """What became of a file of tests, in one round or in all of them.

    Attributes:
        examples: Those of properties that passed.
        passed: Tests that passed.
        failed: Tests that failed.
        figures: The greatest value of each figure that tests measured.
        took_s: Seconds in tests.
        said: The end of what was printed, when something failed.
    """

    examples: int = 0
    passed: int = 0
    failed: int = 0
    figures: Mapping[str, float] = field(factory=dict[str, float])
    took_s: float = 0.0
    said: str = ""

    def __add__(self, other: Ran) -> Ran:
        """Two rounds of the same tests, or one round of two files."""
        names = {*self.figures, *other.figures}
        worst = {
            name: max(ran.figures[name] for ran in (self, other) if name in ran.figures)
            for name in names
        }
        return Ran(
            examples=self.examples + other.examples,
            passed=self.passed + other.passed,
            failed=self.failed + other.failed,
            figures=worst,
            took_s=self.took_s + other.took_s,
            said=self.said + other.said,
        )

    @property
    def verdict(self) -> str:
        """In a word."""
        return f"{self.failed} BROKEN" if self.failed else "held"

    @property
    def worst(self) -> str:
        """The figures in words."""
        return ", ".join(f"{name} {value:g}" for name, value in sorted(self.figures.items()))


def count_examples(said: str) -> int:
    """The examples that passed, as the statistics of hypothesis tell."""
    return sum(int(n.replace(",", "")) for n in re.findall(r"- ([\d,]+) passing", said))


def read_report(path: Path) -> Ran:
    """Tests that passed and failed, their time, and the greatest value of each figure."""
    passed = failed = 0
    took_s = 0.0
    figures: dict[str, float] = {}
    for case in ET.parse(path).getroot().iter("testcase"):
        took_s += float(case.get("time", "0"))
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is None:
            passed += 1
        for figure in case.iter("property"):
            name, value = str(figure.get("name")), float(str(figure.get("value")))
            figures[name] = max(value, figures.get(name, value))
    return Ran(passed=passed, failed=failed, figures=figures, took_s=took_s)


def check(promises: Sequence[Promise], root: Path = ROOT) -> None:
    """Refuse a promise that nobody tries to break.

    Raises:
        ProofError: It has no tests, or names some that are not there.
    """
    for promise in promises:
        if not promise.tests:
            raise ProofError(f"{promise.name} has no test: a promise is what a test tries to break")
        for test in promise.tests:
            file, _, name = test.partition("::")
            path = root / file
            if not path.exists() or (
                name and not re.search(rf"^(def )?{name}\b", path.read_text("utf-8"), re.MULTILINE)
            ):
                raise ProofError(f"{promise.name}: there is no {test}")


def run_tests(tests: str, examples: int, seed: int) -> Ran:
    """Run a file of tests, a folder, or one test.

    Raises:
        ProofError: pytest did not come to its end, or there was nothing to run.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = ["-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", tests]
        # The family that keeps what a test recorded of its worst figure.
        command += ["-o", "junit_family=xunit1", f"--junitxml={report}"]
        command += ["--hypothesis-show-statistics", f"--hypothesis-seed={seed}"]
        done = subprocess.run(
            [sys.executable, *command],
            check=False,
            cwd=ROOT,
            env={**os.environ, "FRAMEPIPE_EXAMPLES": str(examples)},
            capture_output=True,
            text=True,
        )
        if done.returncode not in (0, 1):
            raise ProofError(f"{tests}: pytest ended with {done.returncode}:\n{done.stdout}")
        ran = read_report(report)
    if not ran.passed + ran.failed:
        raise ProofError(f"{tests}: all of its tests were skipped")
    again = f"again: FRAMEPIPE_EXAMPLES={examples} pytest --hypothesis-seed={seed} {tests}\n"
    said = done.stdout[-6_000:] + again if ran.failed else ""
    return evolve(ran, examples=count_examples(done.stdout), said=said)


def soak(hours: float, calls: int) -> Ran:
    """A long call, or many calls one after another; its examples are turns or calls."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = ["-m", "benchmarks.soak", f"--hours={hours}", f"--calls={calls}"]
        began_s = time.monotonic()
        done = subprocess.run(
            [sys.executable, *command, f"--report={report}"],
            check=False,
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        figures: dict[str, float] = json.loads(report.read_text()) if report.exists() else {}
    return Ran(
        examples=int(figures.pop("count", 0)),
        failed=int(done.returncode != 0),
        figures=figures,
        took_s=time.monotonic() - began_s,
        said=done.stdout + done.stderr if done.returncode else "",
    )


SOAKS: Final[tuple[tuple[str, str, Callable[[], Ran]], ...]] = (
    ("soak", "a day of a call: exact counts, flat memory", partial(soak, 24, 0)),
    ("soak", "ten thousand calls: the same", partial(soak, 0, 10_000)),
)


@define
class Budget:
    """Shares the time that is left among the files that have not had theirs.

    Attributes:
        ends_s: When all is to be over, on the clock of ``time.monotonic``.
        waiting: Files that wait for their long round.
        workers: How many run at a time; the soak has one of them while it runs.
    """

    ends_s: float
    waiting: int
    workers: int
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    def examples(self, taste: Ran, now_s: float) -> int:
        """How many examples fit, 0 if there is no time for more than the first round had."""
        with self._lock:
            left_s = self.ends_s - now_s
            share_s = min(left_s, left_s * self.workers / self.waiting)
            self.waiting -= 1
        fit = int(MARGIN * TASTE * share_s / max(taste.took_s, 0.01))
        return min(fit, FULL_EXAMPLES) if fit > TASTE else 0


def prove(
    tests: Sequence[str],
    soaks: Sequence[Callable[[], Ran]],
    *,
    minutes: float | None,
    examples: int,
    seed: int,
    jobs: int,
    run: Callable[[str, int, int], Ran],
    say: Callable[[str], None],
) -> tuple[dict[str, Ran], list[Ran]]:
    """Run everything once; see the top of the file.

    Args:
        tests: Each of them once.
        soaks: Run beside them, one after another.
        minutes: How long all of it may take; ``None``: ``examples`` in one round.
        examples: Of each property, where no time is set.
        seed: Of the first round.
        jobs: Processes at a time, 1 or more.
        run: Runs tests with so many examples and a seed.
        say: Is told what ends.
    """
    began_s = time.monotonic()

    def told(name: str, ran: Ran) -> Ran:
        say(f"{name}: {ran.examples:,} examples in {ran.took_s:.0f} s, {ran.verdict}")
        return ran

    def long_round(test: str) -> Ran:
        n = budget.examples(first[test], time.monotonic())
        return told(test, run(test, n, seed + 1)) if n else Ran()

    def all_soaks() -> list[Ran]:
        soaked = [told("soak", one()) for one in soaks]
        budget.workers = jobs
        return soaked

    budget = Budget(ends_s=began_s + 60 * (minutes or 0), waiting=0, workers=jobs)
    if soaks:
        budget.workers = max(1, jobs - 1)
    with ThreadPoolExecutor(jobs) as pool:
        soaking = pool.submit(all_soaks)
        rounds = TASTE if minutes is not None else examples
        done = pool.map(lambda test: told(test, run(test, rounds, seed)), tests)
        first = dict(zip(tests, done, strict=True))
        if minutes is None:
            return first, soaking.result()
        more = [test for test in tests if test not in WHOLE and first[test].examples]
        budget.waiting = len(more)
        # The slow ones last: what the quick ones leave of their share is theirs.
        more.sort(key=lambda test: first[test].took_s)
        second = dict(zip(more, pool.map(long_round, more), strict=True))
        return {test: first[test] + second.get(test, Ran()) for test in tests}, soaking.result()


def show(rows: Sequence[tuple[str, str, Ran]], console: Console) -> None:
    """Print the table."""
    table = Table(title="Promises", title_justify="left")
    for column in ("", "promise", "examples", "tests", "worst figure", "verdict", "s"):
        right = column in ("examples", "tests", "s")
        table.add_column(column, justify="right" if right else "left")
    for name, says, ran in rows:
        counts = (f"{ran.examples:,}", f"{ran.passed:,}")
        table.add_row(name, says, *counts, ran.worst, ran.verdict, f"{ran.took_s:.0f}")
    console.print(table)


def main(
    arguments: Sequence[str] | None = None,
    run: Callable[[str, int, int], Ran] = run_tests,
    promises: Sequence[Promise] = PROMISES,
) -> int:
    """Try the promises; 1 when one is broken, 2 when the proof itself does not work."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=MINUTES, help="how long it may take")
    length.add_argument("--examples", type=int, help="so many of each, however long it takes")
    length.add_argument("--full", action="store_true", help=f"{FULL_EXAMPLES:,} examples each")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="such as P2 G4")
    parser.add_argument("--no-soak", action="store_true", help="leave the soak out")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at a time")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="to run it again")
    asked = parser.parse_args(arguments)
    only: list[str] = asked.only or [promise.name for promise in promises]
    chosen = [promise for promise in promises if promise.name in only]
    console = Console(width=128)
    if len(chosen) != len(set(only)):
        known = [promise.name for promise in promises]
        unknown = ", ".join(name for name in only if name not in known)
        console.print(f"there is no promise {unknown}; there are {', '.join(known)}")
        return 2
    if asked.minutes <= 0:
        console.print(f"--minutes is {asked.minutes:g}; it must be more than 0")
        return 2
    fixed: int | None = FULL_EXAMPLES if asked.full else asked.examples
    soaks = () if asked.no_soak else SOAKS
    began_s = time.monotonic()
    say = partial(_progress, console, began_s)
    try:
        check(chosen)
        ran, soaked = prove(
            list(dict.fromkeys(test for promise in chosen for test in promise.tests)),
            [one for _, _, one in soaks],
            minutes=asked.minutes if fixed is None else None,
            examples=fixed or TASTE,
            seed=asked.seed,
            jobs=asked.jobs,
            run=run,
            say=say,
        )
    except ProofError as error:
        console.print(str(error), markup=False)
        return 2
    rows = [
        (promise.name, promise.says, sum((ran[test] for test in promise.tests), Ran()))
        for promise in chosen
    ]
    rows += [(name, says, one) for (name, says, _), one in zip(soaks, soaked, strict=True)]
    show(rows, console)
    everything = [*ran.values(), *soaked]
    total = sum(one.examples for one in everything)
    console.print(
        f"{total:,} examples in {(time.monotonic() - began_s) / 60:.0f} minutes with "
        f"{asked.jobs} at a time; seeds {asked.seed} and {asked.seed + 1}"
    )
    for one in everything:
        console.print(one.said, markup=False, end="")
    return int(any(one.failed for one in everything))


def _progress(console: Console, began_s: float, line: str) -> None:
    minutes, seconds = divmod(int(time.monotonic() - began_s), 60)
    said = f"{minutes:3}:{seconds:02} {line}"
    console.print(said, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    raise SystemExit(main())
