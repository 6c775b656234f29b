"""The page in a real browser: one call with a recorded user as the microphone, looked at from all
sides. It takes ten seconds, because the browser's audio does."""

from __future__ import annotations

import itertools
import json
import shutil
import wave
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from attrs import define, field

from framepipe import Frame, Pipeline
from framepipe.audio import samples_of
from framepipe.clock import now_ns
from framepipe.frames import AudioIn, AudioOut, Interrupt, InterruptionReport
from framepipe.realtime.mind import Talk
from framepipe.realtime.server import ServerSettings, server_in_process
from framepipe.realtime.voice import default_voice
from framepipe.talk.app import TalkSettings, serve_page
from framepipe.talk.assembly import Assembly, Service, usual

RATE_HZ = 24_000
CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
)

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs chromium (Debian's package); CI installs it"
)


@define
class Seen:
    """What was seen of the call on both sides."""

    microphone: bytes = b""
    mic: list[AudioIn] = field(factory=list[AudioIn])
    handed: list[AudioOut] = field(factory=list[AudioOut])
    cuts: list[Interrupt] = field(factory=list[Interrupt])
    reports: list[InterruptionReport] = field(factory=list[InterruptionReport])
    log: list[dict[str, Any]] = field(factory=list[dict[str, Any]])
    truncations: list[Any] = field(factory=list[Any])
    words: str = ""
    loudest: float = 0.0
    errors: list[str] = field(factory=list[str])

    def watch(self, what: str, stage: str, frame: Frame) -> None:
        if what == "handled" and stage == "BrowserSpeaker" and isinstance(frame, AudioOut):
            self.handed.append(frame)
        elif what == "emitted" and isinstance(frame, AudioIn):
            self.mic.append(frame)
        elif what == "emitted" and isinstance(frame, InterruptionReport):
            self.reports.append(frame)
        elif what == "cut" and isinstance(frame, Interrupt):
            self.cuts.append(frame)


def recorded_user() -> bytes:
    """A question at 0.5 s, a knock at 5.5 s, an interruption at 7 s."""
    speech = samples_of(default_voice().talk(1_200).pcm[: 2 * RATE_HZ * 12 // 10]).astype(int)
    sound = np.zeros(RATE_HZ * 10, int)
    sound[RATE_HZ // 2 : RATE_HZ // 2 + len(speech)] = speech
    knock = np.random.default_rng(5).normal(0, 6_000, RATE_HZ // 25)
    sound[RATE_HZ * 11 // 2 : RATE_HZ * 11 // 2 + len(knock)] = knock
    sound[RATE_HZ * 7 : RATE_HZ * 7 + len(speech)] = speech
    sound += np.random.default_rng(7).integers(-8, 9, len(sound))
    return np.clip(sound, -32_768, 32_767).astype("<i2").tobytes()


async def one_call(folder: Path) -> Seen:
    from playwright.async_api import async_playwright

    seen = Seen(microphone=recorded_user())
    recording = folder / "user.wav"
    with wave.open(str(recording), "wb") as wav:
        wav.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        wav.writeframes(seen.microphone)

    async with server_in_process(ServerSettings(mind=Talk(20_000))) as server:
        assemble_usual = usual(Service(url="ws://127.0.0.1/v1/realtime", connect=server.connect))

        def assemble(mic: object, speaker: object) -> Assembly:
            assembly = assemble_usual(mic, speaker)
            assembly.pipeline.observe(seen.watch)
            return assembly

        addresses: list[str] = []
        async with anyio.create_task_group() as tasks:
            settings = TalkSettings(assemble=assemble, port=0)
            tasks.start_soon(serve_page, settings, addresses.append)
            async with async_playwright() as playwright:
                browser = await playwright.chromium.launch(
                    executable_path=CHROMIUM,
                    args=[*FLAGS, f"--use-file-for-fake-audio-capture={recording}%noloop"],
                )
                page = await browser.new_page()
                page.on("pageerror", lambda error: seen.errors.append(str(error)))
                await page.goto(f"{addresses[0]}&raw=1")
                await page.click("#start")
                await page.wait_for_selector("#link[data-state=open]")
                began_ns = now_ns()
                while now_ns() < began_ns + 9_500_000_000:
                    loud = await page.evaluate(
                        "() => { const s = new Float32Array(256);"
                        " framepipe.analyser.getFloatTimeDomainData(s);"
                        " return Math.max(...s.map(Math.abs)); }"
                    )
                    seen.loudest = max(seen.loudest, float(loud))
                    await page.wait_for_timeout(100)
                seen.log = json.loads(await page.evaluate("JSON.stringify(framepipe.log)"))
                seen.words = await page.inner_text("#words")
                await page.click("#hang-up")
                await browser.close()
            tasks.cancel_scope.cancel()
        seen.truncations = list(server.sessions[-1].truncations)
    return seen


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return anyio.run(one_call, tmp_path_factory.mktemp("call"))


def test_the_microphone_arrives_as_it_was_recorded(seen: Seen) -> None:
    got = samples_of(b"".join(frame.pcm_bytes() for frame in seen.mic)).astype(float)
    sent = samples_of(seen.microphone).astype(float)[RATE_HZ // 2 : RATE_HZ * 17 // 10]
    n = 1 << (len(got) + len(sent)).bit_length()
    spectrum = np.fft.rfft(got, n) * np.conj(np.fft.rfft(sent, n))
    at = int(np.argmax(np.fft.irfft(spectrum, n)[: len(got) - len(sent)]))
    aligned = got[at : at + len(sent)]
    assert np.corrcoef(aligned, sent)[0, 1] >= 0.95
    positions = [(frame.start_sample, frame.n_samples) for frame in seen.mic]
    assert all(a + n == b for (a, n), (b, _) in itertools.pairwise(positions))


def test_the_agent_is_heard_in_the_page(seen: Seen) -> None:
    assert seen.loudest > 0.05
    assert seen.words.startswith("You")
    assert "Agent" in seen.words


def test_a_knock_mutes_the_agent_and_it_goes_on_with_the_next_sample(seen: Seen) -> None:
    orders = [entry for entry in seen.log if entry["type"] != "report"]
    knock = next(i for i, entry in enumerate(orders) if entry["type"] == "unmute")
    assert orders[knock - 1]["type"] == "mute"
    said = [
        entry
        for entry in seen.log
        if entry["type"] == "report" and entry["order"] == orders[knock - 1]["order"]
    ]
    mute_point = said[-1]["mute_point"]
    assert said[-1]["played"] == mute_point
    after = [entry for entry in seen.log if entry["type"] == "report"]
    after = after[after.index(said[-1]) + 1 :]
    assert after[0]["played"] == mute_point
    assert after[1]["played"] > mute_point
    assert any(report.verdict == "rejected" for report in seen.reports)


def test_a_barge_in_cuts_the_page_and_the_server_where_the_sound_ended(seen: Seen) -> None:
    assert [cut.cause for cut in seen.cuts if cut.onset_sample], "nobody interrupted"
    cut_orders = [entry for entry in seen.log if entry["type"] == "cut"]
    said = next(
        entry
        for entry in seen.log
        if entry["type"] == "report" and entry["order"] == cut_orders[-1]["order"]
    )
    line = 0
    begins: dict[str, int] = {}
    for frame in seen.handed:
        begins.setdefault(frame.item_id or "", line)
        line += frame.n_samples
    # An answer of which nothing was heard may have been truncated at 0 as well.
    (truncation,) = (one for one in seen.truncations if one.item_id in begins)
    rendered_ms = (said["mute_point"] - begins[truncation.item_id]) * 1_000 / RATE_HZ
    assert truncation.audio_end_ms == pytest.approx(rendered_ms, abs=30)


def test_the_page_has_no_errors(seen: Seen) -> None:
    assert seen.errors == []


def without_a_service(mic: object, speaker: object) -> Assembly:
    return usual(Service(url="ws://127.0.0.1:9/v1/realtime"))(mic, speaker)


def without_an_agent(mic: object, speaker: object) -> Assembly:
    return Assembly(pipeline=Pipeline(mic, speaker, accepts=(AudioOut,)))


async def words_after_talk(args: tuple[str, ...], *, token: str = "", leave: bool = False) -> str:
    """What the page says when somebody presses *Talk*; ``leave``: and the server goes."""
    from playwright.async_api import async_playwright

    addresses: list[str] = []
    said = ""
    async with async_playwright() as playwright, anyio.create_task_group() as tasks:
        settings = TalkSettings(assemble=without_an_agent if leave else without_a_service, port=0)
        tasks.start_soon(serve_page, settings, addresses.append)
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(args))
        page = await browser.new_page()
        await page.goto(addresses[0] + token)
        await page.click("#start")
        if leave:
            await page.wait_for_selector("#link[data-state=open]")
            tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await page.wait_for_selector("#problem:not([hidden]), #over:not(:empty)")
            said = await page.inner_text("body")
            await browser.close()
        tasks.cancel_scope.cancel()
    return said


@pytest.mark.parametrize(
    ("without", "token", "says"),
    [
        (("--use-fake-device", "--use-fake-ui"), "", "There is no microphone. Connect one"),
        (("--use-fake-ui",), "", "may not use the microphone. Allow it"),
        ((), "x", "Wrong token: open the address that framepipe printed."),
        ((), "", "ws://127.0.0.1:9: nobody listens there"),
    ],
    ids=["no microphone", "permission refused", "wrong token", "no service"],
)
def test_what_goes_wrong_is_said_on_the_page(
    without: tuple[str, ...], token: str, says: str
) -> None:
    flags = tuple(flag for flag in FLAGS if not without or not flag.startswith(without))
    assert says in anyio.run(partial(words_after_talk, flags, token=token))


def test_a_server_that_stops_says_so_on_the_page() -> None:
    assert "The call has ended." in anyio.run(partial(words_after_talk, FLAGS, leave=True))
