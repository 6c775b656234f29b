"""Does a processor keep what the engine expects of it? One line of pytest asks.

    def test_my_processor() -> None:
        check_processor(lambda: NoiseGate(floor_dbfs=-40))

`check_processor` puts a fresh processor between two ends, plays random calls to it in virtual
time, and looks at what leaves. What it finds it shrinks to the shortest call that still shows it,
and prints that call as code.

What a processor does with the frames it handles is read from its annotations: a handler that
returns ``None``, or other types only, consumes its frame; ``AudioIn | None`` may drop it; anything
else passes each frame on, once. What differs from that is declared by keyword.

A frame is known again by its ``at_ns``, which ``evolve`` keeps: each frame that goes in has one of
its own. So a processor that makes a new frame instead of evolving the one it got has lost it, as
far as anybody downstream can tell.

Needs hypothesis: ``pip install 'framepipe[testing]'``.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import types
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from enum import Enum
from typing import Any, Final, TypeAlias, cast, get_args, get_type_hints

import anyio
import anyio.lowlevel
from attrs import define, evolve, field

from framepipe.errors import FramepipeError, ProcessorError
from framepipe.frames import (
    End,
    Frame,
    Interrupt,
    Interruptible,
    Ordered,
    UrgentDown,
    UrgentUp,
)
from framepipe.pipeline import Pipeline
from framepipe.processor import Handler, handlers_of, on, pick_handler
from framepipe.testing import _held as held
from framepipe.testing._blocking import listening
from framepipe.testing.script import Step, Wait, play
from framepipe.testing.strangers import Call, Nod, Note, Piece
from framepipe.testing.strategies import BASES, frame_types, frames, laid_out
from framepipe.testing.virtual_time import Backend, VirtualLoop, VirtualTimeError, run_virtual
from framepipe.testing.written import written

try:
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError(
        "framepipe.testing.conformance needs hypothesis: pip install 'framepipe[testing]'"
    ) from error

Factory: TypeAlias = Callable[[], object]
"""Makes a fresh processor; a class, or a lambda that gives it its settings."""


class Clause(Enum):
    """What is checked."""

    ORDER = "order"
    """Frames leave in the order in which they came."""
    ACCOUNT = "account"
    """No frame that it passes on is lost, and none leaves twice, unless that is declared."""
    UNKNOWN = "unknown"
    """Frames of types that it has never heard of pass untouched, in both directions."""
    INTERRUPT = "interrupt"
    """After a cut nothing of the cut turns leaves, and what follows does not wait for it."""
    END = "end"
    """When the call ends, so does the processor, and nothing comes after the end."""
    CANCEL = "cancel"
    """A cancelled call is over at once: no task, no thread, no error is left."""
    BLOCKING = "blocking"
    """No handler sleeps, opens files, connects or starts a process: all calls would stand still."""
    GROWTH = "growth"
    """What it holds does not grow with the length of the call."""


class ConformanceError(FramepipeError, AssertionError):
    """A processor does not keep a clause.

    Attributes:
        clause: Which.
        steps: The shortest call found that shows it, for `framepipe.testing.collect`.
    """

    def __init__(self, message: str, clause: Clause, steps: tuple[Step, ...]) -> None:
        super().__init__(message)
        self.clause = clause
        self.steps = steps


# --- limits -------------------------------------------------------------------------------------

_STRANGERS: Final = (Note, Piece, Nod, Call)

_TAG_NS: Final = 10**17
"""Frames that go in are stamped from here on: three years, which no call reaches by itself."""

_ENDS_WITHIN_S: Final = 60.0
"""Longer than any processor has a reason to go on after the end, in virtual time."""

_CLEANS_UP_WITHIN_S: Final = 1.0
"""A goodbye over a dead network is given up by then."""

_SPIN_LIMIT: Final = 20_000
"""Turns of the event loop at one instant, for calls of a few dozen frames."""


# --- what a processor declares --------------------------------------------------------------------


@define
class _Subject:
    """A processor, by its factory, and what may be expected of it."""

    factory: Factory
    drops: tuple[type[Frame], ...]
    repeats: tuple[type[Frame], ...]
    delays: tuple[type[Frame], ...]
    revives: bool
    holds_frames: int
    backend: Backend
    real_time: bool
    handlers: tuple[Handler, ...] = field(init=False)
    name: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        processor = self.factory()
        self.handlers = handlers_of(processor)
        self.name = type(processor).__name__

    def handled(self) -> Iterator[type[Frame]]:
        """The types that it handles, bases resolved."""
        for handler in self.handlers:
            if handler.frame_type in (End, Interrupt):
                continue
            if handler.frame_type in BASES:
                yield from (k for k in frame_types(handler.frame_type) if k not in (End, Interrupt))
            else:
                yield handler.frame_type

    def passes(self, kind: type[Frame]) -> bool:
        """Whether each frame of a type must leave again."""
        if issubclass(kind, self.drops):
            return False
        handler = pick_handler(self.handlers, kind)
        return handler is None or _returns(handler, kind)

    def is_kept_in_order(self, kind: type[Frame]) -> bool:
        """Whether frames of a type leave in order with all others, not only among themselves."""
        if issubclass(kind, self.delays):
            return False
        handler = pick_handler(self.handlers, kind)
        return handler is None or _returns(handler, kind, or_none=True)

    @property
    def grace_ns(self) -> int:
        """How late what is immediate may be: a busy machine is, virtual time is not."""
        return 1_000_000_000 if self.real_time else 0

    def codes(self) -> dict[types.CodeType, str]:
        """The code of its handlers."""
        return {
            inspect.unwrap(cast("Any", handler.call).__func__).__code__: handler.name
            for handler in self.handlers
        }

    def run(self, function: Callable[[], Any]) -> None:
        """Run an async function as this subject must be run."""
        if self.real_time:
            anyio.run(function, backend=self.backend)
        elif self.backend == "trio":
            run_virtual(function, backend="trio")
        else:
            anyio.run(function, backend_options={"loop_factory": _ImpatientLoop})


class _ImpatientLoop(VirtualLoop):
    spin_limit = _SPIN_LIMIT


def _returns(handler: Handler, kind: type[Frame], *, or_none: bool = False) -> bool:
    """Whether a handler is annotated to hand its frame on, always (or, ``or_none``, ever)."""
    try:
        hint = get_type_hints(handler.call).get("return", Frame)
    except (NameError, TypeError, AttributeError):
        return True  # a name that exists for type checkers only
    if hint is type(None):
        return False
    if type(None) in get_args(hint) and not or_none:
        return False
    return any(issubclass(kind, made) for made in _frames_in(hint))


def _frames_in(hint: Any) -> Iterator[type[Frame]]:
    if isinstance(hint, type) and issubclass(hint, Frame):
        yield hint
    elif hint in (Any, object) or isinstance(hint, types.NoneType):
        yield Frame
    for argument in get_args(hint):
        yield from _frames_in(argument)


# --- one run --------------------------------------------------------------------------------------


@define
class _Run:
    """What happened in one call."""

    left: list[tuple[int, Frame]] = field(factory=list[tuple[int, Frame]])
    turns_cut: int = 0
    dropped: dict[str, int] = field(factory=dict[str, int])
    is_over: bool = False
    took_s: float = 0.0


class _Ends:
    """Both ends of a call, each writing down what leaves there."""

    def __init__(self, run: _Run) -> None:
        self.top, self.bottom = _Top(run), _Bottom(run)


class _Top:
    def __init__(self, run: _Run) -> None:
        self._run = run

    @on(UrgentUp)
    def keep(self, frame: UrgentUp) -> None:
        self._run.left.append((_now_ns(), frame))

    @on(Interrupt)
    def keep_cut(self, frame: Interrupt) -> None:
        self._run.left.append((_now_ns(), frame))


class _Bottom:
    def __init__(self, run: _Run) -> None:
        self._run = run

    @on(Ordered, UrgentDown)
    def keep(self, frame: Ordered | UrgentDown) -> None:
        self._run.left.append((_now_ns(), frame))

    @on(End)
    def keep_end(self, frame: End) -> None:
        self._run.left.append((_now_ns(), frame))


def _now_ns() -> int:
    return round(anyio.current_time() * 1e9)


def _pipeline(subject: _Subject, run: _Run, processor: object | None = None) -> Pipeline:
    ends = _Ends(run)
    stage = subject.factory() if processor is None else processor
    return Pipeline(ends.top, stage, ends.bottom, accepts=(*subject.handled(), *_STRANGERS))


def _play_all(subject: _Subject, steps: Sequence[Step]) -> _Run:
    """A call from its beginning to its end."""
    run = _Run()
    pipeline = _pipeline(subject, run)

    async def call() -> None:
        with anyio.CancelScope() as scope:
            async with pipeline:
                await play(pipeline, steps)
                scope.deadline = anyio.current_time() + _ENDS_WITHIN_S
        run.is_over = not scope.cancelled_caught

    subject.run(call)
    statistics = pipeline.statistics()
    run.turns_cut = statistics.turns_cut
    run.dropped = dict(statistics.stages[1].dropped)
    return run


# --- the clauses ----------------------------------------------------------------------------------

_Steps: TypeAlias = tuple[Step, ...]


class _Broken(Exception):  # noqa: N818 it never leaves this module
    """A clause is not kept; says in words how."""


def _order(subject: _Subject, steps: _Steps) -> None:
    last: dict[object, Frame] = {}
    for frame in _known(_play_all(subject, steps)):
        if not isinstance(frame, Ordered):
            continue
        lane = "all" if subject.is_kept_in_order(type(frame)) else type(frame)
        before = last.get(lane)
        if before is not None and frame.at_ns < before.at_ns:
            raise _Broken(f"{written(before)} left before {written(frame)}, and came after it")
        last[lane] = frame


def _account(subject: _Subject, steps: _Steps) -> None:
    run = _play_all(subject, steps)
    counts = Counter((type(frame), frame.at_ns) for frame in _known(run))
    for step in _frames_of(steps):
        n_left = counts[type(step), step.at_ns]
        if n_left > 1 and not isinstance(step, subject.repeats):
            raise _Broken(
                f"{written(step)} came once and left {n_left} times; if that is meant, say "
                f"repeats=({type(step).__name__},)"
            )
        may_be_cut = isinstance(step, Interruptible) and step.turn <= run.turns_cut
        if n_left == 0 and not may_be_cut and subject.passes(type(step)):
            raise _Broken(
                f"{written(step)} came and never left; if that is meant, say "
                f"drops=({type(step).__name__},) or annotate the handler with what it returns"
            )


def _unknown(subject: _Subject, steps: _Steps) -> None:
    run = _play_all(subject, steps)
    for step in _frames_of(steps):
        if not isinstance(step, _STRANGERS):
            continue
        if isinstance(step, Piece) and step.turn <= run.turns_cut:
            continue
        n_left = sum(frame is step for _, frame in run.left)
        if n_left != 1:
            raise _Broken(
                f"{written(step)}, of a type that nobody knows, left {n_left} times; a handler "
                "for a base class must return the frame itself"
            )


def _interrupt(subject: _Subject, steps: _Steps) -> None:
    marker = Note(n=-1, at_ns=_TAG_NS - 1)
    run = _play_all(subject, (*steps, Wait(1), Interrupt(), marker))
    cut_at_ns, is_cut, cut_tags = 0, False, _cut_tags(steps, run)
    for at_ns, frame in run.left:
        if isinstance(frame, Interrupt):
            cut_at_ns, is_cut = at_ns, True
        elif frame is marker and at_ns - cut_at_ns > subject.grace_ns:
            raise _Broken(
                f"what followed the cut left {(at_ns - cut_at_ns) / 1e6:g} ms after it: a handler "
                "goes on with a frame of the cut turn"
            )
        elif is_cut and not subject.revives and frame.at_ns in cut_tags:
            raise _Broken(
                f"{written(frame)} left after the cut of its turn; if a turn may come back, "
                "say revives=True"
            )
    if run.dropped.get("stale") and not subject.revives:
        raise _Broken(
            f"it emitted {run.dropped['stale']} frames of a turn that was cut: handle Interrupt "
            "and empty what it holds"
        )


def _cut_tags(steps: _Steps, run: _Run) -> set[int]:
    return {
        step.at_ns
        for step in _frames_of(steps)
        if isinstance(step, Interruptible) and step.turn <= run.turns_cut
    }


def _end(subject: _Subject, steps: _Steps) -> None:
    run = _play_all(subject, steps)
    if not run.is_over:
        raise _Broken(
            f"{_ENDS_WITHIN_S:g} s after the end it still ran; return from run when End was seen"
        )
    n_late = run.dropped.get("after end", 0)
    if n_late:
        raise _Broken(f"it emitted {n_late} frames after the end")


def _cancel(subject: _Subject, steps: _Steps) -> None:
    run = _Run()
    pipeline = _pipeline(subject, run)
    threads = set(threading.enumerate())
    left_over: list[str] = []

    async def call() -> None:
        n_tasks = len(asyncio.all_tasks()) if subject.backend == "asyncio" else 0
        with anyio.CancelScope() as scope:
            async with pipeline:
                await play(pipeline, steps)
                run.took_s = -anyio.current_time()
                scope.cancel()
                await anyio.lowlevel.checkpoint()
        run.took_s += anyio.current_time()
        if subject.backend == "asyncio":
            left_over.extend(["a task"] * (len(asyncio.all_tasks()) - n_tasks))

    subject.run(call)
    left_over += [f"the thread {t.name}" for t in set(threading.enumerate()) - threads]
    if run.took_s > _CLEANS_UP_WITHIN_S:
        raise _Broken(f"it was cancelled and went on for {run.took_s:g} s")
    if left_over:
        raise _Broken(f"it was cancelled and left {', '.join(left_over)}")


def _blocking(subject: _Subject, steps: _Steps) -> None:
    with listening(subject.codes()) as calls:
        _play_all(subject, steps)
    if calls:
        raise _Broken(f"{calls[0]}: every call in the process stands still meanwhile")


def _growth(subject: _Subject, steps: _Steps) -> None:
    frames_ = _frames_of(steps)
    if not frames_:
        return
    processor = subject.factory()
    run = _Run()
    pipeline = _pipeline(subject, run, processor)
    sizes: list[dict[str, int]] = []
    n_block = max(_GROWTH_FRAMES, subject.holds_frames)

    async def call() -> None:
        with anyio.CancelScope() as scope:
            async with pipeline:
                for block in range(3):
                    await play(pipeline, _block(frames_, block * n_block, n_block))
                    run.left.clear()
                    sizes.append(held.sizes(processor))
                scope.cancel()
                await anyio.lowlevel.checkpoint()

    subject.run(call)
    for name in sizes[2]:
        first = sizes[1].get(name, 0) - sizes[0].get(name, 0)
        then = sizes[2][name] - sizes[1].get(name, 0)
        if min(first, then) >= _GROWTH_BYTES * n_block:
            raise _Broken(
                f"its attribute {name} grew by {then / n_block:.0f} bytes with each frame; if it "
                f"is bounded, say how many frames it may hold: holds_frames=…"
            )


_GROWTH_FRAMES: Final = 120
_GROWTH_BYTES: Final = 4
"""Half a reference for each frame: less than any list keeps."""


def _block(frames_: Sequence[Frame], first: int, n: int) -> tuple[Step, ...]:
    """Frames over and over, 20 ms apart; ten make a turn, and every fortieth is cut before."""
    made: list[Step] = []
    for number in range(first, first + n):
        frame = frames_[number % len(frames_)]
        turn = number // 10 + 1
        if isinstance(frame, Interruptible):
            frame = evolve(frame, turn=turn)
        if number % 40 == 39:
            made.append(Interrupt())
        made += [frame, Wait(20)]
    return laid_out(made)


_CLAUSES: Final[dict[Clause, Callable[[_Subject, _Steps], None]]] = {
    Clause.UNKNOWN: _unknown,
    Clause.ACCOUNT: _account,
    Clause.ORDER: _order,
    Clause.INTERRUPT: _interrupt,
    Clause.END: _end,
    Clause.CANCEL: _cancel,
    Clause.BLOCKING: _blocking,
    Clause.GROWTH: _growth,
}


def _known(run: _Run) -> Iterator[Frame]:
    """What left of what came in, in order."""
    return (frame for _, frame in run.left if frame.at_ns >= _TAG_NS)


def _frames_of(steps: Sequence[Step]) -> list[Frame]:
    return [s for s in steps if isinstance(s, Frame) and not isinstance(s, Interrupt)]


# --- the check ------------------------------------------------------------------------------------


def check_processor(
    factory: Factory,
    *,
    frames: st.SearchStrategy[Frame] | None = None,
    drops: tuple[type[Frame], ...] = (),
    repeats: tuple[type[Frame], ...] = (),
    delays: tuple[type[Frame], ...] = (),
    revives: bool = False,
    holds_frames: int = 0,
    without: Collection[Clause] = (),
    max_examples: int = 40,
    backend: Backend = "asyncio",
    real_time: bool = False,
    seed: int | None = None,
) -> None:
    """Check that a processor keeps every clause.

    Args:
        factory: Makes a fresh one.
        frames: What it is given besides frames that nobody knows; by default all types that it
            has handlers for. Narrow it if it is right to raise on some.
        drops: Types that it may lose although its annotations do not say so.
        repeats: Types of which one frame may leave as several.
        delays: Types that it may let others overtake.
        revives: Audio of a cut turn may come back, in a turn that is not cut.
        holds_frames: How many frames it may hold on purpose; a ring must be full before one can
            see that it grows no more.
        without: Clauses that are not checked.
        max_examples: Random calls for each clause.
        backend: "asyncio", on which a seed is the same every time, or "trio".
        real_time: For one that uses threads or sockets, which virtual time has no place for.
        seed: Other random calls; by default the same in every run.

    Raises:
        ConformanceError: A clause is not kept; the message says how, with the shortest call found
            that shows it.
        ProcessorError: It raised, on the shortest call found.
    """
    subject = _Subject(factory, drops, repeats, delays, revives, holds_frames, backend, real_time)
    for clause, check in _CLAUSES.items():
        if clause not in without:
            _run_clause(subject, clause, check, frames, max_examples, seed)


def _run_clause(
    subject: _Subject,
    clause: Clause,
    check: Callable[[_Subject, _Steps], None],
    given_frames: st.SearchStrategy[Frame] | None,
    max_examples: int,
    seed_number: int | None,
) -> None:
    n_examples = min(max_examples, 2) if clause is Clause.GROWTH else max_examples

    def one_call(steps: _Steps) -> None:
        tagged = tuple(
            evolve(step, at_ns=_TAG_NS + n) if isinstance(step, Frame) else step
            for n, step in enumerate(steps)
        )
        try:
            check(subject, tagged)
        except _Broken as broken:
            raise ConformanceError(
                _report(subject, clause, str(broken), steps), clause, steps
            ) from None
        except VirtualTimeError as error:
            raise ConformanceError(
                _report(subject, clause, str(error), steps), clause, steps
            ) from error
        except ProcessorError as error:
            error.add_note(_report(subject, clause, "it raised", steps))
            raise

    one_call.__name__ = f"{subject.name}_{clause.value}"
    test = given(_calls(subject, clause, given_frames))(one_call)
    if seed_number is not None:
        test = seeded(seed_number)(test)
    settings(
        max_examples=n_examples,
        deadline=None,
        database=None,
        derandomize=seed_number is None,
        suppress_health_check=_SLOW,
        # A long call of few frames is as short as it needs to be.
        phases=[Phase.generate] if clause is Clause.GROWTH else [Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
    )(test)()


def _calls(
    subject: _Subject, clause: Clause, given_frames: st.SearchStrategy[Frame] | None
) -> st.SearchStrategy[_Steps]:
    handled = tuple(dict.fromkeys(subject.handled()))
    pieces = tuple(kind for kind in handled if issubclass(kind, Interruptible))
    piece = st.builds(Piece, turn=_TURNS)
    strangers = st.one_of([st.builds(Note, n=_DIGITS), piece])
    of_turns = frames(*pieces) if pieces else piece
    if given_frames is not None:
        if pieces:
            of_turns = given_frames.filter(lambda frame: isinstance(frame, Interruptible))
    else:
        given_frames = frames(*handled) if handled else strangers
    others = [strangers, st.builds(Nod, n=_DIGITS), st.builds(Call, n=_DIGITS)]
    waits = st.builds(Wait, st.integers(0, 50))
    choices: list[st.SearchStrategy[Step]]
    if clause is Clause.INTERRUPT:
        choices = [of_turns, waits]
    else:
        choices = [given_frames, *others, waits, st.builds(Interrupt)]
    calls = (
        st.lists(given_frames, min_size=1, max_size=2)
        if clause is Clause.GROWTH
        else st.lists(st.one_of(choices), max_size=_MAX_STEPS)
    )
    return calls.map(laid_out)


_MAX_STEPS: Final = 8
_SLOW: Final = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
_DIGITS: Final = st.integers(0, 9)
_TURNS: Final = st.integers(1, 3)


def _report(subject: _Subject, clause: Clause, how: str, steps: _Steps) -> str:
    lines = [f"{subject.name} does not keep the clause {clause.value!r}: {how}"]
    lines.append("the shortest call that shows it:")
    lines += [f"    {written(step)}," for step in steps] or ["    (no frame at all)"]
    return "\n".join(lines)
