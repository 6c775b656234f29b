"""A flight desk as a mind: small, deterministic, and able to be corrected.

It reads the conversation from the start at every answer, so it keeps nothing between answers and
one desk serves many sessions. From each thing that the user said it takes cities, a day, yes and
no; what is missing it asks for; a yes to the whole trip calls the tool ``book_flight``; the
tool's output becomes the last word.

It understands, in any order and in one breath: "from Oslo", "to Rome", a city alone as the answer
to the last question, a weekday, "tomorrow", "the third of May", "May 3". Corrections are the same
words again: "no, to Milan", "not Rome, Milan", "make it Friday". In one breath a city alone takes
the place of the one before it: "from Denver, wait, no, Chicago". What the user said while the desk
said nothing in between is one breath, however many items it is in. It has no calendar, and a day
stays as it was said.

Sans-IO.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from attrs import define

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
_BREAKS_OFF = re.compile(
    r"\b(no|nope|wait|sorry|actually|i mean|i meant|rather|make (?:it|that)|hold on|hang on|"
    r"scratch that|correction|oops)\W*(?:um|uh|er)?\W*$",
    re.IGNORECASE,
)
"""Words right before a city that take the last one back."""

_NO = re.compile(r"\b(no|nope|wrong|don't|do not|wait|stop|not)\b", re.I)


@define
class _Desk:
    """What is known of the trip, after everything that was said until now."""

    origin: str = ""
    destination: str = ""
    day: str = ""
    asked: _Slot = "destination"
    agreed: bool = False

    def hear(self, words: str) -> None:
        """Take what the user said."""
        before = (self.origin, self.destination, self.day)
        self._hear_cities(words)
        for found in _DAY.finditer(words):
            if not found["not"]:
                self.day = found["day"]
        changed = before != (self.origin, self.destination, self.day)
        refused = bool(_NO.search(words))
        self.agreed = (
            self.asked == "consent" and not changed and not refused and bool(_YES.search(words))
        )
        if self.asked == "consent" and refused and not changed:
            self.asked = "change"
        else:
            self.asked = self._missing()

    def _hear_cities(self, words: str) -> None:
        last: Literal["origin", "destination"] | None = None  # named in this breath
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
        for words in _breaths(question):
            if desk.agreed:
                desk = _Desk()
            desk.hear(words)
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


def _breaths(question: Question) -> list[str]:
    """What the user said, as one text where the desk said nothing in between."""
    spoke = [item.role for item in question.items if item.type == "message"]
    if spoke.count("user") != len(question.said):
        return list(question.said)
    breaths: list[str] = []
    said = iter(question.said)
    is_new = True
    for role in spoke:
        if role != "user":
            is_new |= role == "assistant"
            continue
        words = next(said)
        # Words that were not made out are a breath of their own: the desk asks again.
        if is_new or not (words and breaths[-1]):
            breaths.append(words)
        else:
            breaths[-1] += f" {words}"
        is_new = False
    return breaths


def _outcome(output: str) -> str:
    """The tool's words, shortened; a tool that failed says so with "error"."""
    said = " ".join(output.split())[:200]
    if "error" in said.lower():
        return f"I am sorry, that did not work. {said}"
    return f"Your flight is booked. {said}"
