"""Assembling the pipeline of a talk, and what the terminal shows of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from framepipe import Emit
from framepipe.audio import silence
from framepipe.errors import FrameError, LocalProtocolError, WiringError
from framepipe.frames import AudioIn, Interrupt, Mute, Played, Problem, Transcript
from framepipe.realtime.server import ServerSettings, server_in_process
from framepipe.realtime.session import SemanticVad, SessionSettings, Transcription
from framepipe.talk.assembly import Service, from_module, usual
from framepipe.talk.page_news import PageNews
from framepipe.talk.terminal import TerminalScreen
from framepipe.testing import run_virtual
from framepipe_processors import WavSink
from framepipe_processors.transports.sound_card import SoundCard

OWN = """
from framepipe import Pipeline
from framepipe_processors import LocalVad

def make(mic, speaker):
    return Pipeline(mic, LocalVad(), speaker)

def wrong(mic, speaker):
    return 7

number = 3
"""


class Mic:
    """A second of silence."""

    async def run(self, emit: Emit[AudioIn]) -> None:
        for block in range(100):
            while not await emit.until(emit.now_ns() + 10_000_000):
                pass
            emit(AudioIn(pcm=silence(240), rate_hz=24_000, start_sample=240 * block))


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_agent_of_the_test.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.mark.parametrize("wrong", ["x = 1 / 0", "def ("])
def test_a_module_that_cannot_be_read_is_one_line_with_its_line(
    wrong: str, own: None, tmp_path: Path
) -> None:
    name = f"wrong_agent_of_the_test_{len(wrong)}"
    (tmp_path / f"{name}.py").write_text(f"a = 1\n{wrong}\n")
    with pytest.raises(WiringError, match=rf"{name} cannot be imported: \w+Error: .* \(line 2\)"):
        from_module(f"{name}:make")


def test_a_users_own_pipeline_is_found_and_made(own: None) -> None:
    assembly = from_module("my_agent_of_the_test:make")(Mic(), WavSink())
    assert str(assembly.pipeline) == "Mic ─▶ LocalVad ─▶ WavSink"
    assert assembly.settings == {}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nothing", "write module:function"),
        ("no_such_module_here:make", "cannot be imported"),
        ("my_agent_of_the_test:number", "has no function number"),
        ("my_agent_of_the_test:absent", "has no function absent"),
        ("json:dumps", "json:dumps cannot be called with a microphone and a speaker"),
    ],
)
def test_a_pipeline_that_is_none_is_one_line(own: None, name: str, why: str) -> None:
    with pytest.raises(WiringError, match=why):
        from_module(name)


def test_a_function_that_makes_no_pipeline_is_named(own: None) -> None:
    with pytest.raises(WiringError, match="it must be a Pipeline"):
        from_module("my_agent_of_the_test:wrong")(Mic(), WavSink())


def test_the_services_turn_detection_changes_in_the_middle_of_a_call() -> None:
    async def call() -> tuple[Any, Any]:
        async with server_in_process(ServerSettings()) as server:
            service = Service(url="ws://127.0.0.1/v1/realtime", connect=server.connect)
            assembly = usual(service)(Mic(), WavSink())
            async with assembly.pipeline:
                await assembly.settings["suspect"]("duck")
                with pytest.raises(FrameError, match="must be 'mute' or 'duck'"):
                    await assembly.settings["suspect"]("shout")
                await assembly.settings["threshold"](0.7)
                await assembly.settings["silence_ms"](800)
                with pytest.raises(LocalProtocolError, match="threshold is 7"):
                    await assembly.settings["threshold"](7)
            return assembly.values, server.sessions[-1].session

    values, session = run_virtual(call)
    assert values == {"suspect": "mute", "threshold": 0.5, "silence_ms": 500}
    detection = session.audio.input.turn_detection
    assert (detection.threshold, detection.silence_duration_ms) == (0.7, 800)


def test_user_turns_are_kept_where_there_are_words_and_the_cool_down_can_be_set() -> None:
    session = SessionSettings(transcription=Transcription())
    assembly = usual(Service(url="ws://127.0.0.1/x", session=session))(Mic(), WavSink())
    assert "Realtime ─▶ Turns ─▶ Playout" in str(assembly.pipeline)
    assert assembly.values["cool_down_ms"] == 1_500
    run_virtual(assembly.settings["cool_down_ms"], 700)
    with pytest.raises(FrameError, match="cool_down_ms is -1"):
        run_virtual(assembly.settings["cool_down_ms"], -1)


def test_a_loudspeaker_gets_a_gate_and_an_echo_canceller() -> None:
    pytest.importorskip("livekit", reason="needs the extra: pip install 'framepipe[aec]'")
    card = SoundCard()
    service = Service(url="ws://127.0.0.1/x")
    assembly = usual(service, loudspeaker=True, tap=card.tap)(card.mic, card.speaker)
    assert str(assembly.pipeline) == (
        "SoundCardMic ─▶ EchoCanceller ─▶ LocalVad ─▶ MicGate ─▶ Realtime ─▶ Playout ─▶ BargeIn "
        "─▶ SoundCardSpeaker"
    )
    assembly.pipeline.check()


def test_a_session_without_server_vad_has_nothing_to_set() -> None:
    session = SessionSettings(turn_detection=SemanticVad())
    assembly = usual(Service(url="ws://127.0.0.1/x", session=session))(Mic(), WavSink())
    assert assembly.values == {"suspect": "mute"}
    with pytest.raises(LocalProtocolError, match="no server VAD"):
        run_virtual(assembly.settings["threshold"], 0.5)


def test_the_terminal_shows_words_levels_and_verdicts() -> None:
    async def call() -> tuple[list[str], str]:
        lines: list[str] = []
        screen = TerminalScreen(PageNews(0), lines.append)

        def seen(frame: Any, stage: str = "Realtime") -> None:
            screen.observe("emitted", stage, frame)

        seen(AudioIn(pcm=b"\x00\x40" * 240, rate_hz=24_000), "SoundCardMic")
        seen(Played(handed_samples=9, played_samples=9, rate_hz=24_000, level_dbfs=-30.0))
        seen(Transcript(who="agent", text="Good ", final=False, item_id="a"))
        seen(Transcript(who="agent", text="Good day", final=True, item_id="a"))
        seen(Transcript(who="user", text="", final=True, item_id="u"))
        seen(Problem(where="Realtime", code="x", message="slow"))
        seen(Mute())
        console = Console(width=100)
        with console.capture() as captured:
            console.print(screen.status())
        screen.observe("cut", "BargeIn", Interrupt(turn=1))
        return lines, captured.get()

    lines, status = run_virtual(call)
    assert lines == ["agent: Good day", "you: (no words)", "problem: Realtime: slow"]
    mic, agent = status.splitlines()
    assert mic.count("█") == 22
    assert agent.count("█") == 12
    assert "muted: was that you?" in agent
