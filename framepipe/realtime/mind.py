"""What the embedded server understands and answers: minds, and ears.

A mind is asked once for each response and says at once all that it will say. It keeps no count
of its own, so that one mind serves many sessions: what it needs to know is in the `Question`.
Ears turn a user's recording into words; offline that works only where the words are known, so
the usual ears are a list that is given beside the audio.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from attrs import frozen

from framepipe.errors import WiringError
from framepipe.realtime.events import Item, Part

Ears: TypeAlias = Callable[[int, bytes], "str | None"]
"""Called with the number of the user's audio item in its session (from 0) and its recording
(24 kHz mono s16le); returns its words, or ``None`` when they cannot be made out."""


@frozen(kw_only=True)
class Words:
    """Say this text; written instead, when the response is to be text."""

    text: str


@frozen(kw_only=True)
class TalkFor:
    """Talk, about anything, for exactly ``duration_ms`` milliseconds."""

    duration_ms: int


@frozen(kw_only=True)
class Recording:
    """Play this sound.

    Attributes:
        pcm: 24 kHz mono, signed 16-bit little-endian.
        text: What the transcript calls it.
    """

    pcm: bytes
    text: str = ""


@frozen(kw_only=True)
class ToolUse:
    """Call a tool of the client's.

    Attributes:
        name: The tool.
        arguments: JSON text.
    """

    name: str
    arguments: str = "{}"


@frozen(kw_only=True)
class McpUse:
    """Use a tool of an MCP server, which the service does by itself.

    Attributes:
        server_label: The MCP server.
        name: The tool.
        arguments: JSON text.
        output: What it answers.
        error: Why it does not; ``None``: it does.
    """

    server_label: str
    name: str
    arguments: str = "{}"
    output: str = ""
    error: str | None = None


Output: TypeAlias = Words | TalkFor | Recording | ToolUse | McpUse
"""One output item of a response."""


@frozen(kw_only=True)
class Question:
    """What a mind is asked.

    Attributes:
        items: The conversation, oldest first, as the wire shows it (no audio).
        instructions: The session's, or those of this response.
        heard: Words of the newest user item; ``None`` when nobody made them out.
        recording: Its audio, 24 kHz mono s16le; empty for typed words.
        said: Words of every user item so far, oldest first; "" where nobody made them out.
        tools: Names of the tools that may be called.
        answered: Responses that this session began before this one.
    """

    items: tuple[Item, ...] = ()
    instructions: str = ""
    heard: str | None = None
    recording: bytes = b""
    said: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    answered: int = 0


class Mind(Protocol):
    """Decides what is answered."""

    def answer(self, question: Question, /) -> Sequence[Output]:
        """The output items of one response, in order. None is an answer too."""
        ...


class Talk:
    """Talks for a set time, whatever was said: something to interrupt.

    Args:
        answer_ms: Length of each answer in milliseconds.
    """

    def __init__(self, answer_ms: int = 8_000) -> None:
        if answer_ms < 0:
            raise WiringError(f"answer_ms is {answer_ms}; an answer lasts 0 ms or longer")
        self.answer_ms = answer_ms

    def answer(self, question: Question, /) -> Sequence[Output]:
        """Talk for ``answer_ms``."""
        return [TalkFor(duration_ms=self.answer_ms)]


class Echo:
    """Says what it heard: the words when they are known, else the recording itself."""

    def answer(self, question: Question, /) -> Sequence[Output]:
        """Repeat the newest user item."""
        if question.heard is None and question.recording:
            return [Recording(pcm=question.recording, text="(an echo)")]
        return [Words(text=question.heard or "I heard nothing.")]


class Scripted:
    """Gives prepared answers, one a response, and the last one again when they run out.

    Args:
        answers: Each a text, a length in milliseconds, or the output items themselves.
    """

    def __init__(self, answers: Sequence[str | int | Sequence[Output]]) -> None:
        self._answers = [_outputs(answer) for answer in answers] or [()]

    def answer(self, question: Question, /) -> Sequence[Output]:
        """The prepared answer whose turn it is."""
        return self._answers[min(question.answered, len(self._answers) - 1)]


def given_words(texts: Sequence[str]) -> Ears:
    """Ears that know the words beforehand: the n-th text for the n-th spoken turn.

    Turns beyond the list are not made out.
    """

    def hear(nth: int, _pcm: bytes) -> str | None:
        return texts[nth] if nth < len(texts) else None

    return hear


def text_of(item: Item) -> str | None:
    """The words in a message: written or transcribed; ``None`` when it has none."""
    parts: list[Part] = item.content if isinstance(item.content, list) else []
    words = [
        said
        for part in parts
        for said in (part.text, part.transcript)
        if isinstance(said, str) and said
    ]
    return " ".join(words) or None


def _outputs(answer: str | int | Sequence[Output]) -> Sequence[Output]:
    if isinstance(answer, str):
        return (Words(text=answer),)
    if isinstance(answer, int):
        return (TalkFor(duration_ms=answer),)
    return tuple(answer)
