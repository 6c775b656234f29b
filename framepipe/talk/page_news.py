"""What the page shows of a pipeline: frames in, small JSON objects out.

Sans-IO: an observer's events go in with their time, what is to be shown comes out.

The page shows what was *heard* of a reply that was cut, and the rest struck through. Which words
were heard is an estimate, the same that a new socket of the service would be told
(`framepipe.realtime.conversation_record`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from framepipe.frames import (
    AudioDone,
    AudioOut,
    ConnectionState,
    Drained,
    Frame,
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
from framepipe.realtime.conversation_record import ConversationRecord, Entry

News: TypeAlias = Mapping[str, Any]
"""One thing to show; ``type`` says what it is."""


class PageNews:
    """Turns what happens in a pipeline into what a page shows.

    Args:
        began_ns: Engine time of the beginning of the call; the page counts from there.
    """

    def __init__(self, began_ns: int) -> None:
        self._began_ns = began_ns
        self._record = ConversationRecord()
        self._is_muted = False

    def receive(self, what: str, frame: Frame, at_ns: int) -> list[News]:
        """Something happened.

        Args:
            what: As observers are told: "emitted", "cut", ….
            frame: The frame.
            at_ns: Engine time.
        """
        at_ms = round((at_ns - self._began_ns) / 1e6)
        if what == "cut" and isinstance(frame, Interrupt):
            return self._cut(at_ms)
        if what != "emitted":
            return []
        match frame:
            case Transcript():
                return self._transcript(frame)
            case AudioOut(item_id=str(item)):
                self._received(frame, item)
            case AudioDone(item_id=str(item)):
                self._record.agent_done(item)
            case Heard():
                return self._heard(frame)
            case Interrupt():
                return [news for heard in frame.heard for news in self._heard(heard)]
            case SpeechStarted(source="server", item_id=str(item)):
                return [_words("user", item, "", final=False)]
            case SpeechStarted(source="local" | "silero"):
                return [_span("user", at_ms, on=True)]
            case SpeechStopped(source="local" | "silero"):
                return [_span("user", at_ms, on=False)]
            case ReplyReady():
                return [_span("agent", at_ms, on=True)]
            case Drained():
                return [_span("agent", at_ms, on=False)]
            case Mute(gain_db=gain_db) if gain_db == -math.inf:
                self._is_muted = True
                return [_span("mute", at_ms, on=True)]
            case Unmute() if self._is_muted:
                self._is_muted = False
                return [_span("mute", at_ms, on=False), _mark("resume", at_ms)]
            case Undo():
                return [_mark("undo", at_ms)]
            case InterruptionReport():
                return [_figures(frame)]
            case ConnectionState():
                return [{"type": "state", "state": frame.state, "reason": frame.reason}]
            case Problem():
                return [{"type": "problem", "message": f"{frame.where}: {frame.message}"}]
            case _:
                pass
        return []

    def _received(self, frame: AudioOut, item: str) -> None:
        """Audio comes by twice: from the service, and later, in pieces, on its way to the ear."""
        received = frame.start_sample + frame.n_samples
        entry = self._entry(item)
        known = 0 if entry is None else entry.received.get(frame.content_index, 0)
        if received > known:
            self._record.agent_audio(item, frame.content_index, received, frame.rate_hz)

    def _entry(self, item: str) -> Entry | None:
        return next((e for e in self._record.entries if e.item_id == item), None)

    def _transcript(self, frame: Transcript) -> list[News]:
        if frame.who == "agent":
            self._record.agent_words(frame.item_id, frame.text, whole=frame.final)
        return [_words(frame.who, frame.item_id, frame.text, final=frame.final)]

    def _cut(self, at_ms: int) -> list[News]:
        self._is_muted = False
        return [
            _span("agent", at_ms, on=False),
            _span("mute", at_ms, on=False),
            _mark("cut", at_ms),
        ]

    def _heard(self, heard: Heard) -> list[News]:
        if heard.complete or heard.item_id is None:
            return []
        self._record.heard(heard)
        entry = self._entry(heard.item_id)
        if entry is None or not entry.words:
            return []
        text = self._record.heard_text(entry)
        return [
            {
                "type": "heard",
                "item": heard.item_id,
                "text": text,
                "unheard": entry.words[len(text) :],
            }
        ]


def _words(who: str, item: str, text: str, *, final: bool) -> News:
    return {"type": "transcript", "who": who, "item": item, "text": text, "final": final}


def _span(who: str, at_ms: int, *, on: bool) -> News:
    return {"type": "span", "who": who, "on": on, "at_ms": at_ms}


def _mark(what: str, at_ms: int) -> News:
    return {"type": "mark", "what": what, "at_ms": at_ms}


def _figures(report: InterruptionReport) -> News:
    return {
        "type": "figures",
        "verdict": report.verdict,
        "cause": report.cause,
        "onset_to_mute_ms": _ms(report.onset_to_mute_ns),
        "mute_to_verdict_ms": _ms(report.mute_to_verdict_ns),
        "heard_ms": report.heard_ms,
        "received_ms": report.received_ms,
        "audio_end_ms": report.audio_end_ms,
    }


def _ms(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e6
