"""A flight desk as a mind: small, deterministic, and able to be corrected.

It reads the conversation from the start at every answer, so it keeps nothing between answers and
one desk serves many sessions. From each thing that the user said it takes cities, a day, yes and
no; what is missing it asks for; a yes to the whole trip calls the tool ``book_flight``; the
tool's output becomes the last word.

It understands, in any order and in one breath: "from Oslo", "to Rome", a city alone as the answer
to the last question, a weekday, "tomorrow", "the third of May", "May 3". Corrections are the same
words again: "no, to Milan", "not Rome, Milan", "make it Friday". In one breath a city alone takes
the place of the one before it: "from Denver, wait, no, Chicago". What a breath is, and that the
desk believes what the system says of corrections: `framepipe.realtime.breaths`. When the tool has
said that a trip is booked the next one begins, unless the user begins with "no" or "wait": then
this one is changed. It has no calendar, and a day stays as it was said.

Sans-IO.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from attrs import define

from framepipe.realtime.breaths import EDITING, Breath, breaths_of
from framepipe.realtime.mind import Output, Question, ToolUse, Words

TOOL: Final = "book_flight"
"""Called with ``origin``, ``destination`` and ``day``, all text."""

CITIES: Final = [
    "Amsterdam",
    "Athens",
    "Auckland",
    "Bangkok",
    "Barcelona",
    "Beijing",
    "Berlin",
    "Bogota",
    "Boston",
    "Brussels",
    "Budapest",
    "Cairo",
    "Chicago",
    "Copenhagen",
    "Delhi",
    "Denver",
    "Dubai",
    "Dublin",
    "Edinburgh",
    "Frankfurt",
    "Geneva",
    "Hamburg",
    "Helsinki",
    "Istanbul",
    "Jakarta",
    "Lima",
    "Lisbon",
    "London",
    "Madrid",
    "Melbourne",
    "Miami",
    "Milan",
    "Montreal",
    "Moscow",
    "Mumbai",
    "Munich",
    "Nairobi",
    "Oslo",
    "Paris",
    "Prague",
    "Reykjavik",
    "Rome",
    "Santiago",
    "Seattle",
    "Seoul",
    "Shanghai",
    "Singapore",
    "Stockholm",
    "Sydney",
    "Tokyo",
    "Toronto",
    "Vancouver",
    "Venice",
    "Vienna",
    "Warsaw",
    "Zurich",
]
"""Where the desk sells flights from and to."""

_End: TypeAlias = Literal["origin", "destination"]
_Slot: TypeAlias = Literal["origin", "destination", "day", "consent", "change"]

_QUESTIONS: Final[dict[_Slot, str]] = {
    "destination": "Where would you like to fly to?",
    "origin": "Where do you want to leave from?",
    "day": "On which day?",
    "change": "What should I change?",
}

_CITY = "|".join(CITIES)
_CITY_AT = re.compile(
    rf"\b(?:(?P<how>not|from|leaving|to|for|into)\s+)?(?P<city>{_CITY})\b", re.IGNORECASE
)
_NUMBER = (
    "first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|"
    "thirteenth|fourteenth|fifteenth|sixteenth|seventeenth|eighteenth|nineteenth|twentieth|"
    r"twenty[- ]\w+|thirtieth|thirty[- ]first|\d{1,2}(?:st|nd|rd|th)?"
)
_MONTH = "January|February|March|April|May|June|July|August|September|October|November|December"
_DAY = re.compile(
    r"(?P<not>not\s+(?:on\s+)?)?"
    r"\b(?P<day>(?:next\s+)?(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)|"
    r"today|tomorrow|the day after tomorrow|\d{4}-\d{2}-\d{2}|"
    rf"(?:the\s+)?(?:{_NUMBER})(?:\s+of)?\s+(?:{_MONTH})|"
    rf"(?:{_MONTH})\s+(?:the\s+)?(?:{_NUMBER}))\b",
    re.IGNORECASE,
)
_YES = re.compile(
    r"\b(yes|yeah|yep|sure|please do|correct|right|exactly|okay|ok|go ahead|book it)\b", re.I
)
_BREAKS_OFF = re.compile(rf"\b(?:{EDITING})\W*(?:um|uh|er)?\W*$", re.IGNORECASE)
"""Words right before a city that take the last one back."""

_FILLERS = re.compile(r"\b(?:um|uh|er|erm|hmm)\b[\s,.\u2026]*", re.IGNORECASE)
_OBJECTS = re.compile(r"\W*(?:oh\W+)?(no|nope|wait|stop|sorry|actually|not|hold on)\b", re.I)
"""Who begins like this after a booking is not yet done with it."""

_NO = re.compile(r"\b(no|nope|wrong|don't|do not|wait|stop|not)\b", re.I)


@define
class _Desk:
    """What is known of the trip, after everything that was said until now."""

    origin: str = ""
    destination: str = ""
    day: str = ""
    asked: _Slot = "destination"
    agreed: bool = False

    def hear(self, breath: Breath) -> None:
        """Take what the user said."""
        answer, before, last, said = "", self._trip, None, ""
        for piece in breath.pieces:
            if piece.after_question:
                self.asked = self._missing()
                answer, before = "", self._trip
            words = _FILLERS.sub("", piece.words)
            last = self._hear_cities(words, last)
            said, answer = f"{said} {words}", f"{answer} {words}"
            self._hear_days(said)
        changed = before != self._trip
        refused = bool(_NO.search(answer))
        self.agreed = (
            self.asked == "consent" and not changed and not refused and bool(_YES.search(answer))
        )
        if self.asked == "consent" and refused and not changed:
            self.asked = "change"
        else:
            self.asked = self._missing()

    @property
    def _trip(self) -> tuple[str, str, str]:
        return self.origin, self.destination, self.day

    def _hear_days(self, words: str) -> None:
        for found in _DAY.finditer(words):
            if not found["not"]:
                self.day = found["day"]

    def _hear_cities(self, words: str, last: _End | None) -> _End | None:
        """Take the cities; ``last`` was named last in this breath, and so is what is returned."""
        until = 0
        for found in _CITY_AT.finditer(words):
            how, city = (found["how"] or "").lower(), found["city"].title()
            breaks_off = _BREAKS_OFF.search(words[until : found.start()])
            until = found.end()
            if how == "not":
                # The one that takes its place comes without a preposition, and where it was.
                last = None
                if city == self.origin:
                    self.origin, self.asked = "", "origin"
                elif city == self.destination:
                    self.destination, self.asked = "", "destination"
            elif not how and breaks_off and last == "origin":
                self.origin = city
            elif not how and breaks_off and last == "destination":
                self.destination = city
            elif how in ("from", "leaving") or (not how and self.asked == "origin"):
                self.origin, last = city, "origin"
                if self.asked == "origin":
                    self.asked = "destination"
            else:
                self.destination, last = city, "destination"
        return last

    def _missing(self) -> _Slot:
        if not self.destination:
            return "destination"
        if not self.origin:
            return "origin"
        return "day" if not self.day else "consent"


class Booking:
    """Sells one flight after the other. Needs the user's words: ears, or typed ones."""

    def answer(self, question: Question, /) -> Sequence[Output]:
        """Ask for what is missing, then for a yes, then call the tool, then say how it went."""
        newest = question.items[-1] if question.items else None
        if newest is not None and newest.type == "function_call_output":
            return [Words(text=_outcome(str(newest.output or "")))]
        desk = _Desk()
        for breath in breaths_of(question):
            if desk.agreed and breath.after_booking and not _OBJECTS.match(breath.words):
                desk = _Desk()
            desk.hear(breath)
        if desk.agreed:
            if TOOL not in question.tools:
                return [Words(text=f"I would book it now, but nobody gave me the tool {TOOL}.")]
            trip = {"origin": desk.origin, "destination": desk.destination, "day": desk.day}
            return [Words(text="One moment."), ToolUse(name=TOOL, arguments=json.dumps(trip))]
        if desk.asked == "consent":
            trip_text = f"from {desk.origin} to {desk.destination}, {desk.day}"
            return [Words(text=f"A flight {trip_text}. Shall I book it?")]
        text = _QUESTIONS[desk.asked]
        if question.said and not question.said[-1]:
            text = f"I did not catch that. {text}"
        return [Words(text=text)]


def _outcome(output: str) -> str:
    """The tool's words, shortened; a tool that failed says so with "error"."""
    said = " ".join(output.split())[:200]
    if "error" in said.lower():
        return f"I am sorry, that did not work. {said}"
    return f"Your flight is booked. {said}"
