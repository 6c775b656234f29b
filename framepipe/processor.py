"""How a stage is written: marks on methods, and what the engine lends to a stage.

A processor is any object with methods marked by `on`. It has no base class and forwards nothing
by hand: a frame that no method handles passes untouched, and what a handler returns goes on
instead of the frame.

The colour of a handler draws the task graph. Plain ``def`` runs inline, in the emitter's call.
``async def`` gives the stage one bounded mailbox and one task. ``async def run(self, emit)`` is
the stage's own life: a device, a socket, a deadline.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
from typing import Any, Protocol, TypeAlias, TypeVar, cast, overload
from weakref import WeakKeyDictionary

from attrs import frozen

from framepipe.errors import WiringError
from framepipe.frames import End, Frame, Interrupt, UrgentDown, UrgentUp

Output: TypeAlias = Frame | Iterable[Frame] | None
"""What a plain handler may return: nothing (the frame ends here), one frame, several."""

Result: TypeAlias = Output | Awaitable[Output] | AsyncIterable[Frame]
"""What any handler may return when it is called."""

MAILBOX_CAPACITY = 256
"""Frames that wait before an async stage, unless it has a ``mailbox_capacity`` of its own:
five seconds of 20 ms audio, more than any stall that a call survives."""

_MARK = "__framepipe_on__"

_Self = TypeVar("_Self")
_F1 = TypeVar("_F1", bound=Frame)
_F2 = TypeVar("_F2", bound=Frame)
_F3 = TypeVar("_F3", bound=Frame)
_R = TypeVar("_R", bound=Result)
_Emitted = TypeVar("_Emitted", bound=Frame, contravariant=True)


class Emit(Protocol[_Emitted]):
    """What the engine lends to one stage: the way out, and the time.

    ``run(self, emit: Emit[AudioOut | Played])`` declares what the stage makes; the pipeline
    reads it when it checks itself.
    """

    def __call__(self, frame: _Emitted, /) -> None:
        """Send ``frame`` on its way. Never waits; when it returns, plain stages have seen it.

        The stage's own urgent handlers may run inside this call: take your state before.

        Raises:
            MailboxFull: No room downstream. Nothing happened. (``AudioIn`` sheds instead.)
            EmitError: Inside a plain handler, after ``End``, or of a turn never opened.
        """
        ...

    async def room(self) -> None:
        """Wait until every mailbox that an emitted frame can reach first has room.

        Cancellation leaves nothing behind.
        """
        ...

    async def until(self, at_ns: int | None) -> bool:
        """Wait for a time, or for one of the stage's own urgent frames, whichever is first.

        Args:
            at_ns: Engine time in nanoseconds; ``None`` waits for the frames only.

        Returns:
            Whether the time was reached.

        Cancellation leaves nothing behind.
        """
        ...

    def wake(self) -> None:
        """Make a waiting ``until`` of this stage return ``False`` now.

        For an ordered handler that changes what the stage's ``run`` waits for; urgent handlers
        and ``@on(End)`` do it by themselves.
        """
        ...

    def from_thread(self, frame: _Emitted, /) -> None:
        """Send ``frame`` from another thread; in order per thread, bounded, counted.

        Raises:
            MailboxFull: More than a mailbox of frames waits. (``AudioIn`` sheds its oldest.)
            EmitError: The pipeline does not run.
        """
        ...

    def new_turn(self) -> int:
        """Open a turn of the agent. The first is 1; numbers only grow."""
        ...

    def is_cut(self, turn: int) -> bool:
        """Whether an interruption has ended ``turn``."""
        ...

    def now_ns(self) -> int:
        """Engine time in nanoseconds."""
        ...


@overload
def on(
    first: type[_F1], /
) -> Callable[[Callable[[_Self, _F1], _R]], Callable[[_Self, _F1], _R]]: ...
@overload
def on(
    first: type[_F1], second: type[_F2], /
) -> Callable[[Callable[[_Self, _F1 | _F2], _R]], Callable[[_Self, _F1 | _F2], _R]]: ...
@overload
def on(
    first: type[_F1], second: type[_F2], third: type[_F3], /
) -> Callable[[Callable[[_Self, _F1 | _F2 | _F3], _R]], Callable[[_Self, _F1 | _F2 | _F3], _R]]: ...
def on(*types: type[Frame]) -> Callable[[Any], Any]:
    """Mark a method as the handler of one to three frame types.

    A base class stands for every frame below it that has no handler of its own, except ``End``
    and ``Interrupt``; only plain handlers may be marked with a base. A method that overrides a
    marked one stays marked.

    Args:
        types: The frame classes.

    Raises:
        WiringError: No type, or something that is not a frame class.

    Returns:
        A decorator that gives the function back, marked.
    """
    for frame_type in cast("tuple[object, ...]", types):
        if not (isinstance(frame_type, type) and issubclass(frame_type, Frame)):
            raise WiringError(f"@on({frame_type!r}): it takes frame classes, as in @on(AudioIn)")
    if not types:
        raise WiringError("@on() names no frame; write @on(AudioIn)")

    def mark(function: Any) -> Any:
        setattr(function, _MARK, types)
        return function

    return mark


@frozen
class Handler:
    """One marked method of one stage.

    Attributes:
        name: The method's name.
        frame_type: The frame it handles, or a base class.
        call: The bound method.
        is_async: ``async def`` or an async generator: it needs a mailbox.
    """

    name: str
    frame_type: type[Frame]
    call: Callable[[Any], Any]
    is_async: bool


_Mark: TypeAlias = tuple[str, type[Frame], bool]
_marks: WeakKeyDictionary[type, tuple[_Mark, ...]] = WeakKeyDictionary()


def handlers_of(stage: object) -> tuple[Handler, ...]:
    """Read the marks of a stage, overridden methods included.

    Args:
        stage: Any object.

    Raises:
        WiringError: Two methods handle the same frame.
    """
    cls = type(stage)
    marks = _marks.get(cls)
    if marks is None:
        marks = _marks[cls] = tuple(_marks_of(cls))
    return tuple(
        Handler(name, frame_type, getattr(stage, name), is_async)
        for name, frame_type, is_async in marks
    )


def _marks_of(stage_class: type) -> Iterator[_Mark]:
    found: dict[type[Frame], str] = {}
    names: set[str] = set()
    for cls in stage_class.__mro__:
        for name, marked in vars(cls).items():
            if name in names or not hasattr(marked, _MARK):
                continue
            names.add(name)
            function = getattr(stage_class, name)  # the override, if there is one
            is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
            for frame_type in cast("tuple[type[Frame], ...]", getattr(marked, _MARK)):
                if frame_type in found:
                    raise WiringError(
                        f"{stage_class.__name__} handles {frame_type.__name__} in both "
                        f"{found[frame_type]} and {name}; keep one"
                    )
                found[frame_type] = name
                yield name, frame_type, is_async


def pick_handler(handlers: Iterable[Handler], frame_type: type[Frame]) -> Handler | None:
    """The handler for a frame type: its own, else that of the nearest base class.

    ``End`` and ``Interrupt`` are found by their own name only: a handler for everything must not
    swallow the two frames that nobody may swallow.
    """
    by_type = {handler.frame_type: handler for handler in handlers}
    if issubclass(frame_type, End | Interrupt):
        return by_type.get(End if issubclass(frame_type, End) else Interrupt)
    for base in frame_type.__mro__:
        if base in by_type:
            return by_type[base]
    return None


def is_urgent(frame_type: type[Frame]) -> bool:
    """Whether frames of this type pass everything that waits."""
    return issubclass(frame_type, UrgentDown | UrgentUp)


class Supervised:
    """A stage that may fail; made by `supervised`."""

    def __init__(self, stage: object, restarts: int) -> None:
        self.stage = stage
        self.restarts = restarts


def supervised(stage: object, restarts: int = 3) -> Supervised:
    """Let a stage fail a few times before it ends the run (promise G7).

    The same object goes on. The frame in hand is not tried again (it is counted as "failed"),
    what the handler had already yielded stays, waiting frames stay, ``run`` is called again.

    Args:
        stage: The stage.
        restarts: How many failures it may have, 0 or more.

    Raises:
        WiringError: ``restarts`` is negative.
    """
    if restarts < 0:
        raise WiringError(f"restarts is {restarts}; it must be 0 or more")
    return Supervised(stage, restarts)
