"""One property for each of the promises G1 to G9 (docs: what the engine promises)."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias

import anyio
import anyio.lowlevel
import pytest
from attrs import evolve, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from framepipe import (
    AudioIn,
    Emit,
    EmitError,
    End,
    Fork,
    Frame,
    Interrupt,
    MailboxFull,
    Ordered,
    Pipeline,
    ProcessorError,
    on,
    supervised,
)
from framepipe.engine import Engine
from framepipe.graph import flatten
from framepipe.runner import running
from framepipe.testing import run_virtual
from tests.engine.kit import Call, Nod, Note, Other, Piece, Plain, Sink, Slow
from tests.examples import about

numbers = st.lists(st.integers(0, 99), max_size=20)


# --- G1 order ---------------------------------------------------------------------------------

Making: TypeAlias = Callable[[Note], "list[Frame]"]

MAKES: dict[str, Making] = {
    "same": lambda frame: [frame],
    "twice": lambda frame: [Note(n=2 * frame.n), Note(n=2 * frame.n + 1)],
    "even": lambda frame: [frame] if frame.n % 2 == 0 else [],
    "urgent before": lambda frame: [Call(n=frame.n), Nod(n=frame.n), frame],
    "urgent after": lambda frame: [frame, Nod(n=frame.n), Call(n=frame.n)],
}


class Makes:
    """Makes frames of a note, inline."""

    def __init__(self, make: Making) -> None:
        self.make = make

    @on(Note)
    def handle(self, frame: Note) -> list[Frame] | Frame | None:
        made = self.make(frame)
        return made if len(made) > 1 else made[0] if made else None


class Waits:
    """The same as `Plain`, in a task of its own."""

    def __init__(self, make: Making, delay_s: float, capacity: int) -> None:
        self.make = make
        self.delay_s = delay_s
        self.mailbox_capacity = capacity

    @on(Note)
    async def handle(self, frame: Note) -> list[Frame]:
        await anyio.sleep(self.delay_s)
        return self.make(frame)


class Passers:
    """Sees ordered frames, and lets them on."""

    def __init__(self) -> None:
        self.got: list[Frame] = []

    @on(Note)
    def see(self, frame: Note) -> Note:
        self.got.append(frame)
        return frame


@frozen
class Part:
    make: str
    delay_s: float | None
    capacity: int

    def build(self) -> object:
        make = MAKES[self.make]
        if self.delay_s is None:
            return Makes(make)
        return Waits(make, self.delay_s, self.capacity)


parts = st.builds(
    Part,
    st.sampled_from(sorted(MAKES)),
    st.none() | st.sampled_from([0.0, 0.001, 0.01]),
    st.sampled_from([1, 3, 256]),
)


@given(row=st.lists(parts, min_size=1, max_size=6), sent=numbers)
def test_g1_ordered_frames_reach_each_stage_once_each_in_the_order_they_were_emitted(
    row: list[Part], sent: list[int]
) -> None:
    watchers = [Passers() for _ in row]
    pipeline = Pipeline(
        *(x for part, w in zip(row, watchers, strict=True) for x in (part.build(), w))
    )

    async def go() -> None:
        async with pipeline:
            for n in sent:
                await pipeline.room()
                pipeline.emit(Note(n=n))

    run_virtual(go)
    expected = [Note(n=n) for n in sent]
    for part, watcher in zip(row, watchers, strict=True):
        made = [frame for note in expected for frame in MAKES[part.make](note)]
        expected = [frame for frame in made if isinstance(frame, Note)]
        assert watcher.got == expected


# --- G2 urgent first --------------------------------------------------------------------------


class Ears(Passers):
    def __init__(self, story: list[tuple[int, Frame]], place: int) -> None:
        super().__init__()
        self.story = story
        self.place = place

    @on(Nod, Call)
    def hear(self, frame: Nod | Call) -> Frame:
        self.story.append((self.place, frame))
        return frame

    @on(Note)
    def see(self, frame: Note) -> Note:
        self.story.append((self.place, frame))
        return frame


@given(
    row=st.lists(parts.filter(lambda p: "urgent" not in p.make), min_size=1, max_size=6),
    sent=numbers,
    wait_s=st.sampled_from([0.0, 0.001, 0.015]),
    urgent=st.sampled_from([Nod(n=7), Call(n=7)]),
)
def test_g2_when_emit_returns_every_stage_on_the_way_has_handled_an_urgent_frame(
    row: list[Part], sent: list[int], wait_s: float, urgent: Frame
) -> None:
    story: list[tuple[int, Frame]] = []
    ears = [Ears(story, place) for place in range(len(row))]
    pipeline = Pipeline(*(x for part, e in zip(row, ears, strict=True) for x in (part.build(), e)))

    async def go() -> None:
        async with pipeline:
            for n in sent:
                with anyio.move_on_after(0.05):
                    await pipeline.room()
                    pipeline.emit(Note(n=n))
            await anyio.sleep(wait_s)
            story.clear()
            pipeline.emit(urgent)
            way = [(place, urgent) for place in range(len(row))]
            assert story == (way if isinstance(urgent, Nod) else way[::-1])

    run_virtual(go)


# --- G3 the cut is atomic ---------------------------------------------------------------------


class Told:
    """Is told of cuts, and swears that nothing of a cut turn comes after one."""

    def __init__(self, told: list[int], place: int, adds: bool) -> None:
        self.told = told
        self.place = place
        self.adds = adds
        self.cut_turn = 0

    @on(Interrupt)
    def cut(self, frame: Interrupt) -> Interrupt | None:
        self.told.append(self.place)
        self.cut_turn = frame.turn or 0
        return evolve(frame, turn=99, mute_point=self.place) if self.adds else None

    @on(Piece)
    def piece(self, frame: Piece) -> Piece:
        assert frame.turn > self.cut_turn
        return frame


@given(
    delays=st.lists(st.none() | st.sampled_from([0.0, 0.001, 0.01]), min_size=1, max_size=5),
    adds=st.lists(st.booleans(), min_size=5, max_size=5),
    turns=st.lists(st.booleans(), min_size=1, max_size=30),
    cut_after_s=st.sampled_from([0.0, 0.001, 0.012, 0.025]),
    by_a_stage=st.booleans(),
    back=st.integers(0, 2),
)
def test_g3_a_cut_is_told_once_last_to_first_and_nothing_of_it_comes_after(
    delays: list[float | None],
    adds: list[bool],
    turns: list[bool],
    cut_after_s: float,
    by_a_stage: bool,
    back: int,
) -> None:
    told: list[int] = []
    row: list[object] = []
    for place, delay_s in enumerate(delays):
        row.append(Plain(lambda f: f) if delay_s is None else Slow(delay_s))
        row.append(Told(told, place, adds[place]))

    class Button:
        def attach(self, emit: Emit[Frame]) -> None:
            self.emit = emit

        @on(Nod)
        def nod(self, frame: Nod) -> Interrupt:
            return Interrupt(turn=frame.n)

    sink = Sink()
    pipeline = Pipeline(*row[:2], Button(), *row[2:], sink)

    async def go() -> int:
        async with pipeline:
            newest = pipeline.new_turn()
            for opens in turns:
                if opens:
                    newest = pipeline.new_turn()
                pipeline.emit(Piece(turn=newest))
            await anyio.sleep(cut_after_s)
            cut = max(1, newest - back)
            if by_a_stage:
                pipeline.emit(Nod(n=cut))
            else:
                answer = pipeline.interrupt(turn=cut)
                assert answer.turn == cut
                adders = [place for place in range(len(delays)) if adds[place]]
                assert answer.mute_point == (adders[0] if adders else None)
            assert told == list(range(len(delays)))[::-1]
            assert pipeline.statistics().turns_cut == cut
            for stage in pipeline.statistics().stages:
                assert stage.mailbox is None or stage.mailbox.depth <= sum(turns) + len(turns)
            return cut

    cut = run_virtual(go)
    place = next(i for i, frame in enumerate(sink.got) if isinstance(frame, Interrupt))
    after = [frame for frame in sink.got[place:] if isinstance(frame, Piece)]
    assert all(frame.turn > cut for frame in after)


# --- G4 no stale audio ------------------------------------------------------------------------


@given(
    steps=st.lists(
        st.sampled_from(["open", "cut", "cut one back"]) | st.integers(-1, 6), max_size=30
    ),
    queued=st.booleans(),
)
def test_g4_a_frame_is_delivered_dropped_or_refused_by_its_turn_alone(
    steps: list[str | int], queued: bool
) -> None:
    sink = Sink()
    pipeline = Pipeline(Slow() if queued else Plain(lambda f: f), sink)
    opened = cut = n_stale = 0
    delivered: list[Frame] = []

    async def go() -> None:
        nonlocal opened, cut, n_stale
        async with pipeline:
            for step in steps:
                if step == "open":
                    opened += 1
                    assert pipeline.new_turn() == opened
                elif isinstance(step, str):
                    turn = opened if step == "cut" else max(0, opened - 1)
                    pipeline.interrupt(turn=turn)
                    cut = max(cut, turn)
                elif 1 <= step <= opened:
                    pipeline.emit(Piece(turn=step))
                    await anyio.sleep(0.001)
                    n_stale += step <= cut
                    delivered.extend([Piece(turn=step)] if step > cut else [])
                else:
                    with pytest.raises(EmitError, match="never opened"):
                        pipeline.emit(Piece(turn=step))

    run_virtual(go)
    assert [frame for frame in sink.got if isinstance(frame, Piece)] == delivered
    assert (pipeline.statistics().turns_opened, pipeline.statistics().turns_cut) == (opened, cut)
    engine: Any = pipeline._engine  # pyright: ignore[reportPrivateUsage]
    assert engine.graph.head.dropped["stale"] == n_stale


# --- G5 bounded -------------------------------------------------------------------------------


@given(
    fan_out=st.integers(0, 3),
    capacity=st.integers(1, 5),
    steps=st.lists(st.sampled_from(["note", "audio", "piece", "cut", "wait"]), max_size=40),
)
def test_g5_a_mailbox_holds_its_capacity_and_what_one_frame_becomes_at_most(
    record_property: Callable[[str, object], None], fan_out: int, capacity: int, steps: list[str]
) -> None:
    class Fan:
        @on(Ordered)
        def fan(self, frame: Ordered) -> list[Frame]:
            return [frame] * fan_out

    class Reader:
        mailbox_capacity = capacity

        def __init__(self) -> None:
            self.got: list[Frame] = []

        @on(Note, AudioIn, Piece)
        async def read(self, frame: Note | AudioIn | Piece) -> None:
            self.got.append(frame)
            await anyio.sleep(1)

    reader = Reader()
    pipeline = Pipeline(Fan(), reader)
    waiting: list[Frame] = []  # the model of the mailbox

    async def go() -> None:
        async with pipeline:
            turn = pipeline.new_turn()
            for n, step in enumerate(steps):
                is_full = len(waiting) >= capacity
                if step == "wait":
                    await anyio.sleep(0.9)
                    waiting[:] = waiting_in(pipeline)
                elif step == "cut":
                    pipeline.interrupt()
                    turn = pipeline.new_turn()
                    waiting[:] = [f for f in waiting if not isinstance(f, Piece)]
                elif step == "audio":
                    frame = AudioIn(pcm=b"", rate_hz=1, start_sample=n)
                    pipeline.emit(frame)
                    sheddable = [f for f in waiting if isinstance(f, AudioIn)]
                    while len(waiting) >= capacity and sheddable:
                        waiting.remove(sheddable.pop(0))
                    if len(waiting) < capacity:
                        waiting.extend([frame] * fan_out)
                else:
                    made = Note(n=n) if step == "note" else Piece(turn=turn, n=n)
                    if is_full:
                        with pytest.raises(MailboxFull):
                            pipeline.emit(made)
                    else:
                        pipeline.emit(made)
                        waiting.extend([made] * fan_out)
                assert waiting_in(pipeline) == waiting
                mailbox = pipeline.statistics().stages[1].mailbox
                assert mailbox is not None
                record_property("frames over capacity", mailbox.peak - capacity - fan_out)
                assert mailbox.depth == len(waiting) <= mailbox.peak <= capacity + fan_out

    run_virtual(go)


def waiting_in(pipeline: Pipeline) -> list[Frame]:
    """What waits before the last stage and is not cut."""
    engine: Any = pipeline._engine  # pyright: ignore[reportPrivateUsage]
    frames = engine.graph.nodes[-1].mailbox._frames
    return [f for f in frames if not engine.is_stale(f)]


# --- G6 end -----------------------------------------------------------------------------------


class Living:
    """A stage with a life of its own, and no ears for the end."""

    def __init__(self, lasts_s: float) -> None:
        self.lasts_s = lasts_s
        self.is_alive = False

    @on(Interrupt)
    def cut(self, frame: Interrupt) -> None: ...

    async def run(self, emit: Emit[Other]) -> None:
        self.is_alive = True
        try:
            await anyio.sleep(self.lasts_s)
            emit(Other())
        finally:
            self.is_alive = False


class LivingToTheEnd(Living):
    """One that is told of the end, and takes its time."""

    @on(End)
    def end(self, frame: End) -> None: ...


@given(
    kinds=st.lists(st.sampled_from(["plain", "slow", "living", "to the end"]), max_size=5),
    lasts_s=st.lists(st.sampled_from([0.0, 0.5, 3.0]), min_size=5, max_size=5),
    sent=st.integers(0, 5),
    forks=st.booleans(),
    ends_by=st.sampled_from(["leaving", "stop", "an error", "cancellation"]),
    after_s=st.sampled_from([0.0, 0.2, 1.0]),
)
def test_g6_the_end_comes_once_after_everything_and_nothing_outlives_the_run(
    kinds: list[str],
    lasts_s: list[float],
    sent: int,
    forks: bool,
    ends_by: Literal["leaving", "stop", "an error", "cancellation"],
    after_s: float,
) -> None:
    makers: dict[str, Any] = {"living": Living, "to the end": LivingToTheEnd}
    row: list[object] = [
        makers[kind](lasts)
        if kind in makers
        else Slow(lasts)
        if kind == "slow"
        else Plain(lambda f: f)
        for kind, lasts in zip(kinds, lasts_s, strict=False)
    ]
    if forks and len(row) >= 2:
        row[-2:] = [Fork(row[-2], row[-1], keep=(Note,))]
    sink = Sink()
    pipeline = Pipeline(Plain(lambda f: f), *row, sink)

    async def go() -> None:
        try:
            with anyio.CancelScope() as scope:
                async with pipeline:
                    for n in range(sent):
                        pipeline.emit(Note(n=n))
                    await anyio.sleep(after_s)
                    if ends_by == "stop":
                        pipeline.stop()
                    elif ends_by == "an error":
                        raise LookupError
                    elif ends_by == "cancellation":
                        scope.cancel()
                        await anyio.lowlevel.checkpoint()
        except LookupError:
            pass
        assert len(asyncio.all_tasks()) == 1

    run_virtual(go)
    ordered = [frame for frame in sink.got if isinstance(frame, Note)]
    if ends_by in ("leaving", "stop"):
        copies = 2 if forks and len(kinds) >= 2 else 1
        assert len(ordered) == copies * sent
        assert sink.got[-1] == End()
        assert sink.got.count(End()) == 1
    else:
        assert End() not in sink.got
    for stage in row:
        if isinstance(stage, Living):
            assert not stage.is_alive


# --- G7 failure -------------------------------------------------------------------------------


@given(
    sent=st.lists(st.booleans(), max_size=12),
    restarts=st.integers(0, 4),
    yields_first=st.booleans(),
    colour=st.sampled_from(["plain", "async"]),
    place=st.integers(0, 2),
)
def test_g7_a_failing_stage_goes_on_as_often_as_it_may_and_then_ends_the_run(
    sent: list[bool], restarts: int, yields_first: bool, colour: str, place: int
) -> None:
    # True fails.
    class Fragile:
        @on(Note)
        def handle(self, frame: Note) -> Iterator[Frame]:
            if yields_first:
                yield Other(n=frame.n)
            if sent[frame.n]:
                raise ValueError(frame.n)
            yield frame

    class FragileAsync:
        @on(Note)
        async def handle(self, frame: Note) -> Any:
            if yields_first:
                yield Other(n=frame.n)
            await anyio.sleep(0.01)
            if sent[frame.n]:
                raise ValueError(frame.n)
            yield frame

    fragile = Fragile() if colour == "plain" else FragileAsync()
    row: list[object] = [Plain(lambda f: f), Slow(0.001)]
    row.insert(place, supervised(fragile, restarts))
    sink = Sink()
    pipeline = Pipeline(*row, sink)
    fatal = next((n for n, bad in enumerate(sent) if bad and sum(sent[:n]) == restarts), None)

    async def go() -> None:
        async with pipeline:
            for n in range(len(sent)):
                pipeline.emit(Note(n=n))
            await anyio.sleep(5)

    if fatal is None:
        run_virtual(go)
        expected: list[Frame] = []
        for n, bad in enumerate(sent):
            expected += [Other(n=n)] * yields_first + [Note(n=n)] * (not bad)
        assert sink.got == [*expected, End()]
        own = next(s for s in pipeline.statistics().stages if s.name.startswith("Fragile"))
        assert (own.restarts, own.dropped.get("failed", 0)) == (sum(sent), sum(sent))
    else:
        with pytest.raises(ProcessorError) as caught:
            run_virtual(go)
        assert caught.value.stage == type(fragile).__name__
        assert caught.value.frame == Note(n=fatal)
        assert isinstance(caught.value.__cause__, ValueError)


# --- G8 time ----------------------------------------------------------------------------------


@given(
    row=st.lists(parts, min_size=1, max_size=5),
    every_ms=st.sampled_from([0, 1, 10]),
    cuts_ms=st.lists(st.integers(0, 20), max_size=3),
)
def test_g8_the_same_run_in_virtual_time_is_the_same_event_for_event(
    row: list[Part], every_ms: int, cuts_ms: list[int]
) -> None:
    class Source:
        async def run(self, emit: Emit[Frame]) -> None:
            turn = emit.new_turn()
            for n in range(8):
                await emit.until(n * every_ms * 1_000_000)
                await emit.room()
                emit(Note(n=n))
                if emit.is_cut(turn):
                    turn = emit.new_turn()
                await emit.room()
                emit(Piece(turn=turn, n=n))

    def once() -> list[tuple[str, str, Frame, float]]:
        pipeline = Pipeline(Source(), *(part.build() for part in row), Slow(0.001), Sink())
        story: list[tuple[str, str, Frame, float]] = []

        def look(what: str, stage: str, frame: Frame) -> None:
            story.append((what, stage, frame, anyio.current_time()))

        pipeline.observe(look)

        async def cutting() -> None:
            for cut_ms in cuts_ms:
                await anyio.sleep(cut_ms / 1000)
                pipeline.interrupt()

        async def go() -> None:
            async with pipeline, anyio.create_task_group() as tasks:
                tasks.start_soon(cutting)

        run_virtual(go)
        return story

    first = once()
    assert first == once()
    assert len(first) >= 8


# --- G9 cost ----------------------------------------------------------------------------------


@given(hops=st.integers(1, 8), n_types=st.integers(1, 2), observers=st.integers(0, 2))
def test_g9_without_an_observer_the_tables_hold_the_bare_handlers(
    hops: int, n_types: int, observers: int
) -> None:
    stages = [Passers() for _ in range(hops)]
    engine = Engine(flatten(stages))
    detach = [engine.observe(lambda what, stage, frame: None) for _ in range(observers)]
    frames = [Note(), Other()][:n_types]
    for frame in frames:
        engine.emit(engine.graph.head, frame)
    places = [engine.graph.head, *engine.graph.nodes][:hops]
    for place, stage in zip(places, stages, strict=True):
        assert (place.table[Note][0] == stage.see) == (observers == 0)
    for undo in detach:
        undo()
    for frame in frames:
        engine.emit(engine.graph.head, frame)
    for place, stage in zip(places, stages, strict=True):
        assert place.table[Note][0] == stage.see
        assert len(place.table) <= n_types


@given(hops=st.integers(1, 30))
def test_g9_a_frame_visits_only_stages_that_want_it(hops: int) -> None:
    uninterested = [Plain(lambda f: f) for _ in range(hops)]
    last = Ears([], 0)
    engine = Engine(flatten((*uninterested, last)))

    class Rare(Ordered): ...

    assert engine.graph.head.table == {}
    engine.emit(engine.graph.head, Nod())
    [(node, function)] = engine.graph.head.urgent[Nod]
    assert (node.name, function) == ("Ears", last.hear)
    engine.emit(engine.graph.head, Rare())
    assert all(not node.table for node in engine.graph.nodes)


@given(capacity=st.integers(1, 8), per_turn=st.integers(1, 8), turns=st.integers(150, 200))
@settings(max_examples=about(10))
def test_g9_memory_does_not_grow_with_the_length_of_a_call(
    record_property: Callable[[str, object], None], capacity: int, per_turn: int, turns: int
) -> None:
    class Sleeper:
        """Is woken by each cut, long before its time."""

        @on(Interrupt)
        def cut(self, frame: Interrupt) -> None: ...

        async def run(self, emit: Emit[Frame]) -> None:
            while True:
                await emit.until(10**15)

    engine = Engine(flatten((Sleeper(), Plain(lambda f: f), Slow(10**6, capacity))))
    slow = engine.graph.nodes[-1]
    assert slow.mailbox is not None

    async def go() -> None:
        with anyio.CancelScope() as scope:
            async with running(engine):
                engine.emit(engine.graph.head, Note())
                await anyio.lowlevel.checkpoint()
                await anyio.sleep(0.001)
                for _ in range(turns):
                    turn = engine.new_turn()
                    for n in range(min(per_turn, capacity)):
                        engine.emit(engine.graph.head, Piece(turn=turn, n=n))
                    engine.interrupt(Interrupt())
                    await anyio.sleep(0.001)
                sizes = sizes_of(engine)
                record_property("timers after 200 turns", sizes["clock"])
                assert sizes["frames"] <= 3 * capacity + 1
                assert sizes["turns"] == 0
                assert sizes["clock"] <= 2 * 64 + 2
                assert sizes["agenda"] == sizes["waiters"] == 0
                assert sizes["sleepers"] == 1
                assert sizes["tables"] <= 12
                scope.cancel()
                await anyio.lowlevel.checkpoint()

    run_virtual(go)


def sizes_of(engine: Engine) -> dict[str, int]:
    """Everything in a running engine that could grow."""
    from framepipe.clock import shared_clock

    inside: Any = engine
    clock: Any = shared_clock()
    boxes: list[Any] = [node.mailbox for node in engine.graph.nodes if node.mailbox is not None]
    places = [*engine.graph.nodes, engine.graph.head, engine.graph.tail]
    return {
        "frames": sum(len(box._frames) for box in boxes),
        "turns": sum(len(box._live_by_turn) for box in boxes),
        "waiters": sum(len(box.room_waiters) for box in boxes),
        "agenda": len(inside._urgent) + len(inside._ordered),
        "clock": len(clock._heap),
        "sleepers": sum(len(node.sleepers) for node in engine.graph.nodes),
        "tables": sum(len(place.table) + len(place.urgent) for place in places),
    }
