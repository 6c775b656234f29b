"""Run the long proofs, and say of each promise how it was tried and whether it held.

    python scripts/prove.py                   within two hours on four cores
    python scripts/prove.py --full            100,000 examples of each property: days
    python scripts/prove.py --only P2 G4      some of the promises
    python scripts/prove.py --examples 100    fewer examples; --no-soak leaves the soak out

The properties of each promise run with many examples, each promise in a process of its own, and
the counts come from what ran, not from what was asked for: a property that sets its own number,
because one example of it is long, is counted with that. Then the soak. The table that is printed
has a row for each promise: examples that passed, the worst figure that a test measured, and the
verdict. A promise without a test, or one whose tests are not there, is an error.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from attrs import frozen
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]

EXAMPLES: Final = 2_000
"""Examples of each property unless asked otherwise."""

FULL_EXAMPLES: Final = 100_000


@frozen
class Promise:
    """What is promised, and who tries to break it.

    Attributes:
        name: "G1" to "G9" for the engine, "P1" to "P8" for the voice.
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
        ("tests/conversation/test_bargein_machine.py", "tests/conversation/test_speaker.py"),
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
)
"""Every promise. P8 is an import contract besides (``make lint``): decisions import no clock."""


class ProofError(Exception):
    """The proof itself does not work."""


@frozen(kw_only=True)
class Result:
    """What became of a promise.

    Attributes:
        promise: It.
        examples: Examples that passed: those of properties, and each plain test.
        failed: Tests that failed.
        figures: The greatest value of each figure that tests measured.
        took_s: Seconds.
        said: The end of what pytest printed, when something failed.
    """

    promise: Promise
    examples: int
    failed: int
    figures: Mapping[str, float]
    took_s: float
    said: str = ""

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


def read_report(path: Path) -> tuple[int, int, dict[str, float]]:
    """Tests that passed and failed, and the greatest value of each figure."""
    passed = failed = 0
    figures: dict[str, float] = {}
    for case in ET.parse(path).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is None:
            passed += 1
        for figure in case.iter("property"):
            name, value = str(figure.get("name")), float(str(figure.get("value")))
            figures[name] = max(value, figures.get(name, value))
    return passed, failed, figures


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
            if not path.exists() or (name and f"def {name}(" not in path.read_text("utf-8")):
                raise ProofError(f"{promise.name}: there is no {test}")


def try_one(promise: Promise, examples: int) -> Result:
    """Run the tests of a promise."""
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"]
        # The family that keeps what a test recorded of its worst figure.
        command += ["-o", "junit_family=xunit1", f"--junitxml={report}"]
        command += ["--hypothesis-show-statistics", *promise.tests]
        environment = {**os.environ, "FRAMEPIPE_EXAMPLES": str(examples)}
        ran = subprocess.run(
            command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True
        )
        if ran.returncode not in (0, 1):
            raise ProofError(f"{promise.name}: pytest ended with {ran.returncode}:\n{ran.stdout}")
        passed, failed, figures = read_report(report)
    if not passed + failed:
        raise ProofError(f"{promise.name}: all of its tests were skipped")
    return Result(
        promise=promise,
        examples=passed + count_examples(ran.stdout),
        failed=failed,
        figures=figures,
        took_s=time.monotonic() - began_s,
        said=ran.stdout[-6_000:] if failed else "",
    )


def _soak(hours: float, calls: int) -> tuple[bool, str]:
    command = [sys.executable, "-m", "benchmarks.soak", f"--hours={hours}", f"--calls={calls}"]
    ran = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    return ran.returncode == 0, ran.stdout + ran.stderr


def show(results: Sequence[Result], console: Console) -> None:
    """Print the table."""
    table = Table(title="Promises", title_justify="left")
    for column in ("", "promise", "examples", "worst figure", "verdict", "s"):
        table.add_column(column, justify="right" if column in ("examples", "s") else "left")
    for result in results:
        table.add_row(
            result.promise.name,
            result.promise.says,
            f"{result.examples:,}",
            result.worst,
            result.verdict,
            f"{result.took_s:.0f}",
        )
    console.print(table)


def main(
    arguments: Sequence[str] | None = None,
    run: Callable[[Promise, int], Result] = try_one,
    promises: Sequence[Promise] = PROMISES,
) -> int:
    """Try the promises; 1 when one is broken, 2 when the proof itself does not work."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--examples", type=int, default=EXAMPLES)
    parser.add_argument("--full", action="store_true", help=f"{FULL_EXAMPLES:,} examples each")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="such as P2 G4")
    parser.add_argument("--no-soak", action="store_true", help="leave the soak out")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at a time")
    asked = parser.parse_args(arguments)
    only: list[str] = asked.only or [promise.name for promise in promises]
    chosen = [promise for promise in promises if promise.name in only]
    console = Console(width=120)
    if len(chosen) != len(set(only)):
        console.print(f"there is no promise {set(only) - {promise.name for promise in chosen}}")
        return 2
    examples: int = FULL_EXAMPLES if asked.full else asked.examples
    try:
        check(chosen)
        with ThreadPoolExecutor(asked.jobs) as pool:
            soaking = None if asked.no_soak else pool.submit(_soak, 24, 10_000)
            results = list(pool.map(lambda promise: run(promise, examples), chosen))
            soaked, said = (True, "") if soaking is None else soaking.result()
    except ProofError as error:
        console.print(str(error), markup=False)
        return 2
    show(results, console)
    console.print(said, markup=False)
    for result in results:
        console.print(result.said, markup=False, end="")
    return 0 if soaked and not any(result.failed for result in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
