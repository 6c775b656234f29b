"""PageNews: what a page shows of a pipeline, as scripts."""

from __future__ import annotations

from typing import Any

from framepipe import Frame
from framepipe.frames import (
    AudioDone,
    AudioOut,
    ConnectionState,
    Drained,
    Heard,
    Interrupt,
    InterruptionReport,
    Mute,
    Problem,
    ReplyReady,
    SpeechStarted,
    SpeechStopped,
    Transcript,
    Undo,
    Unmute,
)
from framepipe.talk.page_news import PageNews

MS = 1_000_000


def shown(*frames: Frame, what: str = "emitted", news: PageNews | None = None) -> list[Any]:
    page = news or PageNews(0)
    return [dict(one) for frame in frames for one in page.receive(what, frame, 7 * MS)]


def agent(text: str, *, final: bool = False) -> Transcript:
    return Transcript(who="agent", text=text, final=final, item_id="a")


def part(n: int) -> AudioOut:
    return AudioOut(pcm=bytes(2 * n), rate_hz=24_000, turn=1, item_id="a")


def test_both_sides_words_are_shown_as_they_come() -> None:
    assert shown(agent("Hel"), Transcript(who="user", text="Hi", final=True, item_id="u")) == [
        {"type": "transcript", "who": "agent", "item": "a", "text": "Hel", "final": False},
        {"type": "transcript", "who": "user", "item": "u", "text": "Hi", "final": True},
    ]


def test_the_users_turn_has_its_place_before_its_words_are_known() -> None:
    assert shown(SpeechStarted(source="server", onset_sample=0, item_id="u")) == [
        {"type": "transcript", "who": "user", "item": "u", "text": "", "final": False}
    ]


def test_spans_begin_and_end() -> None:
    assert [
        (one["who"], one["on"], one["at_ms"])
        for one in shown(
            SpeechStarted(source="local", onset_sample=0),
            SpeechStopped(source="local", end_sample=9),
            ReplyReady(turn=1),
            Mute(),
            Drained(turn=1),
        )
    ] == [
        ("user", True, 7),
        ("user", False, 7),
        ("agent", True, 7),
        ("mute", True, 7),
        ("agent", False, 7),
    ]


def test_a_mute_that_was_taken_back_is_marked_and_a_duck_is_none() -> None:
    assert [one.get("what") for one in shown(Mute(), Unmute())] == [None, None, "resume"]
    assert shown(Mute(gain_db=-26.0), Unmute()) == []
    assert shown(Undo())[0]["what"] == "undo"


def test_a_cut_ends_what_sounds_and_is_marked() -> None:
    assert [(one["type"], one.get("who")) for one in shown(Interrupt(turn=1), what="cut")] == [
        ("span", "agent"),
        ("span", "mute"),
        ("mark", None),
    ]


def test_what_was_not_heard_is_told_apart_from_what_was() -> None:
    page = PageNews(0)
    done = AudioDone(turn=1, item_id="a", n_samples=24_000)
    shown(agent("one two three four", final=True), part(24_000), done, part(13_000), news=page)
    heard = Heard(
        item_id="a", content_index=0, heard_samples=12_000, received_samples=24_000, final=True
    )
    expected = {"type": "heard", "item": "a", "text": "one two", "unheard": " three four"}
    assert shown(Interrupt(turn=1, heard=(heard,)), news=page) == [expected]
    assert shown(heard, news=page) == [expected]


def test_a_part_that_was_wholly_heard_and_local_audio_change_nothing() -> None:
    whole = Heard(
        item_id="a",
        content_index=0,
        heard_samples=9,
        received_samples=9,
        final=True,
        complete=True,
    )
    local = Heard(item_id=None, content_index=0, heard_samples=1, received_samples=9, final=True)
    unknown = Heard(item_id="z", content_index=0, heard_samples=1, received_samples=9, final=True)
    assert shown(whole, local, unknown) == []


def test_figures_states_and_problems_are_shown_in_the_pages_units() -> None:
    report = InterruptionReport(
        cause="silero", verdict="cut", onset_to_mute_ns=11 * MS, heard_ms=800.0, audio_end_ms=800
    )
    figures, state, problem = shown(
        report,
        ConnectionState(state="reconnecting", reason="the socket broke"),
        Problem(where="Realtime", code="x", message="slow"),
    )
    assert (figures["onset_to_mute_ms"], figures["mute_to_verdict_ms"]) == (11.0, None)
    assert state == {"type": "state", "state": "reconnecting", "reason": "the socket broke"}
    assert problem["message"] == "Realtime: slow"


def test_what_only_passes_is_not_shown() -> None:
    assert shown(Mute(), what="handled") == []
