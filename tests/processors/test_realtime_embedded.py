"""Lost sockets against the embedded server: it takes everything that it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from framepipe import Pipeline
from framepipe.demo import USER_WAV
from framepipe.frames import AudioOut, ConnectionState, Frame, Problem, Transcript
from framepipe.processor import on
from framepipe.realtime.mind import Talk, given_words
from framepipe.realtime.server import (
    Faults,
    InProcessServer,
    ServerSettings,
    server_in_process,
)
from framepipe.realtime.session import SessionSettings, Transcription
from framepipe.testing._virtual import run_virtual
from framepipe_processors.bargein import BargeIn
from framepipe_processors.local_vad import LocalVad
from framepipe_processors.playout import Playout
from framepipe_processors.realtime import Realtime
from framepipe_processors.wav_sink import WavSink
from framepipe_processors.wav_source import WavSource


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
