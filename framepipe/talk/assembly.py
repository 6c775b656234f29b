"""The pipeline of a talk, and the settings of it that may change while it runs."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

from attrs import evolve, field, frozen

from framepipe import Pipeline, TextIn
from framepipe.conversation.endpointing import GrowingSilence
from framepipe.conversation.playback_tap import PlaybackTap
from framepipe.conversation.profiles import profiles
from framepipe.conversation.relations import SpokenCorrections
from framepipe.errors import LocalProtocolError, WiringError
from framepipe.realtime.address import OPENAI_MODEL
from framepipe.realtime.connection import Connect, connect
from framepipe.realtime.session import ServerVad, SessionSettings
from framepipe_processors.bargein import BargeIn
from framepipe_processors.local_vad import LocalVad
from framepipe_processors.mic_gate import MicGate
from framepipe_processors.playout import Playout
from framepipe_processors.realtime import Realtime
from framepipe_processors.turns import Turns

Setting: TypeAlias = Callable[[Any], Awaitable[None]]
"""Changes one setting in the middle of a call."""

_NOTHING: Final[Mapping[str, Setting]] = {}


@frozen(kw_only=True)
class Service:
    """Where the model is.

    Attributes:
        url: ``None`` is OpenAI.
        model: Goes into the URL, unless that names one.
        key: ``None`` takes it from the environment.
        session: What the session shall be.
        greeting: What the agent says first.
        connect: Makes the connection.
    """

    url: str | None = None
    model: str = OPENAI_MODEL
    key: str | None = field(default=None, repr=False)
    session: SessionSettings = SessionSettings()  # noqa: RUF009 - frozen
    greeting: str | None = None
    connect: Connect = connect


@frozen(kw_only=True)
class Assembly:
    """A pipeline, and what the person may turn.

    Attributes:
        pipeline: Between the microphone and the loudspeaker, both included.
        values: The settings as they are, by name.
        settings: How each is changed.
    """

    pipeline: Pipeline
    values: Mapping[str, Any] = field(factory=dict[str, Any])
    settings: Mapping[str, Setting] = _NOTHING


Assemble: TypeAlias = Callable[[object, object], Assembly]
"""Makes an assembly around a microphone and a loudspeaker."""


def usual(
    service: Service, *, loudspeaker: bool = False, tap: PlaybackTap | None = None
) -> Assemble:
    """The usual chain of stages, with a service behind it.

    User turns are kept (`Turns`) where the session's transcription is on.

    Args:
        service: Where the model is.
        loudspeaker: The microphone hears the agent: put a `MicGate` before the service.
        tap: What was played: cancel its echo (`EchoCanceller`, extra ``aec``).
    """

    def assemble(mic: object, speaker: object) -> Assembly:
        realtime = Realtime(
            service.session,
            url=service.url,
            model=service.model,
            key=service.key,
            greeting=service.greeting,
            connect=service.connect,
        )
        barge_in = BargeIn()
        stages: list[object] = [LocalVad(), realtime, Playout(), barge_in]
        if loudspeaker:
            stages.insert(1, MicGate())
        if tap is not None:
            stages.insert(0, _echo_canceller(tap))
        vad = _ServerTurns(realtime, service.session)
        values: dict[str, Any] = {"suspect": "mute", **vad.values}
        settings: dict[str, Setting] = {
            "threshold": vad.set_threshold,
            "silence_ms": vad.set_silence,
        }

        async def set_suspect(value: Any) -> None:
            barge_in.core.profiles = profiles(suspect=value)

        settings["suspect"] = set_suspect
        if service.session.transcription is not None:
            turns = Turns(corrections=SpokenCorrections(), end_of_turn=GrowingSilence())
            stages.insert(stages.index(realtime) + 1, turns)
            values["cool_down_ms"] = turns.core.cool_down_ms

            async def set_cool_down(value: Any) -> None:
                turns.core.cool_down_ms = int(value)

            settings["cool_down_ms"] = set_cool_down
        return Assembly(
            pipeline=Pipeline(mic, *stages, speaker, accepts=(TextIn,)),
            values=values,
            settings=settings,
        )

    return assemble


def _echo_canceller(tap: PlaybackTap) -> object:
    # Imported late: the extra that it needs is an extra.
    from framepipe_processors.echo_canceller import EchoCanceller

    return EchoCanceller(tap)


def from_module(name: str) -> Assemble:
    """The pipeline of a user's own: ``module:function``, called with microphone and speaker.

    Args:
        name: Module and function; modules are looked for in the current folder, too.

    Raises:
        WiringError: There is no such function, or it takes other arguments, or, from the
            assembly, it made no pipeline.
    """
    module_name, _, function_name = name.partition(":")
    if not (module_name and function_name):
        raise WiringError(f"{name!r} is no pipeline; write module:function")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise WiringError(
            f"{module_name} cannot be imported: {error}; modules are looked for in {here}, too"
        ) from error
    except Exception as error:  # whatever the user's module raises while it is read
        at = error.lineno if isinstance(error, SyntaxError) else _last_line(error)
        raise WiringError(
            f"{module_name} cannot be imported: {type(error).__name__}: {error} (line {at}); "
            f"mend it until `python -c 'import {module_name}'` is silent"
        ) from error
    function: object = getattr(module, function_name, None)
    if not callable(function):
        raise WiringError(f"{module_name} has no function {function_name}; write module:function")
    if not _takes_two(function):
        raise WiringError(f"{name} cannot be called with a microphone and a speaker; it must be")

    def assemble(mic: object, speaker: object) -> Assembly:
        pipeline = cast("Callable[[object, object], object]", function)(mic, speaker)
        if not isinstance(pipeline, Pipeline):
            raise WiringError(f"{name}(mic, speaker) returned {pipeline!r}; it must be a Pipeline")
        return Assembly(pipeline=pipeline)

    return assemble


def _takes_two(function: Callable[..., object]) -> bool:
    try:
        inspect.signature(function).bind("mic", "speaker")
    except TypeError:
        return False
    except ValueError:  # it does not tell
        return True
    return True


def _last_line(error: Exception) -> int | None:
    """Where it was raised."""
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    return None if where is None else where.tb_lineno


class _ServerTurns:
    """The service's turn detection, which may change in the middle of a call."""

    def __init__(self, realtime: Realtime, session: SessionSettings) -> None:
        self._realtime = realtime
        self._session = session

    @property
    def values(self) -> Mapping[str, Any]:
        vad = self._session.turn_detection
        if not isinstance(vad, ServerVad):
            return {}
        return {"threshold": vad.threshold, "silence_ms": vad.silence_duration_ms}

    async def set_threshold(self, value: Any) -> None:
        await self._change(threshold=value)

    async def set_silence(self, value: Any) -> None:
        await self._change(silence_duration_ms=value)

    async def _change(self, **changes: Any) -> None:
        vad = self._session.turn_detection
        if not isinstance(vad, ServerVad):
            raise LocalProtocolError("the session has no server VAD whose settings could change")
        session = evolve(self._session, turn_detection=evolve(vad, **changes))
        await self._realtime.update(session)
        self._session = session
