"""A whole call from files: what is sent, what is written, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import sys
import wave
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest
from attrs import evolve

from framepipe.audio import silence
from framepipe.call import CallResult, CallSettings, hold_call
from framepipe.demo import USER_WAV
from framepipe.errors import FrameError, FramepipeError, only_error
from framepipe.realtime.connection import Connect, Connection, connect, memory_pair
from framepipe.realtime.events import InputAudioBufferAppend, decode_audio, decode_client
from framepipe.realtime.mind import Talk
from framepipe.realtime.server import (
    InProcessServer,
    ServerSettings,
    serve,
    server_in_process,
)
from framepipe.testing import run_virtual
from framepipe.wav import WavReader, WavWriter


def question(path: Path, seconds: float = 2.3) -> Path:
    """The first words of the shipped user."""
    with WavReader(USER_WAV) as user:
        pcm = b"".join(user.read_at(24_000))[: round(seconds * 48_000)]
    writer = WavWriter(path, 24_000)
    writer.write(pcm)
    writer.close()
    return path


def duration_s(path: Path) -> float:
    with wave.open(str(path), "rb") as wav:
        return wav.getnframes() / wav.getframerate()


def voice_s(path: Path) -> float:
    """From the first sound of the agent to its last."""
    with wave.open(str(path), "rb") as wav:
        pcm = wav.readframes(wav.getnframes())
    blocks = [pcm[at : at + 480] != silence(240) for at in range(0, len(pcm) - 480, 480)]
    return (len(blocks) - blocks[::-1].index(True) - blocks.index(True)) / 100


async def in_process(
    settings: CallSettings, answer_ms: int = 2_000
) -> tuple[CallResult, InProcessServer]:
    async with server_in_process(ServerSettings(mind=Talk(answer_ms))) as server:
        return await hold_call(evolve(settings, connect=server.connect)), server


def test_a_call_ends_when_the_agent_has_been_silent_for_long_enough(tmp_path: Path) -> None:
    mic, speaker = question(tmp_path / "in.wav"), tmp_path / "out.wav"

    result, server = run_virtual(in_process, CallSettings(mic=mic, speaker=speaker))

    assert result.problems == ()
    assert not result.stopped
    assert voice_s(speaker) == pytest.approx(2.0, abs=0.3)
    # 2.3 s of question, 0.5 s until it is over, at most 0.5 s to the answer, 2 s of it, 3 s more.
    assert 7.0 < result.seconds < 9.0
    assert duration_s(speaker) == pytest.approx(result.seconds, abs=0.2)
    assert server.sessions[0].appended_ms >= 2_300


def test_a_call_of_a_set_length_is_as_long_as_that_though_the_agent_still_talks(
    tmp_path: Path,
) -> None:
    mic, speaker, trace = question(tmp_path / "in.wav"), tmp_path / "out.wav", tmp_path / "t.jsonl"
    settings = CallSettings(mic=mic, speaker=speaker, seconds=5.0, trace=trace)

    result, _ = run_virtual(in_process, settings, 30_000)

    assert result.seconds == pytest.approx(5.0, abs=0.01)
    assert duration_s(speaker) == pytest.approx(5.0, abs=0.05)
    assert 1.0 < voice_s(speaker) < 2.6
    lines = [json.loads(line) for line in trace.read_text("utf-8").splitlines()]
    assert {"AudioIn", "AudioOut", "ConnectionState"} <= {line["frame"] for line in lines}


def test_the_microphone_file_is_sent_unaltered_and_once(tmp_path: Path) -> None:
    mic = question(tmp_path / "in.wav")
    sent: list[bytes] = []

    async def session() -> None:
        async with server_in_process(ServerSettings(mind=Talk(500))) as server:

            @asynccontextmanager
            async def listening(
                url: str, headers: Mapping[str, str]
            ) -> AsyncGenerator[Connection, None]:
                async with server.connect(url, headers) as connection:
                    send = connection.send

                    async def keep(text: str) -> None:
                        event = decode_client(text)
                        if isinstance(event, InputAudioBufferAppend):
                            sent.append(decode_audio(event.audio))
                        await send(text)

                    connection.send = keep  # type: ignore[method-assign]
                    yield connection

            speaker = tmp_path / "out.wav"
            await hold_call(CallSettings(mic=mic, speaker=speaker, connect=listening))

    run_virtual(session)

    pcm = b"".join(sent)
    with WavReader(mic) as recording:
        whole = b"".join(recording.read_at(24_000))
    assert pcm[: len(whole)] == whole
    assert not any(pcm[len(whole) :])


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"seconds": 0.0}, "seconds is 0.0"), ({"until_silent_s": -1.0}, "until_silent_s is -1.0")],
)
def test_a_length_that_is_none_is_refused(settings: dict[str, float], named: str) -> None:
    with pytest.raises(FrameError, match=named):
        CallSettings(mic=Path("a"), speaker=Path("b"), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", ["mic", "speaker", "trace"])
def test_a_file_that_cannot_be_used_is_one_error(tmp_path: Path, bad: str) -> None:
    nowhere = tmp_path / "none" / "x.wav"
    settings = CallSettings(
        mic=nowhere if bad == "mic" else question(tmp_path / "in.wav"),
        speaker=nowhere if bad == "speaker" else tmp_path / "out.wav",
        trace=nowhere if bad == "trace" else None,
    )
    with pytest.raises(ExceptionGroup) as caught:  # the server's
        run_virtual(in_process, settings)
    error = only_error(caught.value)
    assert isinstance(error, FramepipeError)
    assert "none" in str(error)


async def _stopped_by_a_signal(options: list[str]) -> tuple[int | None, str]:
    """Run the command against a server on the loopback until it is under way."""
    errors, code = b"", None
    async with anyio.create_task_group() as tasks:
        port = await tasks.start(partial(serve, ServerSettings(mind=Talk(20_000)), port=0))
        url = f"ws://127.0.0.1:{port}/v1/realtime"
        process = await anyio.open_process(
            [sys.executable, "-m", "framepipe.cli", "call", "--url", url, *options],
            cwd=Path(__file__).parents[1],
            env=os.environ | {"PYTHONPATH": os.pathsep.join([".", "processors"])},
        )
        assert process.stdout is not None
        assert process.stderr is not None
        said = b""
        with anyio.fail_after(60):
            while b"  open" not in said:
                said += await process.stdout.receive()
            process.send_signal(signal.SIGINT)
            async for piece in process.stderr:
                errors += piece
            await process.wait()
        await process.aclose()
        tasks.cancel_scope.cancel()
        code = process.returncode
    return code, errors.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="signals are another thing on Windows")
def test_a_call_that_is_stopped_by_a_signal_has_written_everything(tmp_path: Path) -> None:
    mic, speaker = question(tmp_path / "in.wav"), tmp_path / "out.wav"
    trace = tmp_path / "trace.jsonl"
    files = {"--mic": mic, "--speaker": speaker, "--trace": trace}

    ended = anyio.run(_stopped_by_a_signal, [str(part) for pair in files.items() for part in pair])

    assert ended == (0, "")
    lines = trace.read_text("utf-8").splitlines()
    ended_s = json.loads(lines[-1])["at_ns"] / 1e9
    assert duration_s(speaker) == pytest.approx(ended_s, abs=0.3)


def test_the_socket_of_the_command_is_the_real_one() -> None:
    assert CallSettings(mic=Path("a"), speaker=Path("b")).connect is connect


@asynccontextmanager
async def never_opens(url: str, headers: Mapping[str, str]) -> AsyncGenerator[Connection, None]:
    await anyio.sleep_forever()
    yield memory_pair()[0]


@asynccontextmanager
async def never_greets(url: str, headers: Mapping[str, str]) -> AsyncGenerator[Connection, None]:
    ours, _theirs = memory_pair()
    yield ours


@pytest.mark.parametrize(
    ("service", "seconds"), [(never_opens, 3.0), (never_greets, 3.0), (never_greets, None)]
)
def test_a_service_that_hangs_ends_the_call_by_itself_with_one_line(
    tmp_path: Path, service: Connect, seconds: float | None
) -> None:
    settings = CallSettings(
        mic=question(tmp_path / "in.wav"),
        speaker=tmp_path / "out.wav",
        connect=service,
        key="k",
        seconds=seconds,
    )
    with pytest.raises(FramepipeError, match=r"no session was open|said nothing for 10 s") as error:
        run_virtual(hold_call, settings)
    assert "\n" not in str(error.value)


def test_beside_a_loudspeaker_the_service_hears_the_user_all_the_same(tmp_path: Path) -> None:
    speaker = tmp_path / "out.wav"
    settings = CallSettings(mic=question(tmp_path / "in.wav"), speaker=speaker, gate=True)

    result, server = run_virtual(in_process, settings)

    assert not result.problems
    assert voice_s(speaker) == pytest.approx(2.0, abs=0.2)
    assert len(server.sessions) == 1


@pytest.mark.parametrize("name", ["speaker", "trace"])
def test_the_recording_is_never_overwritten(name: str, tmp_path: Path) -> None:
    recording = question(tmp_path / "user.wav")
    before = recording.read_bytes()
    same = tmp_path / ".." / tmp_path.name / "user.wav"
    settings = CallSettings(
        mic=recording,
        speaker=same if name == "speaker" else tmp_path / "out.wav",
        trace=same if name == "trace" else None,
        url="ws://127.0.0.1:1/",
    )
    with pytest.raises(FrameError, match=f"is mic and {name}; .* choose another file"):
        anyio.run(hold_call, settings)
    assert recording.read_bytes() == before


def test_a_line_that_takes_long_to_close_adds_nothing_to_the_length(tmp_path: Path) -> None:
    recording, speaker = question(tmp_path / "in.wav"), tmp_path / "out.wav"

    async def held() -> CallResult:
        async with server_in_process(ServerSettings(mind=Talk(2_000))) as server:

            @asynccontextmanager
            async def closes_slowly(
                url: str, headers: Mapping[str, str]
            ) -> AsyncGenerator[Connection, None]:
                async with server.connect(url, headers) as connection:
                    try:
                        yield connection
                    finally:
                        with anyio.CancelScope(shield=True):
                            await anyio.sleep(2)

            settings = CallSettings(
                mic=recording, speaker=speaker, seconds=3.0, connect=closes_slowly
            )
            return await hold_call(settings)

    assert run_virtual(held).seconds == pytest.approx(3.0, abs=0.01)
    assert duration_s(speaker) == pytest.approx(3.0, abs=0.05)
