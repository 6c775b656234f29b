"""The settings of one session of the embedded server: defaults, and how an update changes them.

An update says only what changes. It is checked whole before any of it is taken: an update that
is refused leaves the session as it was.

Where this server is less than the service: it stores noise reduction, truncation and the like
without acting on them; a semantic turn detection is an approximation (`semantic_end`).

A *transcription* session hears and writes, and answers nothing. Inside it is a whole session that
never creates a response; `shown` leaves out what such a session does not have.

Source: realtime reference, section 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast, get_args, get_type_hints

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import fields, replace

from framepipe.realtime.events import (
    Audio,
    AudioFormat,
    AudioInput,
    AudioOutput,
    Json,
    ResponseParams,
    Session,
    Shape,
    Transcription,
    TurnDetection,
)
from framepipe.realtime.refusals import (
    invalid_value,
    missing_parameter,
    unknown_parameter,
    voice_is_settled,
)
from framepipe.realtime.semantic_end import LONGEST_MS
from framepipe.realtime.server_audio import FORMATS
from framepipe.realtime.server_vad import VadSettings

SESSION_LIMIT_S = 3600
"""The service ends every session after an hour."""

_INSTRUCTIONS = (
    "You are a helpful, witty, and friendly AI. Act like a human, but remember that you aren't a "
    "human and that you can't do human things in the real world. Talk quickly."
)

_IDLE_TIMEOUT_MS = (1_000, 60_000)
"""Least and most; the service refuses what is outside, but its bounds are nowhere said."""

_TRANSCRIBER = "gpt-transcribe"
"""The model that a transcription session is given when its client names none; ours."""

_OF_ANSWERS = ("create_response", "interrupt_response", "idle_timeout_ms")
"""Fields of a turn detection that only a session with answers has."""

_PCM = AudioFormat(type="audio/pcm", rate=24_000)


def default_session(*, session_id: str, model: str, expires_at: int) -> Session:
    """What ``session.created`` tells.

    Args:
        session_id: Its id.
        model: Of the URL. ``gpt-realtime`` ends turns after 200 ms of silence, later ones 500.
        expires_at: Unix seconds.
    """
    return Session(
        type="realtime",
        object="realtime.session",
        id=session_id,
        model=model,
        output_modalities=["audio"],
        instructions=_INSTRUCTIONS,
        tools=[],
        tool_choice="auto",
        max_output_tokens="inf",
        tracing=None,
        truncation="auto",
        prompt=None,
        expires_at=expires_at,
        audio=Audio(
            input=AudioInput(
                format=_PCM,
                transcription=None,
                noise_reduction=None,
                turn_detection=_default_turn_detection("server_vad", model),
            ),
            output=AudioOutput(format=_PCM, voice=_default_voice(model), speed=1.0),
        ),
        include=None,
    )


def transcription_session(*, session_id: str, model: str, expires_at: int) -> Session:
    """What a session is that was asked for with ``intent=transcription``.

    Args:
        session_id: Its id.
        model: Of the server; it only tells the silence that ends a turn.
        expires_at: Unix seconds.
    """
    whole = default_session(session_id=session_id, model=model, expires_at=expires_at)
    audio_input, audio_output = _sides(whole)
    turns = cast("TurnDetection", audio_input.turn_detection)
    audio_input = replace(
        audio_input,
        transcription=Transcription(model=_TRANSCRIBER, language=None, prompt=None),
        turn_detection=replace(turns, create_response=False, interrupt_response=False),
    )
    return replace(
        whole,
        type="transcription",
        object="realtime.transcription_session",
        audio=Audio(input=audio_input, output=audio_output),
    )


def shown(session: Session) -> Session:
    """A session as its client sees it."""
    if session.type != "transcription":
        return session
    heard, _ = _sides(session)
    if isinstance(heard.turn_detection, TurnDetection):
        left_out = dict.fromkeys(_OF_ANSWERS, UNSET)
        heard = replace(heard, turn_detection=replace(heard.turn_detection, **left_out))
    return Session(
        type=session.type,
        object=session.object,
        id=session.id,
        expires_at=session.expires_at,
        audio=Audio(input=heard),
        include=session.include,
    )


def updated(session: Session, update: Session, *, has_spoken: bool) -> Session:
    """The session after an update.

    Args:
        session: As it is: whole.
        update: What the client sent: in part.
        has_spoken: Whether assistant audio exists, which settles the voice.

    Raises:
        RefusedError: The update as a whole; nothing changes.
    """
    if update.type != session.type:
        raise invalid_value(
            f"Invalid value: '{update.type}'. This session is of type '{session.type}'.",
            "session.type",
        )
    for name in ("id", "object", "expires_at"):
        if getattr(update, name) is not UNSET:
            raise unknown_parameter(f"session.{name}")
    if update.model is not UNSET and update.model != session.model:
        raise invalid_value(
            f"Invalid value: '{update.model}'. The model is fixed to '{session.model}' by the URL.",
            "session.model",
        )
    if session.type == "transcription":
        _check_transcription(update)
    check_answer_settings(update, "session")
    merged = cast("Session", _merged(session, update))
    audio_input, audio_output = _sides(merged)
    _check_audio(audio_input, audio_output)
    audio_input = replace(audio_input, format=_whole_format(audio_input.format))
    audio_output = replace(audio_output, format=_whole_format(audio_output.format))
    voice_before = _sides(session)[1].voice
    if has_spoken and audio_output.voice != voice_before:
        raise voice_is_settled()
    turns = _completed(
        _asked_turn_detection(update), _sides(session)[0].turn_detection, str(session.model)
    )
    if turns is not None and session.type == "transcription":
        turns = replace(turns, create_response=False, interrupt_response=False)
    return replace(
        merged,
        audio=Audio(
            input=replace(
                audio_input,
                turn_detection=turns,
                transcription=_told(audio_input.transcription),
            ),
            output=audio_output,
        ),
    )


def check_answer_settings(settings: Session | ResponseParams, path: str) -> None:
    """Check what a session and a single response have in common.

    Args:
        settings: Either of them.
        path: Where they stand, for the error: "session" or "response".

    Raises:
        RefusedError: A value is not allowed.
    """
    if isinstance(settings, ResponseParams) and isinstance(settings.audio, Audio):
        output = settings.audio.output
        if isinstance(output, AudioOutput):
            _check_format(output.format, f"{path}.audio.output.format")
    modalities = settings.output_modalities
    if modalities is not UNSET and modalities not in (["audio"], ["text"]):
        raise invalid_value(
            f"Invalid modalities: {modalities}. Supported combinations are: ['text'] and "
            "['audio'].",
            f"{path}.output_modalities",
        )
    limit = settings.max_output_tokens
    if limit is UNSET or limit == "inf":
        return
    if not isinstance(limit, int) or not 1 <= limit <= 4096:
        raise invalid_value(
            f"Invalid value: {limit!r}. Expected an integer from 1 to 4096, or 'inf'.",
            f"{path}.max_output_tokens",
        )


def check_names(raw: Json) -> None:
    """Refuse a ``session.update`` that names fields which the protocol does not have.

    The typed event ignores them; the service does not.

    Args:
        raw: The event as plain JSON data.

    Raises:
        RefusedError: An unknown field, or no ``session.type``.
    """
    session = raw.get("session")
    if not isinstance(session, dict):
        raise missing_parameter("session")
    named = cast("dict[str, Json]", session)
    _check_fields(Session, named, "session")
    if "type" not in named:
        raise missing_parameter("session.type")


def vad_settings(session: Session) -> VadSettings | None:
    """When turns begin and end in this session; ``None`` when the client decides."""
    turns = turn_detection(session)
    if turns is None:
        return None
    if turns.type == "semantic_vad":
        longest_ms = LONGEST_MS[str(turns.eagerness)]
        return VadSettings(silence_duration_ms=longest_ms, by_words=True)
    return VadSettings(
        threshold=cast("float", turns.threshold),
        prefix_padding_ms=cast("int", turns.prefix_padding_ms),
        silence_duration_ms=cast("int", turns.silence_duration_ms),
    )


def turn_detection(session: Session) -> TurnDetection | None:
    """The turn detection of a whole session."""
    return cast("TurnDetection | None", _sides(session)[0].turn_detection)


def input_format(session: Session) -> str:
    """How the user's audio is coded: one of `FORMATS`."""
    return cast("AudioFormat", _sides(session)[0].format).type


def idle_timeout_ms(session: Session) -> int | None:
    """Silence after which the session speaks up by itself; ``None`` for never."""
    turns = turn_detection(session)
    if turns is None or not isinstance(turns.idle_timeout_ms, int):
        return None
    return turns.idle_timeout_ms


def tool_names(tools: Json) -> tuple[str, ...]:
    """Names of the functions in a list of tools."""
    listed = cast("Iterable[Json]", tools) if isinstance(tools, list) else ()
    named = [cast("dict[str, Json]", tool).get("name") for tool in listed if isinstance(tool, dict)]
    return tuple(name for name in named if isinstance(name, str))


def wants_transcripts(session: Session) -> bool:
    """Whether the user's words are to be told."""
    return _sides(session)[0].transcription is not None


def _sides(session: Session) -> tuple[AudioInput, AudioOutput]:
    audio = cast("Audio", session.audio)
    return cast("AudioInput", audio.input), cast("AudioOutput", audio.output)


def _check_transcription(update: Session) -> None:
    for field in fields(update):
        if field.name not in ("type", "audio", "include") and _is_said(update, field.name):
            raise unknown_parameter(f"session.{field.name}")
    if isinstance(update.audio, Audio) and update.audio.output is not UNSET:
        raise unknown_parameter("session.audio.output")
    turns = _asked_turn_detection(update)
    for name in _OF_ANSWERS:
        if isinstance(turns, TurnDetection) and _is_said(turns, name):
            raise unknown_parameter(f"session.audio.input.turn_detection.{name}")


def _is_said(shape: Struct, name: str) -> bool:
    return getattr(shape, name) is not UNSET


def _default_voice(model: str) -> str:
    return "alloy" if model == "gpt-realtime" else "marin"


def _default_turn_detection(kind: str, model: str) -> TurnDetection:
    if kind == "semantic_vad":
        return TurnDetection(
            type=kind, eagerness="auto", create_response=True, interrupt_response=True
        )
    return TurnDetection(
        type="server_vad",
        threshold=0.5,
        prefix_padding_ms=300,
        silence_duration_ms=200 if model == "gpt-realtime" else 500,
        idle_timeout_ms=None,
        create_response=True,
        interrupt_response=True,
    )


def _merged(old: Struct, new: Struct) -> Struct:
    """``old`` with every field that ``new`` says, shape within shape."""
    changes: dict[str, Any] = {}
    for field in fields(new):
        value, before = getattr(new, field.name), getattr(old, field.name)
        if value is UNSET:
            continue
        if isinstance(value, (Audio, AudioInput, AudioOutput)) and isinstance(before, Struct):
            value = _merged(before, value)
        changes[field.name] = value
    return replace(old, **changes)


def _asked_turn_detection(update: Session) -> Any:
    if isinstance(update.audio, Audio) and isinstance(update.audio.input, AudioInput):
        return update.audio.input.turn_detection
    return UNSET


def _completed(asked: Any, before: Any, model: str) -> TurnDetection | None:
    """What was asked for, the rest as it was, or by default when the kind is a new one."""
    if asked is UNSET:
        return cast("TurnDetection | None", before)
    if asked is None:
        return None
    same_kind = isinstance(before, TurnDetection) and before.type == asked.type
    base = before if same_kind else _default_turn_detection(asked.type, model)
    for field in fields(asked):
        if getattr(asked, field.name) is not UNSET and getattr(base, field.name) is UNSET:
            raise unknown_parameter(f"session.audio.input.turn_detection.{field.name}")
    return cast("TurnDetection", _merged(base, asked))


def _told(transcription: Any) -> Any:
    """The echo names language and prompt, with null when they were not said."""
    if not isinstance(transcription, Transcription):
        return transcription
    return replace(
        transcription,
        language=None if transcription.language is UNSET else transcription.language,
        prompt=None if transcription.prompt is UNSET else transcription.prompt,
    )


def _check_audio(audio_input: AudioInput, audio_output: AudioOutput) -> None:
    for side, audio in (("input", audio_input), ("output", audio_output)):
        _check_format(audio.format, f"session.audio.{side}.format")
    _check_range(audio_output.speed, 0.25, 1.5, "session.audio.output.speed")
    turns = audio_input.turn_detection
    if not isinstance(turns, TurnDetection):
        return
    path = "session.audio.input.turn_detection"
    if turns.type not in ("server_vad", "semantic_vad"):
        raise invalid_value(
            f"Invalid value: '{turns.type}'. Supported values are: 'server_vad' and "
            "'semantic_vad'.",
            f"{path}.type",
        )
    _check_range(turns.threshold, 0, 1, f"{path}.threshold")
    _check_range(turns.prefix_padding_ms, 0, 10_000, f"{path}.prefix_padding_ms")
    _check_range(turns.silence_duration_ms, 0, 10_000, f"{path}.silence_duration_ms")
    if turns.idle_timeout_ms is not None:
        _check_range(turns.idle_timeout_ms, *_IDLE_TIMEOUT_MS, f"{path}.idle_timeout_ms")
    if turns.eagerness is not UNSET and turns.eagerness not in LONGEST_MS:
        raise invalid_value(
            f"Invalid value: '{turns.eagerness}'. Supported values are: 'low', 'medium', 'high' "
            "and 'auto'.",
            f"{path}.eagerness",
        )


def _check_format(sound: AudioFormat | UnsetType, param: str) -> None:
    if not isinstance(sound, AudioFormat):
        return
    if sound.type not in FORMATS:
        raise invalid_value(
            f"Invalid value: '{sound.type}'. Supported values are: "
            + ", ".join(f"'{kind}'" for kind in FORMATS)
            + ".",
            f"{param}.type",
        )
    rate = 24_000 if sound.type == "audio/pcm" else 8_000
    if sound.rate not in (UNSET, rate):
        raise invalid_value(
            f"Invalid value: {sound.rate}. '{sound.type}' has a rate of {rate}.", f"{param}.rate"
        )


def _whole_format(sound: AudioFormat | UnsetType) -> AudioFormat:
    """As it is echoed: PCM with its rate, the telephone codings without."""
    kind = cast("AudioFormat", sound).type
    return _PCM if kind == "audio/pcm" else AudioFormat(type=kind)


def _check_range(value: Any, low: float, high: float, param: str) -> None:
    if value is not UNSET and not low <= value <= high:
        raise invalid_value(f"Invalid value: {value}. Expected {low:g} to {high:g}.", param)


def _check_fields(shape: type[Struct], raw: dict[str, Json], path: str) -> None:
    hints = get_type_hints(shape)
    for name, value in raw.items():
        if name not in shape.__struct_fields__:
            raise unknown_parameter(f"{path}.{name}")
        if not isinstance(value, dict):
            continue
        for inner in get_args(hints[name]):
            if isinstance(inner, type) and issubclass(inner, Shape):
                _check_fields(inner, cast("dict[str, Json]", value), f"{path}.{name}")
