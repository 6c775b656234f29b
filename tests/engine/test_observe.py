"""DESIGN section 4: observers see everything, cost nothing when absent, and change nothing."""

import logging
from collections.abc import Iterator

import anyio
import pytest
from attrs import evolve

from framepipe import End, Fork, Frame, Interrupt, Pipeline, lossy, on
from tests.engine.kit import Nod, Note, Other, Piece, Plain, Sink, Slow, dropped, notes

Seen = list[tuple[str, str, Frame]]


class Doubler:
    @on(Note)
    def double(self, frame: Note) -> Note:
        return evolve(frame, n=2 * frame.n)


class Passer:
    @on(Note)
    def look(self, frame: Note) -> Note:
        return frame


def recorder(pipeline: Pipeline) -> Seen:
    seen: Seen = []
    pipeline.observe(lambda what, stage, frame: seen.append((what, stage, frame)))
    return seen


def test_an_observer_sees_emitted_handled_and_decided_with_the_stages_name() -> None:
    pipeline = Pipeline(Passer(), Doubler(), Passer())
    seen = recorder(pipeline)
    pipeline.step(Note(n=1))
    assert seen == [
        ("emitted", "the head", Note(n=1)),
        ("handled", "Passer", Note(n=1)),
        ("handled", "Doubler", Note(n=1)),
        ("emitted", "Doubler", Note(n=2)),
        ("decided", "Doubler", Note(n=1)),
        ("handled", "Passer2", Note(n=2)),
    ]


def test_an_observer_sees_a_cut() -> None:
    pipeline = Pipeline(Sink(), Passer())
    seen = recorder(pipeline)
    pipeline.step(Interrupt())
    assert [(what, type(frame)) for what, _, frame in seen if what == "cut"] == [("cut", Interrupt)]
    assert ("handled", "Sink", Interrupt(turn=0)) in seen


@pytest.mark.anyio
async def test_an_observer_sees_every_drop_where_it_happens() -> None:
    pipeline = Pipeline(Slow(1.0), Fork(Plain(lambda f: f), lossy(Slow(10.0, capacity=1))))
    seen = recorder(pipeline)
    async with pipeline:
        turn = pipeline.new_turn()
        for n in range(3):
            pipeline.emit(Piece(turn=turn, n=n))
        await anyio.sleep(0.5)
        pipeline.interrupt()  # one in hand, two wait
        pipeline.emit(Piece(turn=turn, n=3))
        for n in range(3):
            pipeline.emit(Note(n=n))
    drops = [(stage, frame) for what, stage, frame in seen if what == "dropped"]
    assert sorted(drops, key=str) == sorted(
        [("Slow", Piece(turn=1, n=n)) for n in range(3)]
        + [("the head", Piece(turn=1, n=3)), ("Slow2", Note(n=1))],
        key=str,
    )
    assert dropped(pipeline, "Slow") == {"cut": 3}


@pytest.mark.anyio
async def test_an_observer_sees_what_async_stages_handle_and_emit() -> None:
    pipeline = Pipeline(Slow(1.0), Sink())
    seen = recorder(pipeline)
    async with pipeline:
        pipeline.emit(Note(n=1))
        pipeline.emit(Nod(n=2))
    story = [(what, stage) for what, stage, frame in seen if frame == Note(n=1)]
    assert story == [
        ("emitted", "the head"),
        ("handled", "Slow"),
        ("emitted", "Slow"),
        ("handled", "Sink"),
        ("decided", "Sink"),
    ]
    assert ("handled", "Sink", End()) in seen


def test_an_observer_that_raises_is_removed_with_a_warning_and_the_others_stay(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pipeline = Pipeline(Doubler())
    calls: list[str] = []

    def broken(what: str, stage: str, frame: Frame) -> None:
        calls.append(what)
        raise ValueError("broken")

    pipeline.observe(broken)
    seen = recorder(pipeline)
    with caplog.at_level(logging.WARNING, "framepipe"):
        assert pipeline.step(Note(n=1)) == notes(2)
        assert pipeline.step(Note(n=2)) == notes(4)
    assert calls == ["emitted"]
    assert len(caplog.records) == 1
    assert len(seen) == 8


@pytest.mark.anyio
async def test_an_observer_may_not_emit(caplog: pytest.LogCaptureFixture) -> None:
    sink = Sink()
    pipeline = Pipeline(sink)

    def chatty(what: str, stage: str, frame: Frame) -> None:
        pipeline.emit(Other())

    pipeline.observe(chatty)
    async with pipeline:
        with caplog.at_level(logging.WARNING, "framepipe"):
            pipeline.emit(Note())
        pipeline.emit(Note())
    assert sink.got == [Note(), Note(), End()]
    assert "removed" in caplog.text


def test_an_observer_can_be_attached_and_detached_at_any_time() -> None:
    pipeline = Pipeline(Doubler())
    seen: Seen = []

    def look(what: str, stage: str, frame: Frame) -> None:
        seen.append((what, stage, frame))

    pipeline.step(Note(n=1))
    detach = pipeline.observe(look)
    pipeline.step(Note(n=2))
    detach()
    detach()
    pipeline.step(Note(n=3))
    assert {frame for _, _, frame in seen} == {Note(n=2), Note(n=4)}


def test_an_observer_that_detaches_itself_in_the_middle_changes_nothing() -> None:
    sink = Sink()
    pipeline = Pipeline(Passer(), Doubler(), sink)

    def once(what: str, stage: str, frame: Frame) -> None:
        if stage == "Doubler":
            detach()

    detach = pipeline.observe(once)
    pipeline.step(Note(n=1))
    pipeline.step(Note(n=2))
    assert sink.got == notes(2, 4)


@pytest.mark.anyio
async def test_an_observer_that_was_there_before_sees_every_run() -> None:
    pipeline = Pipeline(Sink())
    seen = recorder(pipeline)
    for n in (1, 2):
        async with pipeline:
            pipeline.emit(Note(n=n))
    assert [f for what, _, f in seen if what == "emitted" and isinstance(f, Note)] == notes(1, 2)


def test_being_observed_changes_no_order() -> None:
    class Mixed:
        @on(Note)
        def mixed(self, frame: Note) -> Iterator[Frame]:
            yield Other(n=1)
            yield Nod(n=2)
            yield frame

    stories: list[list[Frame]] = []
    for observed in (False, True):
        sink, side = Sink(), Sink()
        pipeline = Pipeline(Plain(lambda f: [f, f]), Mixed(), Fork(Doubler(), side), sink)
        if observed:
            recorder(pipeline)
        pipeline.step(Note(n=3))
        stories.append([*sink.got, End(), *side.got])
    assert stories[0] == stories[1]
