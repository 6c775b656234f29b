"""Transcripts that pass, and the verdicts that they give."""

from __future__ import annotations

import pytest

from framepipe.conversation.backchannels import Backchannels, Meaning
from framepipe.conversation.third_stage import ThirdStage, TranscriptVerdict, is_question
from framepipe.frames import Problem, Transcript


def user(text: str, *, final: bool = True) -> Transcript:
    return Transcript(who="user", text=text, final=final, item_id="u1")


def agent(text: str, *, estimate: bool = True) -> Transcript:
    return Transcript(who="agent", text=text, final=True, item_id="a1", estimate=estimate)


def stage() -> ThirdStage:
    return ThirdStage(Backchannels())


def test_a_whole_transcript_of_the_user_gives_a_verdict() -> None:
    assert stage().receive(user("Mm-hm.")) == TranscriptVerdict("u1", Meaning.BACKCHANNEL)
    assert stage().receive(user("Stop that.")) == TranscriptVerdict("u1", Meaning.WORDS)
    assert stage().receive(user("")) == TranscriptVerdict("u1", Meaning.NOTHING)


def test_a_piece_of_one_gives_none() -> None:
    assert stage().receive(user("Mm", final=False)) is None


def test_typed_words_are_no_verdict_on_speech() -> None:
    typed = Transcript(who="user", text="mm-hm", final=True, item_id="u1", typed=True)

    assert stage().receive(typed) is None


def test_a_transcript_that_failed_says_that_no_text_will_come() -> None:
    failed = Problem(where="realtime", code="transcription_failed", message="no", item_id="u1")
    assert stage().receive(failed) == TranscriptVerdict("u1", None)
    other = Problem(where="realtime", code="audio_gap", message="no")
    assert stage().receive(other) is None


def test_only_what_was_heard_of_the_agent_can_be_a_question() -> None:
    third = stage()
    third.receive(agent("We have two rooms. Shall I book one?", estimate=False))
    assert third.receive(user("yeah")) == TranscriptVerdict("u1", Meaning.BACKCHANNEL)
    third.receive(agent("We have two rooms."))
    assert third.receive(user("yeah")) == TranscriptVerdict("u1", Meaning.BACKCHANNEL)
    third.receive(agent("We have two rooms. Shall I book one?"))
    assert third.receive(user("yeah")) == TranscriptVerdict(
        "u1", Meaning.BACKCHANNEL, after_question=True
    )


@pytest.mark.parametrize(
    ("heard", "is_one"),
    [
        ("Shall I book it?", True),
        ('Did you say "now"?"', True),
        ("Shall I book it? There", True),
        ("Shall I book it? There are two of them.", False),
        ("Shall I boo", False),
        ("¿Lo reservo?", True),
        ("予約しますか\uff1f", True),
        ("", False),
    ],
)
def test_a_question_counts_until_the_agent_has_gone_on_for_a_second(
    heard: str, is_one: bool
) -> None:
    assert is_question(heard) is is_one
