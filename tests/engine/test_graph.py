"""DESIGN section 4: the graph, what it draws, and what it refuses before it starts."""

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import anyio
import anyio.lowlevel
import pytest

from framepipe import (
    AudioIn,
    AudioOut,
    Emit,
    End,
    Fork,
    Frame,
    Interrupt,
    Mute,
    Ordered,
    Pipeline,
    Played,
    WiringError,
    lossy,
    on,
    supervised,
)
from framepipe.graph import check, flatten
from tests.engine.kit import (
    Call,
    Nod,
    Note,
    Other,
    Piece,
    Plain,
    Sink,
    Slow,
    Ups,
    dropped,
    notes,
)


def same(frame: Frame) -> Frame:
    return frame


# --- Fork -------------------------------------------------------------------------------------


def test_every_frame_enters_every_branch_and_what_leaves_main_goes_on() -> None:
    sides, sink = [Sink(), Sink()], Sink()
    Pipeline(Fork(Plain(same), *sides), sink).step(Note(n=1))
    assert sink.got == sides[0].got == sides[1].got == notes(1)


def test_what_leaves_a_side_ends_there_unless_its_type_is_kept() -> None:
    def both(frame: Frame) -> Iterable[Frame]:
        return [Note(n=2), Other(n=3), Nod(n=4)]

    sink = Sink()
    Pipeline(Fork(Plain(lambda _: None), Plain(both)), sink).step(Note(n=1))
    assert sink.got == []
    Pipeline(Fork(Plain(lambda _: None), Plain(both), keep=(Other,)), sink).step(Note(n=1))
    assert sink.got == [Other(n=3)]
    Pipeline(Fork(Plain(lambda _: None), Plain(both), keep=(Nod, Note)), sink).step(Note(n=1))
    assert sink.got[1:] == [Nod(n=4), Note(n=2)]


def test_a_kept_base_class_keeps_all_below_it() -> None:
    sink = Sink()
    side = Plain(lambda _: [Note(n=2), Other(n=3)])
    Pipeline(Fork(Plain(lambda _: None), side, keep=(Ordered,)), sink).step(Note())
    assert sink.got == [Note(n=2), Other(n=3)]


def test_nested_forks_keep_what_both_keep() -> None:
    def make(_: Frame) -> Iterable[Frame]:
        return [Note(n=2), Other(n=3)]

    sink = Sink()
    inner = Pipeline(Fork(Plain(lambda _: None), Plain(make), keep=(Ordered,)))
    Pipeline(Fork(Plain(lambda _: None), inner, keep=(Other,)), sink).step(Note())
    assert sink.got == [Other(n=3)]


@pytest.mark.parametrize("keep", [(), (Other,)], ids=["nothing kept", "others kept"])
def test_upstream_frames_from_below_go_up_through_main_and_an_interrupt_reaches_all(
    keep: tuple[type[Frame], ...],
) -> None:
    above, main, side, below = Ups(), Sink(), Sink(), Sink()

    class Both:
        """Hears what comes up, and lets it pass."""

        def __init__(self) -> None:
            self.ups: list[Frame] = []

        @on(Call)
        def call(self, frame: Call) -> Call:
            self.ups.append(frame)
            return frame

    main_ups, side_ups = Both(), Both()
    fork = Fork(Pipeline(main_ups, main), Pipeline(side_ups, side), keep=keep)
    pipeline = Pipeline(above, fork, Plain(same), below)
    pipeline.step(Call(n=1))
    assert above.got == [Call(n=1)]
    assert main_ups.ups == [Call(n=1)]
    assert side_ups.ups == []
    pipeline.step(Interrupt())
    assert [s.got for s in (main, side, below)] == [[Interrupt(turn=0)]] * 3


def test_what_a_side_sends_up_goes_to_the_stage_before_the_fork() -> None:
    above = Ups()
    side = Plain(lambda _: Call(n=2))
    Pipeline(above, Fork(Plain(same), side)).step(Note())
    assert above.got == [Call(n=2)]


def test_a_branch_may_be_the_first_or_the_last_of_a_pipeline() -> None:
    one, two = Sink(), Sink()
    pipeline = Pipeline(Fork(one, two))
    pipeline.step(Note(n=1))
    pipeline.step(End())
    assert one.got == two.got == [Note(n=1), End()]


@pytest.mark.anyio
async def test_a_full_branch_makes_the_emitter_wait() -> None:
    fast, slow = Slow(0.0), Slow(1.0, capacity=2)

    class Source:
        async def run(self, emit: Emit[Note]) -> None:
            for n in range(6):
                await emit.room()
                emit(Note(n=n))

    pipeline = Pipeline(Source(), Fork(fast, slow))
    with anyio.move_on_after(0.5):
        await pipeline.run()
    assert fast.began == notes(0, 1, 2)  # one in hand at the slow branch and two before it


@pytest.mark.anyio
async def test_a_lossy_branch_drops_its_oldest_counted_and_nobody_waits() -> None:
    fast, slow = Slow(0.0), Slow(1.0, capacity=2)
    pipeline = Pipeline(Fork(fast, lossy(slow)))
    async with pipeline:
        for n in range(6):
            await pipeline.room()
            pipeline.emit(Note(n=n))
            await anyio.lowlevel.checkpoint()
            await anyio.sleep(0.001)
    assert fast.finished == notes(0, 1, 2, 3, 4, 5)
    assert slow.finished == notes(0, 4, 5)
    assert dropped(pipeline, "Slow2") == {"lossy": 3}


@pytest.mark.anyio
async def test_only_the_first_mailbox_of_a_lossy_branch_drops() -> None:
    first, second = Slow(0.0, capacity=10), Slow(1.0, capacity=1)
    pipeline = Pipeline(Fork(Plain(same), lossy(Pipeline(Plain(same), first, second))))
    async with pipeline:
        for n in range(5):
            pipeline.emit(Note(n=n))
            await anyio.sleep(0.001)
    assert second.finished == notes(0, 1, 2, 3, 4)


@pytest.mark.anyio
async def test_a_lossy_branch_never_loses_the_end() -> None:
    slow = Slow(1.0, capacity=1)
    pipeline = Pipeline(Fork(Plain(same), lossy(slow)))
    async with pipeline:
        for n in range(5):
            pipeline.emit(Note(n=n))
    assert slow.finished == notes(4)


def test_a_fork_has_a_side() -> None:
    with pytest.raises(WiringError, match="leave the Fork out"):
        Fork(Sink())


def test_keep_takes_frame_classes() -> None:
    with pytest.raises(WiringError, match="it takes frame classes"):
        Fork(Sink(), Sink(), keep=("Note",))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_lossy_is_for_branches() -> None:
    with pytest.raises(WiringError, match="branch of a Fork"):
        Pipeline(lossy(Sink())).check()


def test_supervised_takes_one_stage() -> None:
    with pytest.raises(WiringError, match="supervise the stages inside"):
        Pipeline(supervised(Pipeline(Sink()))).check()


def test_what_leaves_a_fork_leaves_the_pipeline_and_what_a_side_drops_does_not() -> None:
    def both(frame: Frame) -> Iterable[Frame]:
        return [Note(n=2), Other(n=3), Nod(n=4)]

    pipeline = Pipeline(Fork(Ups(), Plain(both), keep=(Other,)))
    assert pipeline.step(Note(n=1)) == [Note(n=1), Other(n=3)]
    assert pipeline.step(Nod(n=5)) == [Nod(n=5)]


# --- nesting ----------------------------------------------------------------------------------


def test_a_nested_pipeline_is_grouping() -> None:
    flat = Pipeline(Plain(lambda f: [f, f]), Plain(same), Sink())
    nested = Pipeline(Pipeline(Plain(lambda f: [f, f]), Pipeline(Plain(same))), Sink())
    assert flat.step(Note()) == nested.step(Note())
    assert [s.name for s in flat.statistics().stages] == [
        s.name for s in nested.statistics().stages
    ]


@pytest.mark.anyio
async def test_a_nested_pipeline_has_statistics_of_its_own_and_one_line_of_turns() -> None:
    inner = Pipeline(Slow(), Plain(same))
    side = Pipeline(Slow())
    outer = Pipeline(Plain(same), Fork(inner, side), Sink())
    async with outer:
        turn = outer.new_turn()
        outer.emit(Piece(turn=turn))
        outer.interrupt()
    names = [[s.name for s in p.statistics().stages] for p in (outer, inner, side)]
    assert names == [["Plain", "Slow", "Plain2", "Slow2", "Sink"], ["Slow", "Plain2"], ["Slow2"]]
    for pipeline in (outer, inner, side):
        assert (pipeline.statistics().turns_opened, pipeline.statistics().turns_cut) == (1, 1)
    assert dict(inner.statistics().stages[0].dropped) == {"cut": 1}
    assert dict(side.statistics().stages[0].dropped) == {"cut": 1}


def test_statistics_are_frozen_records() -> None:
    statistics = Pipeline(Slow(capacity=7)).statistics()
    mailbox = statistics.stages[0].mailbox
    assert mailbox is not None
    assert (mailbox.depth, mailbox.capacity, mailbox.peak) == (0, 7, 0)
    with pytest.raises(AttributeError):
        mailbox.depth = 1  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TypeError):
        mailbox.dropped["cut"] = 1  # type: ignore[index]  # pyright: ignore[reportIndexIssue]


def test_a_name_is_the_class_name_numbered_from_the_second_on() -> None:
    names = [s.name for s in Pipeline(Sink(), Plain(same), Sink(), Sink()).statistics().stages]
    assert names == ["Sink", "Plain", "Sink2", "Sink3"]


def test_a_pipeline_prints_itself() -> None:
    pipeline = Pipeline(
        Plain(same),
        Fork(Pipeline(Slow(), Plain(same)), lossy(Sink()), keep=(Note,)),
        supervised(Sink()),
    )
    text = str(pipeline)
    for part in ("Plain ─▶ ", "Slow ─▶ Plain", "lossy Sink", "keeping Note", "supervised Sink"):
        assert part in text
    assert text in repr(pipeline)
    assert "\n" not in text


# --- what is refused --------------------------------------------------------------------------


def test_a_stage_stands_in_a_graph_once() -> None:
    sink = Sink()
    for stages in ((sink, sink), (Fork(sink, supervised(sink)),), (Pipeline(sink), sink)):
        with pytest.raises(WiringError, match=r"as Sink and as Sink2; make a second one"):
            Pipeline(*stages).check()


def test_a_class_is_no_stage() -> None:
    with pytest.raises(WiringError, match=r"write Sink\("):
        Pipeline(Sink).check()


def test_an_empty_pipeline_is_refused() -> None:
    for pipeline in (Pipeline(), Pipeline(Sink(), Pipeline())):
        with pytest.raises(WiringError, match="give it at least one"):
            pipeline.check()


def test_a_stage_that_does_nothing_is_refused() -> None:
    class Idle:
        def handle(self, frame: Note) -> None: ...

    with pytest.raises(WiringError, match=r"Idle handles no frame and has no run; mark a method"):
        Pipeline(Idle()).check()


def test_a_mailbox_holds_at_least_one_frame() -> None:
    with pytest.raises(WiringError, match=r"Slow.mailbox_capacity is 0; it must be 1 or more"):
        Pipeline(Slow(capacity=0)).check()


def test_an_async_handler_for_an_urgent_frame_is_refused() -> None:
    class Wrong:
        @on(Nod)
        async def nod(self, frame: Nod) -> None: ...

    class WrongToo:
        @on(Interrupt)
        async def cut(self, frame: Interrupt) -> Interrupt:
            return frame

    with pytest.raises(WiringError, match=r"Wrong.nod is async and handles Nod, .* in run\(\)"):
        Pipeline(Wrong()).check()
    with pytest.raises(WiringError, match=r"WrongToo.cut is async and handles Interrupt"):
        Pipeline(WrongToo()).check()


def test_an_async_handler_for_a_base_class_is_refused() -> None:
    class Wrong:
        @on(Ordered)
        async def all(self, frame: Ordered) -> None: ...

    with pytest.raises(WiringError, match=r"Wrong.all is async .* name each frame"):
        Pipeline(Wrong()).check()


class Mic:
    made_rates_hz: ClassVar = {AudioIn: 16_000}

    async def run(self, emit: Emit[AudioIn]) -> None: ...


class Ear:
    rates_hz: ClassVar = {AudioIn: 24_000}

    @on(AudioIn)
    def hear(self, frame: AudioIn) -> None: ...


class Resample:
    made_rates_hz: ClassVar = {AudioIn: 24_000}

    @on(AudioIn)
    def convert(self, frame: AudioIn) -> AudioIn:
        return frame


class Speaker:
    @on(AudioOut)
    def play(self, frame: AudioOut) -> Played | None: ...


def test_a_missing_producer_is_refused_with_both_names_and_the_way_out() -> None:
    with pytest.raises(
        WiringError,
        match=r"Speaker handles AudioOut, .* nearest is Mic\).* accepts=\(AudioOut,\)",
    ):
        Pipeline(Mic(), Speaker()).check()
    Pipeline(Mic(), Speaker(), accepts=(AudioOut,)).check()


def test_what_a_generator_makes_is_read_from_its_annotation() -> None:
    class Voice:
        @on(AudioIn)
        def speak(self, frame: AudioIn) -> Iterator[AudioOut | Mute]:
            yield Mute()

    class Mirror:
        @on(AudioIn)
        def speak(self, frame: AudioIn) -> Iterator[Mute]:
            yield Mute()

    Pipeline(Mic(), Voice(), Speaker()).check()
    with pytest.raises(WiringError, match="Speaker handles AudioOut"):
        Pipeline(Mic(), Mirror(), Speaker()).check()


def test_what_is_unknown_is_unchecked() -> None:
    class Anything:
        @on(AudioIn)
        def make(self, frame: AudioIn) -> Any: ...

    class Bare:
        @on(AudioIn)
        def make(self, frame):  # type: ignore[no-untyped-def]  # pyright: ignore
            return None

    class Wide:
        async def run(self, emit: Emit[Frame]) -> None: ...

    Pipeline(Mic(), Anything(), Speaker()).check()
    Pipeline(Mic(), Bare(), Speaker()).check()
    Pipeline(Wide(), Speaker()).check()
    Pipeline(Speaker()).check()  # frames come from outside


def test_two_sinks_are_refused_with_both_names() -> None:
    with pytest.raises(WiringError, match=r"Speaker and Speaker2 .*only one"):
        Pipeline(Speaker(), Speaker()).check()
    with pytest.raises(WiringError, match=r"Speaker and Speaker2 .*only one"):
        Pipeline(Fork(Speaker(), Speaker())).check()


def test_a_rate_that_nobody_converts_is_refused_with_both_names_and_the_way_out() -> None:
    with pytest.raises(
        WiringError,
        match=r"Mic makes AudioIn at 16000 Hz and Ear takes 24000 Hz: put Resample\(24000\)",
    ):
        Pipeline(Mic(), Ear()).check()
    Pipeline(Mic(), Resample(), Ear()).check()


@pytest.mark.anyio
async def test_a_graph_is_checked_before_anything_starts() -> None:
    started: list[object] = []

    class Starter:
        def attach(self, emit: Emit[Frame]) -> None:
            started.append(self)

        async def run(self, emit: Emit[Note]) -> None:
            started.append(self)

    pipeline = Pipeline(Starter(), Speaker())
    with pytest.raises(WiringError):
        await pipeline.run()
    with pytest.raises(WiringError):
        async with pipeline:
            pass
    assert started == []


def test_a_pipeline_is_data_until_it_runs() -> None:
    pipeline = Pipeline(Mic(), Speaker())  # wrong, and nobody has asked yet
    assert "Mic" in str(pipeline)
    with pytest.raises(WiringError):
        pipeline.check()


def test_frames_that_go_down_only_meet_greater_numbers() -> None:
    graph = flatten((Fork(Plain(same), Pipeline(Plain(same), Fork(Slow(), Slow()))), Sink()))
    check(graph)
    for node in graph.nodes:
        assert all(t.index > node.index for t, _ in node.down if t is not graph.tail)


class Model:
    def __init__(self, *, transcribes: bool) -> None:
        self.makes_transcripts = transcribes

    @on(AudioIn)
    def answer(self, frame: AudioIn) -> AudioOut | None: ...


class Words:
    needs_transcripts = True

    @on(AudioOut)
    def wait(self, frame: AudioOut) -> AudioOut:
        return frame


def test_a_stage_that_needs_the_users_words_is_refused_where_nobody_asks_for_them() -> None:
    with pytest.raises(
        WiringError, match=r"Words needs the user's words as text, and Model .*transcription="
    ):
        Pipeline(Mic(), Model(transcribes=False), Words()).check()
    Pipeline(Mic(), Model(transcribes=True), Words()).check()
    Pipeline(Mic(), Words(), accepts=(AudioOut,)).check()  # who makes them is not known


class Counts:
    counts_for_sink = True

    @on(AudioOut)
    def pass_on(self, frame: AudioOut) -> AudioOut:
        return frame


class Voice:
    async def run(self, emit: Emit[AudioOut]) -> None: ...


class Converter:
    made_rates_hz: ClassVar = {AudioOut: 8_000}

    @on(AudioOut)
    def convert(self, frame: AudioOut) -> AudioOut:
        return frame


class Waits:
    @on(AudioOut)
    async def wait(self, frame: AudioOut) -> AudioOut:
        return frame


class Loud:
    @on(AudioOut)
    def play(self, frame: AudioOut) -> Played:
        return Played(handed_samples=0, played_samples=0, rate_hz=24_000)


@pytest.mark.parametrize(
    ("between", "why"),
    [
        (Converter, "Converter changes the rate between Counts and Loud"),
        (Waits, "Waits keeps frames in a mailbox between Counts and Loud"),
    ],
)
def test_who_counts_for_the_sink_counts_the_same_samples(between: type[object], why: str) -> None:
    with pytest.raises(WiringError, match=f"{why}, .*: put {between.__name__} before Counts"):
        Pipeline(Voice(), Counts(), between(), Loud()).check()
    Pipeline(Voice(), between(), Counts(), Loud()).check()
    Pipeline(Voice(), between(), Loud()).check()
