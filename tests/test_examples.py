"""Every example runs, says what it promises, and is fit to be read."""

from __future__ import annotations

import ast
import runpy
import sys
from functools import partial
from pathlib import Path

import anyio
import pytest

from framepipe.testing import VirtualLoop

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

LONGEST_LINES = 90
"""A screen or two."""

IN_REAL_TIME = {"from_thread"}
"""Threads cannot hold a virtual clock."""

SAID = {
    "back_pressure": ["frame 4 was refused", "10 frames were taken", "{'shed': 6}"],
    "backchannel": [
        "undone",
        "to 72000 of 72000",
        "cut",
    ],
    "barge_in": [
        "LocalVad  SpeechStarted (local)",
        "BargeIn   Mute",
        "BargeIn   Interrupt",
        "cut:",
    ],
    "correction": [
        "revoked: the answer to 1 item",
        "what does Oslo to Chicago cost on Friday?",
        "booked: Oslo to Chicago, Friday, for 110 euros",
    ],
    "echo": ["heard 1.00 s of audio"],
    "end_of_turn": ["I want to um", "800   1600   1500", "500 ms after all six"],
    "fork_recorder": ["the call had 100 frames", "Counter dropped 0", "Recorder dropped 6"],
    "from_thread": ["2400 samples in 50 blocks arrived in order"],
    "noise_gate": ["a voice: -21 dBFS in, -21 dBFS out", "a fan: -61 dBFS in, -inf dBFS out"],
    "policy": ["frames of 20 ms, in mode 2", "the nearest is 'mutes_per_5_s'"],
    "statistics_and_observers": ["cut  the tail", "cut up to 1", "dropped {'cut': 3}"],
    "loudspeaker": ["with no gate, 0.", "with MicGate, 2."],
    "my_agent": ["the agent spoke for 2.0 s"],
    "push_to_talk": ["the button is released", "the agent says: I heard you."],
    "take_back": [
        "no, wait: not Denver",
        "cut: revoked",
        "the agent says: To Chicago, then.",
        "the service remembers: system The user meant Chicago, not Denver.",
    ],
    "test_my_conversation": [
        "passed: test_a_cough_mutes_and_does_not_cut",
        "passed: test_a_service_that_hangs_up_is_called_again",
    ],
    "test_my_processor": [
        "passed: test_it_keeps_every_clause",
        "Forgetful does not keep the clause 'account'",
        "    TextIn(text=''),",
    ],
    "own_rule": ["turn 1 is cut by the stop-word"],
    "tools": [
        "the model calls weather with",
        "weather answers: sunny in Oslo, 21 degrees",
        "the agent says: It is sunny in Oslo.",
    ],
    "word_counter": ["5 of 32 places taken", "done: 14 words"],
}
"""What each example must print, besides other things."""


def stem(path: Path) -> str:
    return path.stem


def run(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> str:
    """Run an example as a program, in virtual time where that can be done; what it printed."""
    if path.stem not in IN_REAL_TIME:
        options = {"loop_factory": VirtualLoop}
        run_virtual = partial(anyio.run, backend="asyncio", backend_options=options)
        monkeypatch.setattr(anyio, "run", run_virtual)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")
    return capsys.readouterr().out


@pytest.mark.parametrize("path", EXAMPLES, ids=stem)
def test_an_example_runs_and_says_what_it_promises(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    printed = run(path, tmp_path, monkeypatch, capsys)
    for words in SAID[path.stem]:
        assert words in printed


def test_the_interrupted_agent_was_heard_in_part_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = run(ROOT / "examples" / "barge_in.py", tmp_path, monkeypatch, capsys)
    (line,) = (line for line in printed.splitlines() if line.startswith("cut:"))
    heard_ms, received_ms = float(line.split()[1]), float(line.split()[3])
    assert 0 < heard_ms < received_ms
    assert (tmp_path / "out" / "agent.wav").stat().st_size > 48_000


@pytest.mark.parametrize("path", EXAMPLES, ids=stem)
def test_an_example_is_short_and_says_first_what_you_will_see(path: Path) -> None:
    source = path.read_text("utf-8")
    assert len(source.splitlines()) <= LONGEST_LINES
    assert "ou will see" in (ast.get_docstring(ast.parse(source)) or "")


@pytest.mark.parametrize("path", EXAMPLES, ids=stem)
def test_an_example_imports_public_names_only(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module != "__future__":
            names = [*str(node.module).split("."), *(alias.name for alias in node.names)]
            assert not [name for name in names if name.startswith("_")]


@pytest.mark.parametrize("path", EXAMPLES, ids=stem)
def test_an_example_is_on_a_page(path: Path) -> None:
    pages = (page.read_text("utf-8") for page in (ROOT / "docs").rglob("*.md"))
    assert any(f"<!-- include: examples/{path.name}" in page for page in pages)
