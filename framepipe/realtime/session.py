"""What a session is asked to be: typed, with the documented defaults, checked before it is sent.

`SessionSettings` says what the application wants; `SessionSettings.wire` is the ``session`` of a
``session.update``. The defaults are the service's documented ones. ``silence_duration_ms`` is
always sent, because models differ in what they do without it (200 ms on one, 500 on the next).

Source: Realtime API reference, session object, GA shape, November 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import attrs
from attrs import field, frozen

from framepipe.errors import LocalProtocolError
from framepipe.realtime import events
from framepipe.realtime.events import UNSET, Json

Owner: TypeAlias = Literal["client", "server"]
"""Who decides that the agent is interrupted: the client's ears, or the service's."""

AudioCoding: TypeAlias = Literal["audio/pcm", "audio/pcmu", "audio/pcma"]
"""How audio travels: 16-bit at 24 kHz, or G.711 µ-law or A-law at 8 kHz."""

RATES_HZ: Final[Mapping[str, int]] = {
    "audio/pcm": 24_000,
    "audio/pcmu": 8_000,
    "audio/pcma": 8_000,
}
"""Samples per second of each coding."""


def _within(low: float, high: float, unit: str = "") -> Any:
    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value is None:
            return
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and low <= value <= high):  # type: ignore[operator]
            rule = f"{low:g} to {high:g}{unit}"
            raise LocalProtocolError(f"{attribute.name} is {value!r}; it must be {rule}")

    return check


def _whole(low: int, high: int, unit: str = "") -> Any:
    def check(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value is not None and type(value) is not int:
            raise LocalProtocolError(f"{attribute.name} is {value!r}; it must be a whole number")
        _within(low, high, unit)(instance, attribute, value)

    return check


def _one_of(*allowed: object) -> Any:
    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value not in allowed:
            names = ", ".join(repr(one) for one in allowed)
            raise LocalProtocolError(f"{attribute.name} is {value!r}; it must be one of {names}")

    return check


def _a(*types: type) -> Any:
    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if not isinstance(value, types):
            names = " or ".join("None" if t is type(None) else t.__name__ for t in types)
            raise LocalProtocolError(f"{attribute.name} is {value!r}; it must be {names}")

    return check


def _unless_none(value: Any) -> Any:
    return UNSET if value is None else value


@frozen(kw_only=True)
class ServerVad:
    """The service ends a user turn after a silence.

    Attributes:
        threshold: 0 to 1; higher needs louder speech.
        prefix_padding_ms: Audio kept before the detected start, 0 to 5000 ms.
        silence_duration_ms: Silence that ends the turn, 0 to 10000 ms.
        idle_timeout_ms: Silence after which the model speaks up, 5000 to 30000 ms; ``None`` is
            never. It counts playback that the service cannot see: better left off.
        create_response: The service answers by itself when a turn ends.
        interrupt_response: The service cancels its answer when the user speaks. Sent as
            ``False`` when the client owns interruption.

    Raises:
        LocalProtocolError: A field is out of its range.
    """

    threshold: float = field(default=0.5, validator=_within(0, 1))
    prefix_padding_ms: int = field(default=300, validator=_whole(0, 5_000, " ms"))
    silence_duration_ms: int = field(default=500, validator=_whole(0, 10_000, " ms"))
    idle_timeout_ms: int | None = field(default=None, validator=_whole(5_000, 30_000, " ms"))
    create_response: bool = field(default=True, validator=_a(bool))
    interrupt_response: bool = field(default=True, validator=_a(bool))


@frozen(kw_only=True)
class SemanticVad:
    """The service ends a user turn when the words sound finished.

    Attributes:
        eagerness: How soon: it waits at most 8 s ("low"), 4 s ("medium", "auto"), 2 s ("high").
        create_response: As in `ServerVad`.
        interrupt_response: As in `ServerVad`.

    Raises:
        LocalProtocolError: A field is out of its range.
    """

    eagerness: Literal["low", "medium", "high", "auto"] = field(
        default="auto", validator=_one_of("low", "medium", "high", "auto")
    )
    create_response: bool = field(default=True, validator=_a(bool))
    interrupt_response: bool = field(default=True, validator=_a(bool))


@frozen(kw_only=True)
class Transcription:
    """The user's words as text.

    Attributes:
        model: The transcription model.
        language: ISO 639-1, as in "en"; ``None`` lets the model guess.
        prompt: Words to expect.
        languages: Several languages, for the models that take them.
        keywords: Names to expect, for the models that take them.
        delay: How long the model may wait for certainty, in the wire's words; ``None`` is the
            model's choice.

    Raises:
        LocalProtocolError: ``model`` is empty, or a field is of another type.
    """

    model: str = field(default="gpt-realtime-whisper", validator=_a(str))
    language: str | None = field(default=None, validator=_a(str, type(None)))
    prompt: str | None = field(default=None, validator=_a(str, type(None)))
    languages: tuple[str, ...] = field(default=(), validator=_a(tuple))
    keywords: tuple[str, ...] = field(default=(), validator=_a(tuple))
    delay: str | None = field(default=None, validator=_a(str, type(None)))

    def __attrs_post_init__(self) -> None:
        if not self.model:
            raise LocalProtocolError("model is ''; transcription needs a model, or no object")


TurnDetection: TypeAlias = ServerVad | SemanticVad | None
"""Who ends user turns; ``None``: the application commits the audio itself."""


@frozen(kw_only=True)
class SessionSettings:
    """What a session is asked to be.

    Attributes:
        instructions: What the model shall be; ``None`` keeps the service's own, "" clears it.
        output_modality: "audio" (with its transcript) or "text".
        input_format: Coding of the microphone audio.
        output_format: Coding of the voice.
        turn_detection: Who ends user turns.
        noise_reduction: "near_field" for a headset, "far_field" for a room, ``None`` is off.
        noise_reduction_strength: 0 to 1; ``None`` is the service's own (1).
        transcription: The user's words as text; ``None`` is off.
        voice: Its name; ``None`` is the service's choice. Fixed once the agent has spoken.
        speed: 0.25 to 1.5 times the voice's own.
        tools: Each as the wire has it (``{"type": "function", "name": …}``).
        tool_choice: "auto", "none", "required", or the wire's object.
        parallel_tool_calls: Several calls in one response; ``None`` is the model's choice.
        max_output_tokens: 1 to 4096 for a response, or "inf".
        truncation: What the service forgets when the context is full: "auto", "disabled" (an
            error instead), or the wire's object.
        reasoning: The wire's object, as in ``{"effort": "low"}``; newer models only.
        prompt: A stored prompt, as the wire has it.
        tracing: The wire's value; ``None`` is off.
        include: Extra fields to be sent, as the wire names them.

    Raises:
        LocalProtocolError: A field breaks its rule; the message names both.
    """

    instructions: str | None = field(default=None, validator=_a(str, type(None)))
    output_modality: Literal["audio", "text"] = field(
        default="audio", validator=_one_of("audio", "text")
    )
    input_format: AudioCoding = field(default="audio/pcm", validator=_one_of(*RATES_HZ))
    output_format: AudioCoding = field(default="audio/pcm", validator=_one_of(*RATES_HZ))
    turn_detection: TurnDetection = field(
        factory=ServerVad, validator=_a(ServerVad, SemanticVad, type(None))
    )
    noise_reduction: Literal["near_field", "far_field"] | None = field(
        default=None, validator=_one_of(None, "near_field", "far_field")
    )
    noise_reduction_strength: float | None = field(default=None, validator=_within(0, 1))
    transcription: Transcription | None = field(
        default=None, validator=_a(Transcription, type(None))
    )
    voice: str | None = field(default=None, validator=_a(str, type(None)))
    speed: float = field(default=1.0, validator=_within(0.25, 1.5))
    tools: tuple[Mapping[str, Json], ...] = field(default=(), validator=_a(tuple))
    tool_choice: str | Mapping[str, Json] = field(default="auto", validator=_a(str, Mapping))
    parallel_tool_calls: bool | None = field(default=None, validator=_a(bool, type(None)))
    max_output_tokens: int | Literal["inf"] = "inf"
    truncation: Literal["auto", "disabled"] | Mapping[str, Json] = field(
        default="auto", validator=_a(str, Mapping)
    )
    reasoning: Mapping[str, Json] | None = field(default=None, validator=_a(Mapping, type(None)))
    prompt: Mapping[str, Json] | None = field(default=None, validator=_a(Mapping, type(None)))
    tracing: str | Mapping[str, Json] | None = field(
        default=None, validator=_a(str, Mapping, type(None))
    )
    include: tuple[str, ...] = field(default=(), validator=_a(tuple))

    def __attrs_post_init__(self) -> None:
        if self.max_output_tokens != "inf":
            name = attrs.fields(type(self)).max_output_tokens
            _whole(1, 4_096, ' (or "inf")')(self, name, self.max_output_tokens)
        if isinstance(self.tool_choice, str):
            name = attrs.fields(type(self)).tool_choice
            _one_of("auto", "none", "required")(self, name, self.tool_choice)
        if isinstance(self.truncation, str):
            name = attrs.fields(type(self)).truncation
            _one_of("auto", "disabled")(self, name, self.truncation)

    def wire(self, owner: Owner = "client") -> events.Session:
        """The session as an update asks for it.

        Args:
            owner: Who decides that the agent is interrupted. With "client" the service is told
                not to: its detector takes a cough for a word, and the mute is local anyway.
        """
        return events.Session(
            instructions=_unless_none(self.instructions),
            output_modalities=[self.output_modality],
            tools=[dict(tool) for tool in self.tools],
            tool_choice=_json(self.tool_choice),
            parallel_tool_calls=_unless_none(self.parallel_tool_calls),
            max_output_tokens=self.max_output_tokens,
            truncation=_json(self.truncation),
            reasoning=_unless_none(_json(self.reasoning)),
            prompt=_unless_none(_json(self.prompt)),
            tracing=_unless_none(_json(self.tracing)),
            include=list(self.include) or UNSET,
            audio=events.Audio(
                input=events.AudioInput(
                    format=_format(self.input_format),
                    transcription=_transcription(self.transcription),
                    noise_reduction=(
                        events.NoiseReduction(
                            type=self.noise_reduction,
                            strength=_unless_none(self.noise_reduction_strength),
                        )
                        if self.noise_reduction
                        else None
                    ),
                    turn_detection=_turn_detection(self.turn_detection, owner),
                ),
                output=events.AudioOutput(
                    format=_format(self.output_format),
                    voice=_unless_none(self.voice),
                    speed=self.speed,
                ),
            ),
        )


def _json(value: str | Mapping[str, Json] | None) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _format(coding: AudioCoding) -> events.AudioFormat:
    # The wire gives a rate for pcm only; the other two have just one.
    rate = RATES_HZ[coding] if coding == "audio/pcm" else UNSET
    return events.AudioFormat(type=coding, rate=rate)


def _transcription(wanted: Transcription | None) -> events.Transcription | None:
    if wanted is None:
        return None
    return events.Transcription(
        model=wanted.model,
        language=_unless_none(wanted.language),
        prompt=_unless_none(wanted.prompt),
        languages=list(wanted.languages) or UNSET,
        keywords=list(wanted.keywords) or UNSET,
        delay=_unless_none(wanted.delay),
    )


def _turn_detection(wanted: TurnDetection, owner: Owner) -> events.TurnDetection | None:
    if wanted is None:
        return None
    interrupt = wanted.interrupt_response and owner == "server"
    if isinstance(wanted, SemanticVad):
        return events.TurnDetection(
            type="semantic_vad",
            eagerness=wanted.eagerness,
            create_response=wanted.create_response,
            interrupt_response=interrupt,
        )
    return events.TurnDetection(
        type="server_vad",
        threshold=wanted.threshold,
        prefix_padding_ms=wanted.prefix_padding_ms,
        silence_duration_ms=wanted.silence_duration_ms,
        idle_timeout_ms=_unless_none(wanted.idle_timeout_ms),
        create_response=wanted.create_response,
        interrupt_response=interrupt,
    )
