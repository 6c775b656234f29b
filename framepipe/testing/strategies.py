"""Hypothesis strategies: frames, scripts of frames, conversations, pipelines.

There is one for each frame type, named after it: `audio_in_frames` draws ``AudioIn``. All of them
draw every legal value by default and are narrowed by keyword, with a value or with a strategy:
``transcript_frames(who="user", text=st.sampled_from(["yes", "no"]))``. They shrink field by field
to the default, to 0, to the empty text, to the first literal; audio to no samples, then to few
samples of 0.

Needs hypothesis: ``pip install 'framepipe[testing]'``.
"""

from __future__ import annotations

import difflib
import inspect
import math
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, Literal, TypeGuard, TypeVar, get_origin, get_type_hints

import attrs
from attrs import evolve

from framepipe import frames as _frames
from framepipe.errors import FrameError
from framepipe.frames import (
    AudioDone,
    AudioIn,
    AudioOut,
    End,
    Frame,
    Interrupt,
    Interruptible,
    Ordered,
    Sound,
    UrgentDown,
    UrgentUp,
)
from framepipe.testing.conversation import Conversation
from framepipe.testing.graphs import pipelines as pipelines
from framepipe.testing.people import Act, Cough, Pause, Speech
from framepipe.testing.script import Step, Wait

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError(
        "framepipe.testing.strategies needs hypothesis: pip install 'framepipe[testing]'"
    ) from error

_F = TypeVar("_F", bound=Frame)

RATES_HZ: Final = (24_000, 8_000, 16_000, 44_100, 48_000)
"""Rates of audio that are drawn, the simplest first."""

MAX_SAMPLES: Final = 480
"""Samples per channel that are drawn at most: 20 ms of what the service sends."""

MAX_TURN: Final = 4
"""The newest turn that is drawn."""


# --- audio ------------------------------------------------------------------------------------


@attrs.frozen
class Flat:
    """Audio in which all samples are alike, made into bytes only when asked: a `framepipe.Sound`.

    Attributes:
        n_samples: Samples per channel.
        level: The value of each, −32,768 to 32,767.
        channels: 1 or 2.
    """

    n_samples: int
    level: int = 0
    channels: int = 1

    def pcm_bytes(self) -> bytes:
        """The samples, signed 16-bit little-endian, channels interleaved."""
        return struct.pack("<h", self.level) * (self.n_samples * self.channels)


def sounds(
    *,
    channels: int = 1,
    max_samples: int = MAX_SAMPLES,
    lazy: bool | None = None,
) -> st.SearchStrategy[bytes | Sound]:
    """Audio, as bytes or as a `framepipe.Sound` of which the bytes are not made yet.

    Args:
        channels: 1 or 2.
        max_samples: Samples per channel at most.
        lazy: ``False`` draws bytes only, ``True`` only the other.

    Shrinks to no samples, as bytes; then to few samples of 0.
    """

    def made(n_samples: int, level: int, is_lazy: bool) -> bytes | Sound:
        flat = Flat(n_samples, level, channels)
        return flat if is_lazy else flat.pcm_bytes()

    return st.builds(
        made,
        st.integers(0, max_samples),
        st.one_of(st.just(0), st.integers(-32_768, 32_767)),
        st.booleans() if lazy is None else st.just(lazy),
    )


# --- the fields of frames ---------------------------------------------------------------------

_words = st.sampled_from(["", "a", "no", "wait, please", "Grüße"])
_ids = st.sampled_from(["a", "b", "c"])
_samples = st.one_of(st.just(0), st.integers(0, 480_000))
_levels_db = st.one_of(st.just(-math.inf), st.floats(-96, 0, width=16))

_BY_NAME: Final[dict[str, st.SearchStrategy[Any]]] = {
    "arguments": st.sampled_from(["{}", '{"city": "Oslo"}']),
    "attempts": st.integers(1, 3),
    "cause": st.sampled_from(["caller", "local", "server"]),
    "channels": st.sampled_from([1, 2]),
    "fade_ms": st.integers(0, 12),
    "gain_db": _levels_db,
    "level_dbfs": _levels_db,
    "probability": st.floats(0, 1, width=16),
    "rate_hz": st.sampled_from(RATES_HZ),
    "revision": st.integers(1, 3),
    "source": st.sampled_from(["local", "server", "silero"]),
}
"""Fields whose meaning is in their name, not in their type."""

_BY_TYPE: Final[dict[object, st.SearchStrategy[Any]]] = {
    str: _words,
    int: st.integers(0, 1_000),
    float: st.floats(0, 10_000, width=16),
    bool: st.booleans(),
}


def _field(name: str, kind: Any, default: object) -> st.SearchStrategy[Any]:
    """All legal values of a field, the default first."""
    if kind is bool:
        return st.sampled_from([default is True, default is not True])
    drawn = _by_name(name, kind)
    return drawn if default is attrs.NOTHING else st.one_of(st.just(default), drawn)


def _by_name(name: str, kind: Any) -> st.SearchStrategy[Any]:
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name == "turn":
        turns = st.integers(1, MAX_TURN)
        return st.one_of(st.none(), turns) if _may_be_none(kind) else turns
    if name.endswith("_id"):
        return st.one_of(st.none(), _ids) if _may_be_none(kind) else _ids
    if name.endswith(("_sample", "_samples", "mute_point")):
        return st.one_of(st.none(), _samples) if _may_be_none(kind) else _samples
    if name.endswith("_index"):
        return st.integers(0, 2)
    return _of_type(kind)


def _may_be_none(kind: Any) -> bool:
    return type(None) in getattr(kind, "__args__", ())


def _of_type(kind: Any) -> st.SearchStrategy[Any]:
    if kind in _BY_TYPE:
        return _BY_TYPE[kind]
    inner: tuple[Any, ...] = getattr(kind, "__args__", ())
    if type(None) in inner:
        return st.one_of(st.none(), *(_of_type(one) for one in inner if one is not type(None)))
    if get_origin(kind) is tuple and inner[1:] == (...,):
        return st.lists(_of_type(inner[0]), max_size=2).map(tuple)
    if get_origin(kind) is Literal:
        return st.sampled_from(inner)
    if inspect.isclass(kind) and issubclass(kind, Frame):
        return _strategy(kind)
    return st.from_type(kind)


def _strategy(kind: type[_F], **narrowed: object) -> st.SearchStrategy[_F]:
    """All legal frames of a type."""
    hints = get_type_hints(kind)
    defaults = {f.name: f.default for f in attrs.fields(kind) if f.name != "at_ns"}
    names = list(defaults)
    for name in narrowed:
        if name not in (*names, "at_ns"):
            near = difflib.get_close_matches(name, names, 1)
            hint = f"; the nearest is {near[0]!r}" if near else ""
            raise FrameError(f"{kind.__name__} has no field {name!r}{hint}")
    given = {name: _as_strategy(value) for name, value in narrowed.items()}
    drawn = {
        name: _field(name, hints[name], default)
        for name, default in defaults.items()
        if name not in (*narrowed, "pcm")
    }
    # The plain frame first: a long list of fields shrinks to its defaults in one step.
    plain = {name: drawn[name] for name in drawn if defaults[name] is attrs.NOTHING}
    made = [_built(kind, {**plain, **given}), _built(kind, {**drawn, **given})]
    return st.one_of(made) if len(drawn) - len(plain) > 1 else made[1]


def _built(kind: type[_F], fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[_F]:
    if "pcm" in attrs.fields_dict(kind) and "pcm" not in fields:
        return st.builds(_sounding, st.just(kind), _flats, st.booleans(), **fields)
    return st.builds(kind, **fields)


def _sounding(kind: Callable[..., _F], flat: Flat, is_lazy: bool, **fields: Any) -> _F:
    """A frame with audio: the samples must fit the number of channels."""
    flat = evolve(flat, channels=fields.get("channels", 1))
    return kind(pcm=flat if is_lazy else flat.pcm_bytes(), **fields)


_flats: Final = st.builds(
    Flat,
    st.integers(0, MAX_SAMPLES),
    st.one_of(st.just(0), st.integers(-32_768, 32_767)),
)


def _as_strategy(value: object) -> st.SearchStrategy[Any]:
    return value if _is_strategy(value) else st.just(value)


def _is_strategy(value: object) -> TypeGuard[st.SearchStrategy[Any]]:
    return isinstance(value, st.SearchStrategy)


# --- one for each frame type ------------------------------------------------------------------


class FrameStrategy(Generic[_F]):
    """Makes strategies for the frames of one type.

    Call it with the fields that are to be narrowed, each a value or a strategy; without any it
    draws every legal frame of its type.

    Args:
        kind: The type.

    Attributes:
        kind: The type.
    """

    def __init__(self, kind: type[_F]) -> None:
        self.kind = kind
        self.__doc__ = f"Draws {kind.__name__} frames; shrinks field by field to the simplest."

    def __call__(self, **narrowed: object) -> st.SearchStrategy[_F]:
        """A strategy for the frames with these fields.

        Raises:
            FrameError: The type has no such field.
        """
        return _strategy(self.kind, **narrowed)

    def __repr__(self) -> str:
        return f"<strategies of {self.kind.__name__}>"


audio_in_frames: Final = FrameStrategy(_frames.AudioIn)
audio_out_frames: Final = FrameStrategy(_frames.AudioOut)
audio_done_frames: Final = FrameStrategy(_frames.AudioDone)
transcript_frames: Final = FrameStrategy(_frames.Transcript)
text_in_frames: Final = FrameStrategy(_frames.TextIn)
withdrawn_frames: Final = FrameStrategy(_frames.Withdrawn)
text_out_frames: Final = FrameStrategy(_frames.TextOut)
say_frames: Final = FrameStrategy(_frames.Say)
tool_call_frames: Final = FrameStrategy(_frames.ToolCall)
tool_result_frames: Final = FrameStrategy(_frames.ToolResult)
user_turn_frames: Final = FrameStrategy(_frames.UserTurn)
turn_amended_frames: Final = FrameStrategy(_frames.TurnAmended)
escalate_frames: Final = FrameStrategy(_frames.Escalate)
usage_frames: Final = FrameStrategy(_frames.Usage)
connection_state_frames: Final = FrameStrategy(_frames.ConnectionState)
problem_frames: Final = FrameStrategy(_frames.Problem)
interruption_report_frames: Final = FrameStrategy(_frames.InterruptionReport)
interruption_totals_frames: Final = FrameStrategy(_frames.InterruptionTotals)
end_frames: Final = FrameStrategy(_frames.End)
speech_started_frames: Final = FrameStrategy(_frames.SpeechStarted)
speech_stopped_frames: Final = FrameStrategy(_frames.SpeechStopped)
speech_confirmed_frames: Final = FrameStrategy(_frames.SpeechConfirmed)
speech_rejected_frames: Final = FrameStrategy(_frames.SpeechRejected)
reply_pending_frames: Final = FrameStrategy(_frames.ReplyPending)
reply_ready_frames: Final = FrameStrategy(_frames.ReplyReady)
drained_frames: Final = FrameStrategy(_frames.Drained)
mute_frames: Final = FrameStrategy(_frames.Mute)
unmute_frames: Final = FrameStrategy(_frames.Unmute)
hold_frames: Final = FrameStrategy(_frames.Hold)
release_frames: Final = FrameStrategy(_frames.Release)
played_frames: Final = FrameStrategy(_frames.Played)
echo_reference_frames: Final = FrameStrategy(_frames.EchoReference)
heard_frames: Final = FrameStrategy(_frames.Heard)
interrupt_frames: Final = FrameStrategy(_frames.Interrupt)
swallow_frames: Final = FrameStrategy(_frames.Swallow)
revoke_frames: Final = FrameStrategy(_frames.Revoke)
undo_frames: Final = FrameStrategy(_frames.Undo)
drop_parked_frames: Final = FrameStrategy(_frames.DropParked)
guard_tools_frames: Final = FrameStrategy(_frames.GuardTools)
proceed_frames: Final = FrameStrategy(_frames.Proceed)
speak_frames: Final = FrameStrategy(_frames.Speak)


def name_for(kind: type[Frame]) -> str:
    """What the strategy of a frame type is called: ``AudioIn`` has ``audio_in_frames``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower() + "_frames"


def frame_types(*bases: type[Frame]) -> tuple[type[Frame], ...]:
    """The frame types of framepipe below some bases, in the order of the reference page.

    Args:
        bases: Such as ``Ordered``, ``UrgentUp``; none is all.
    """
    own = (
        value
        for value in vars(_frames).values()
        if inspect.isclass(value) and issubclass(value, bases or (Frame,))
    )
    return tuple(kind for kind in own if kind not in BASES)


def frames(*kinds: type[Frame]) -> st.SearchStrategy[Frame]:
    """Frames of some types, or of all.

    Args:
        kinds: Frame types, yours too: fields that are no part of framepipe are drawn by their
            type. A base such as ``Ordered`` stands for all of framepipe's own below it.

    Shrinks to the first of the types.
    """
    chosen: list[type[Frame]] = []
    for kind in kinds or (Frame,):
        chosen += frame_types(kind) if kind in BASES else (kind,)
    return st.one_of([_strategy(kind) for kind in chosen])


BASES: Final = (Frame, Ordered, Interruptible, UrgentDown, UrgentUp)


# --- scripts ----------------------------------------------------------------------------------


def schedules(
    *choices: st.SearchStrategy[Frame],
    cuts: bool = True,
    max_wait_ms: int = 100,
    max_steps: int = 20,
) -> st.SearchStrategy[tuple[Step, ...]]:
    """Scripts for `framepipe.testing.collect` and `framepipe.testing.Script`.

    They are legal as a whole: one microphone whose capture clock runs on, one agent whose turns
    follow one another and whose items have consecutive audio of one format.

    Args:
        choices: What frames to emit; without any, all but ``End``.
        cuts: Whether the agent is cut, at any time.
        max_wait_ms: The longest wait.
        max_steps: Frames and waits together, at most.

    Shrinks to fewer and shorter waits, then to fewer frames, each as its own strategy does.
    """
    some = choices or (frames(*(kind for kind in frame_types() if kind is not End)),)
    steps: list[st.SearchStrategy[Step]] = [*some, st.builds(Wait, st.integers(0, max_wait_ms))]
    if cuts:
        steps.append(st.builds(Interrupt))
    return st.lists(st.one_of(steps), max_size=max_steps).map(laid_out)


def laid_out(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Make a legal call of steps that are legal one by one; see `schedules`."""
    layout = _Layout()
    return tuple(layout.place(step) for step in steps)


class _Layout:
    """Where the microphone is, which turn speaks, and how far it has come."""

    def __init__(self) -> None:
        self._mic: AudioIn | None = None
        self._mic_end = 0
        self._agent: AudioOut | None = None
        self._turn = 1
        self._part = 0
        self._part_end = 0

    def place(self, step: Step) -> Step:
        match step:
            case AudioIn():
                return self._microphone(step)
            case AudioOut():
                return self._agent_audio(step)
            case AudioDone():
                self._follow(step.turn)
                done = evolve(
                    step,
                    turn=self._turn,
                    item_id=self._item_id,
                    output_index=0,
                    content_index=self._part,
                    n_samples=self._part_end,
                )
                self._part, self._part_end = self._part + 1, 0
                return done
            case Interruptible():
                self._follow(step.turn)
                return evolve(step, turn=self._turn)
            case Interrupt(turn=int(turn)):
                return evolve(step, turn=min(turn, self._turn))
            case _:
                return step

    @property
    def _item_id(self) -> str:
        return f"item{self._turn}"

    def _microphone(self, frame: AudioIn) -> AudioIn:
        self._mic = self._mic or frame
        placed = evolve(
            frame,
            pcm=_fitting(frame, self._mic.channels),
            rate_hz=self._mic.rate_hz,
            channels=self._mic.channels,
            start_sample=self._mic_end,
        )
        self._mic_end += placed.n_samples
        return placed

    def _agent_audio(self, frame: AudioOut) -> AudioOut:
        self._follow(frame.turn)
        self._agent = self._agent or frame
        placed = evolve(
            frame,
            pcm=_fitting(frame, self._agent.channels),
            rate_hz=self._agent.rate_hz,
            channels=self._agent.channels,
            turn=self._turn,
            item_id=self._item_id,
            output_index=0,
            content_index=self._part,
            start_sample=self._part_end,
        )
        self._part_end += placed.n_samples
        return placed

    def _follow(self, turn: int) -> None:
        if turn > self._turn:
            self._turn, self._part, self._part_end = turn, 0, 0


def _fitting(frame: AudioIn | AudioOut, channels: int) -> bytes | Sound:
    """The audio of a frame with another number of channels."""
    if frame.channels == channels:
        return frame.pcm
    n_bytes = 2 * channels * frame.n_samples
    return (frame.pcm_bytes() * 2)[:n_bytes]


# --- conversations ----------------------------------------------------------------------------


def conversations(
    *,
    max_acts: int = 10,
    drops: bool = True,
) -> st.SearchStrategy[Conversation]:
    """Conversations for `framepipe.testing.hold`.

    The user talks, pauses, coughs, and talks over the answer; the server is quick or slow to
    answer and to stop, and its audio comes barely faster than it plays, or many times faster.

    Args:
        max_acts: What the user does, at most.
        drops: Whether the connection may break, after each 3 to 10 s of its life.

    Shrinks to a user who does nothing, before a quick server on a connection that holds.
    """
    act: st.SearchStrategy[Act] = st.one_of(
        st.builds(Pause, _tens(0, 4_000)),
        st.builds(Speech, _tens(200, 2_000)),
        st.builds(Cough, _tens(20, 200)),
    )
    speeds = st.sampled_from([10.0, 3.0, 1.5, 1.1])
    return st.builds(
        Conversation,
        user=st.lists(act, max_size=max_acts).map(lambda acts: (*acts, Pause(500))),
        answer_ms=st.sampled_from([600, 2_500, 6_000]),
        first_audio_ms=st.sampled_from([(20, 20), (20, 500), (250, 500)]),
        generation_speed=speeds.map(lambda speed: (speed, speed * 1.2)),
        cancel_latency_ms=st.sampled_from([0, 100, 200, 600]),
        device_ms=st.sampled_from([0, 30, 200]),
        drop_after_s=st.one_of(st.none(), st.floats(3, 10, width=16)) if drops else st.none(),
        seed=st.integers(0, 100),
    )


def _tens(least: int, most: int) -> st.SearchStrategy[int]:
    """Multiples of 10 between two of them."""
    return st.integers(least // 10, most // 10).map(lambda n: 10 * n)
