"""The dialogues themselves: that they can be read, and what is in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from framepipe.bench.corpus import Spoken, checkout_corpus, read_corpus
from framepipe.errors import FrameError

KINDS = {
    "inside a turn",
    "without a term",
    "across turns",
    "double",
    "no is an answer",
    "filled pause",
    "interrupted number",
    "backchannel",
    "after the tool",
    "plain",
}


def test_the_corpus_has_every_kind_and_more_than_a_hundred_and_twenty_dialogues() -> None:
    dialogues = read_corpus(checkout_corpus())
    assert len([one for one in dialogues if not one.held_out]) >= 120
    assert {one.kind for one in dialogues} == KINDS


def test_no_two_dialogues_say_the_same() -> None:
    said = [
        tuple((step.text, step.over_ms, step.after_ms) for step in one.steps)
        for one in read_corpus(checkout_corpus())
    ]
    assert len(set(said)) == len(said)


def write(folder: Path, text: str) -> Path:
    (folder / "some.yaml").write_text(text, "utf-8")
    return folder


def test_a_step_is_words_and_pauses(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        """
- id: one
  kind: plain
  user: [to Rome (700) no, {over: 300, corrects: true, say: to Oslo}]
  trip: {from: Paris, to: Oslo, day: the first of May}
""",
    )
    (dialogue,) = read_corpus(folder)
    first, second = dialogue.steps
    assert first.spoken == (
        Spoken("to", 210),
        Spoken("Rome", 300),
        Spoken("", 700),
        Spoken("no", 210),
    )
    assert first.text == "to Rome no"
    assert (second.over_ms, second.corrects, second.gap_ms) == (300, True, 400)
    assert dialogue.trip is not None
    assert dialogue.trip.folded() == ("paris", "oslo", "first may")


TRIP = "{from: A, to: B, day: C}"


def one(user: str, ends: str = f"trip: {TRIP}") -> str:
    """A file with one dialogue."""
    return f"- id: a\n  kind: b\n  user: {user}\n  {ends}\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (one("[yes]"), "got `bool`"),
        (one("[]"), "says nothing"),
        (one("[hi]", "wants: []"), "give wants, or trip"),
        (one("[hi (x) you]"), "is no pause"),
        (one("[hi (100)]"), "begin and end with a word"),
        (one("[{over: 1, after: 1, say: hi}]"), "take one"),
        (one("[{say: hi, loud: true}]"), "unknown field"),
        (one("[hi]") * 2, "two dialogues"),
    ],
)
def test_a_file_that_makes_no_sense_is_named_with_the_reason(
    tmp_path: Path, text: str, complaint: str
) -> None:
    with pytest.raises(FrameError, match=complaint):
        read_corpus(write(tmp_path, text))


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="holds no"):
        read_corpus(tmp_path)
