"""When each piece of an answer leaves the embedded server.

An answer is known whole before its first piece goes out. The plan spreads it over time as the
service does: some hundred milliseconds of thought, then the transcript well ahead of the audio
and the audio many times faster than it plays, a short first delta and longer ones after it.

Sans-IO: times are nanoseconds after the beginning of the response, chance comes from a seeded
generator, nothing here is sent.

Source: realtime reference, sections 1.3 and 4.5.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from random import Random
from typing import Literal, TypeAlias

from attrs import evolve, frozen

from framepipe.errors import FramepipeError
from framepipe.realtime.mind import McpUse, Output, Recording, TalkFor, ToolUse, Words
from framepipe.realtime.speech import Voice
from framepipe.realtime.speed import at_speed

_BYTES_PER_MS = 48

_TOKEN_MS = 50
"""One output token is 50 ms of audio."""

_CHARACTERS_PER_TOKEN = 4
"""Near enough for English."""

_FIRST_DELTA_MS = 100
_DELTA_MS = (250, 400)
"""Lengths of the audio deltas in recordings."""

_OPENING_MS = 60
"""An item is opened this long before its first audio."""

_TRANSCRIPT_LEAD = 0.5
"""The last word of the transcript comes when this share of the audio was sent."""

_WORD_MS = 20
"""Pace of a written answer, and of the words before the first audio."""


class PaceError(FramepipeError, ValueError):
    """A pace that cannot be kept; whoever chose it must choose another."""


@frozen(kw_only=True)
class LogNormal:
    """A length of time that is mostly near its median and now and then much longer.

    Attributes:
        median_ms: Above 0.
        spread: Standard deviation of its logarithm, 0 or more: with 0.35 one of twenty is longer
            than 1.8 times the median.

    Raises:
        PaceError: One of them is not in its range.
    """

    median_ms: float
    spread: float

    def __attrs_post_init__(self) -> None:
        if not (self.median_ms > 0 and self.spread >= 0):
            raise PaceError(
                f"a median of {self.median_ms:g} ms with a spread of {self.spread:g}; the median "
                "must be above 0, the spread 0 or more"
            )


Length: TypeAlias = tuple[float, float] | LogNormal
"""Least and most milliseconds, all between them alike; or what the longer ones are rarer in."""


def drawn_ms(length: Length, chance: Random) -> float:
    """A length of time, by chance."""
    if isinstance(length, LogNormal):
        return length.median_ms * math.exp(length.spread * chance.gauss(0, 1))
    return chance.uniform(*length)


@frozen(kw_only=True)
class Pace:
    """How fast the embedded server answers, and how slowly it stops.

    Attributes:
        first_audio_ms: From ``response.created`` to the first delta: least and most, or a
            `LogNormal`, as it is with the service.
        generation_speed: Audio sent per real time after it: least and most.
        cancel_latency_ms: From a cancel to the closing events.
        late_deltas: Whether deltas still come between a client's cancel and the closing events.
        late_deltas_after_speech: The same when the server itself cancels for the user's speech;
            in the recording of the service none came.

    Raises:
        PaceError: A bound is out of order, negative, or a speed of 0.
    """

    first_audio_ms: Length = (250, 500)
    generation_speed: tuple[float, float] = (8, 12)
    cancel_latency_ms: int = 200
    late_deltas: bool = True
    late_deltas_after_speech: bool = False

    def __attrs_post_init__(self) -> None:
        for name, low in (("first_audio_ms", 0.0), ("generation_speed", 0.01)):
            bounds: Length = getattr(self, name)
            if isinstance(bounds, LogNormal):
                continue
            least, most = bounds
            if not low <= least <= most:
                raise PaceError(f"{name} is {least} to {most}; {low:g} <= least <= most is needed")
        if self.cancel_latency_ms < 0:
            raise PaceError(f"cancel_latency_ms is {self.cancel_latency_ms}; 0 or more is needed")


@frozen(kw_only=True)
class Content:
    """What one output item holds when it is whole.

    Attributes:
        kind: "audio" (with transcript), "text", "call" of a tool, or "mcp": the service's own call.
        text: Transcript, text, or the call's arguments.
        pcm: 24 kHz mono s16le; audio only.
        name: The tool; calls only.
        mcp: The whole use of the tool; "mcp" only.
    """

    kind: Literal["audio", "text", "call", "mcp"]
    text: str
    pcm: bytes = b""
    name: str = ""
    mcp: McpUse | None = None


@frozen
class Open:
    """The item begins."""


@frozen
class Say:
    """A piece of the transcript, the text or the arguments."""

    text: str


@frozen
class Sound:
    """The audio up to ``end_byte`` of the item."""

    end_byte: int


@frozen
class Close:
    """The item is whole."""


Step: TypeAlias = Open | Say | Sound | Close


@frozen(kw_only=True)
class Planned:
    """A step and its time.

    Attributes:
        after_ns: Since the response began.
        output_index: Which item.
    """

    after_ns: int
    output_index: int
    step: Step


def contents_of(
    outputs: Sequence[Output], modality: str, voice: Voice, speed: float = 1.0
) -> list[Content]:
    """What a mind's answer becomes.

    Args:
        outputs: The answer.
        modality: "audio" or "text".
        voice: Speaks what is to be heard.
        speed: Of what is said; recordings, and talk for a set time, last as long as they do.

    Raises:
        VoiceError: The voice cannot.
    """
    return [_content(output, modality, voice, speed) for output in outputs]


def limited(contents: Sequence[Content], max_tokens: int) -> tuple[list[Content], bool]:
    """Cut an answer to a number of output tokens.

    Returns:
        What is left, and whether anything was cut.
    """
    kept: list[Content] = []
    left = max_tokens
    for content in contents:
        is_audio = content.kind == "audio"
        size = len(content.pcm) if is_audio else len(content.text)
        per_token = _TOKEN_MS * _BYTES_PER_MS if is_audio else _CHARACTERS_PER_TOKEN
        if size <= left * per_token:
            kept.append(content)
            left -= -(-size // per_token)
            continue
        room = left * per_token
        shown = len(content.text) * room // max(size, 1)
        kept.append(evolve(content, text=content.text[:shown], pcm=content.pcm[:room]))
        return kept, True
    return kept, False


def paced(
    contents: Sequence[Content], pace: Pace, chance: Random, *, interleaved: bool = False
) -> list[Planned]:
    """Spread an answer over time.

    Args:
        contents: What is answered.
        pace: How fast.
        chance: Draws what the pace leaves open.
        interleaved: Close all items at the end, as newer models do, instead of each before the
            next one opens.

    Returns:
        The steps in the order in which they go out, each item opened before its pieces and
        closed after them.
    """
    planned: list[Planned] = []
    now_ms = 0.0
    first_ms = drawn_ms(pace.first_audio_ms, chance)
    speed = chance.uniform(*pace.generation_speed)
    for index, content in enumerate(contents):
        if index:
            first_ms = now_ms + _OPENING_MS
        opened_ms = max(now_ms, first_ms - _OPENING_MS)
        steps: list[tuple[float, Step]] = [(opened_ms, Open())]
        pieces = _pieces(content, first_ms, speed, chance)
        steps += [(max(opened_ms, at_ms), step) for at_ms, step in sorted(pieces, key=_time)]
        now_ms = max(first_ms, steps[-1][0])
        if not interleaved:
            steps.append((now_ms, Close()))
        planned += [_planned(at_ms, index, step) for at_ms, step in steps]
    if interleaved:
        planned += [_planned(now_ms, index, Close()) for index in range(len(contents))]
    return planned


def text_tokens(text: str) -> int:
    """About how many tokens a text is."""
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def audio_tokens_out(n_bytes: int) -> int:
    """How many tokens the model's audio is: one each 50 ms."""
    return -(-n_bytes // (_TOKEN_MS * _BYTES_PER_MS))


def word_pieces(text: str) -> list[str]:
    """A text as the service streams it: word by word, the blank before the word."""
    return re.findall(r"\s*\S+|\s+$", text)


def _planned(at_ms: float, output_index: int, step: Step) -> Planned:
    return Planned(after_ns=round(at_ms * 1e6), output_index=output_index, step=step)


def _time(timed: tuple[float, Step]) -> float:
    return timed[0]


def _content(output: Output, modality: str, voice: Voice, speed: float) -> Content:
    match output:
        case ToolUse(name=name, arguments=arguments):
            return Content(kind="call", text=arguments, name=name)
        case McpUse():
            return Content(kind="mcp", text=output.arguments, name=output.name, mcp=output)
        case Words(text=text) if modality == "text":
            return Content(kind="text", text=text)
        case Words(text=text):
            return Content(kind="audio", text=text, pcm=at_speed(voice.speak(text), speed))
        case TalkFor(duration_ms=duration_ms):
            speech = voice.talk(duration_ms)
            text, pcm = speech.text, speech.pcm
        case Recording(text=text, pcm=pcm):
            pass
    return (
        Content(kind="text", text=text)
        if modality == "text"
        else Content(kind="audio", text=text, pcm=pcm)
    )


def _pieces(
    content: Content, first_ms: float, speed: float, chance: Random
) -> list[tuple[float, Step]]:
    words = word_pieces(content.text)
    if content.kind != "audio":
        return [(first_ms + k * _WORD_MS, Say(word)) for k, word in enumerate(words)]
    # Three words before the first audio, the rest while it streams but well ahead of it.
    sending_ms = len(content.pcm) / _BYTES_PER_MS / speed
    lead_ms = sending_ms * _TRANSCRIPT_LEAD / max(1, len(words) - 3)
    pieces: list[tuple[float, Step]] = [
        (first_ms - (3 - k) * _WORD_MS / 2 if k < 3 else first_ms + (k - 2) * lead_ms, Say(word))
        for k, word in enumerate(words)
    ]
    end = 0
    length_ms: float = _FIRST_DELTA_MS
    while end < len(content.pcm):
        end = min(len(content.pcm), end + 2 * math.floor(length_ms * _BYTES_PER_MS / 2))
        sent_ms = max(0.0, end / _BYTES_PER_MS - _FIRST_DELTA_MS) / speed
        pieces.append((first_ms + sent_ms, Sound(end)))
        length_ms = chance.uniform(*_DELTA_MS)
    return pieces
