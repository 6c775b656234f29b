"""Lost sockets against the embedded server: it takes everything that it is told."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from framepipe import Pipeline
from framepipe.demo import USER_WAV
from framepipe.frames import (
    AudioOut,
    ConnectionState,
    Frame,
    Problem,
    ReplyPending,
    Revoke,
    Transcript,
)
from framepipe.processor import on
from framepipe.realtime.mind import Talk, given_words
from framepipe.realtime.server import (
    Faults,
    InProcessServer,
    ServerSettings,
    server_in_process,
)
from framepipe.realtime.session import SessionSettings, Transcription
from framepipe.testing import run_virtual
from framepipe_processors.bargein import BargeIn
from framepipe_processors.local_vad import LocalVad
from framepipe_processors.playout import Playout
from framepipe_processors.realtime import Realtime
from framepipe_processors.wav_sink import WavSink
from framepipe_processors.wav_source import WavSource
from tests.test_call import question


class Watch:
    """Keeps what passes."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    @on(Frame)
    def keep(self, frame: Frame) -> Frame:
        self.frames.append(frame)
        return frame


async def whole_call(path: Path, settings: ServerSettings) -> tuple[list[Frame], InProcessServer]:
    watch = Watch()
    session = SessionSettings(transcription=Transcription())
    async with server_in_process(settings) as server:
        pipeline = Pipeline(
            WavSource(USER_WAV, tail_ms=8_000),
            LocalVad(),
            Realtime(session, seed=1, connect=server.connect),
            watch,
            Playout(),
            BargeIn(),
            WavSink(path),
        )
        await pipeline.run()
    return watch.frames, server


@pytest.mark.parametrize("life_s", [4.0, 11.0])
@pytest.mark.parametrize("way", ["drop", "limit"])
def test_a_call_goes_on_over_sockets_that_keep_breaking(
    tmp_path: Path, way: str, life_s: float
) -> None:
    settings = ServerSettings(
        mind=Talk(3_000),
        ears=given_words(["first", "second", "third", "fourth"]),
        limit_s=life_s if way == "limit" else 3_600,
        faults=Faults(drop_after_s=life_s if way == "drop" else None),
    )

    frames, server = run_virtual(whole_call, tmp_path / "out.wav", settings)

    states = [frame.state for frame in frames if isinstance(frame, ConnectionState)]
    assert states[-1] == "closed"
    assert len(server.sessions) == states.count("open") > 1
    # What the server refuses would be a problem.
    allowed = {"answer_incomplete", "session_expired"}
    problems = [frame for frame in frames if isinstance(frame, Problem)]
    assert [problem for problem in problems if problem.code not in allowed] == []
    said = [f.text for f in frames if isinstance(f, Transcript) and f.who == "user" and f.final]
    assert said
    later = [item for session in list(server.sessions)[1:] for item in session.conversation.items]
    assert any(str(item.id).startswith("again_") for item in later)
    turns = [frame.turn for frame in frames if isinstance(frame, AudioOut)]
    assert turns == sorted(turns)


async def taken_back(
    path: Path, after_s: float, delay_ms: int
) -> tuple[list[Frame], InProcessServer]:
    """The first answer of a call turns out void so many seconds after it was announced."""
    watch = Watch()
    announced = anyio.Event()
    faults = Faults(delay_to_server_ms=delay_ms, delay_to_client_ms=delay_ms)
    settings = ServerSettings(
        mind=Talk(3_000), faults=faults, ears=given_words(["a flight to Denver"])
    )
    session = SessionSettings(transcription=Transcription())

    def note(what: str, stage: str, frame: Frame) -> None:
        if what == "emitted" and isinstance(frame, ReplyPending):
            announced.set()

    async with server_in_process(settings) as server:
        user = WavSource(question(path.with_name("in.wav")), tail_ms=9_000)
        model = Realtime(session, seed=1, connect=server.connect)
        pipeline = Pipeline(user, model, watch, Playout(), WavSink(path))
        pipeline.observe(note)
        async with pipeline:
            await announced.wait()
            await anyio.sleep(after_s)
            pending = next(f for f in watch.frames if isinstance(f, ReplyPending))
            pipeline.emit(Revoke(item_ids=pending.item_ids, hint="Not Denver: Chicago."))
            await anyio.sleep(6.0)
    return watch.frames, server


@pytest.mark.parametrize("delay_ms", [0, 150])
@pytest.mark.parametrize("after_s", [0.0, 0.2, 0.6, 2.0])
def test_a_turn_that_is_taken_back_is_answered_once_more_and_leaves_only_what_was_heard(
    tmp_path: Path, after_s: float, delay_ms: int
) -> None:
    frames, server = run_virtual(taken_back, tmp_path / "agent.wav", after_s, delay_ms)

    (session,) = server.sessions
    assert not [frame for frame in frames if isinstance(frame, Problem)]
    turns = [frame.turn for frame in frames if isinstance(frame, ReplyPending)]
    assert turns == [1, 2]
    roles = [str(item.role) for item in session.conversation.items]
    was_heard = bool(session.truncations)
    assert roles == ["user", *["assistant"] * was_heard, "system", "assistant"]
    assert was_heard == (after_s > 0.5), "the first sound comes after 250 to 500 ms"
    for truncation in session.truncations:
        assert 0 < truncation.audio_end_ms <= truncation.received_ms
    sounds = [frame for frame in frames if isinstance(frame, AudioOut)]
    first_of_second = next(n for n, frame in enumerate(sounds) if frame.turn == 2)
    assert all(frame.turn == 2 for frame in sounds[first_of_second:])
    assert sum(frame.n_samples for frame in sounds if frame.turn == 2) == 3 * 24_000
