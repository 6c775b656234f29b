"""From an order in Python to silence in the page: real Chromium, real socket, real worklet.

Both processes read the same clock of the machine. Silence is read from the page's graph (an
analyser behind the worklet), not from a loudspeaker. The page's answer,
with the mute point, is what the silence itself cannot be faster than by more than a render quantum.
"""

from __future__ import annotations

import shutil
import statistics
import time
from typing import Any, Final

import anyio
import numpy as np

from benchmarks.measure import Figure
from framepipe import Emit, Pipeline, on
from framepipe.frames import AudioOut, Interrupt, Mute, Played, Unmute
from framepipe.talk.app import TalkSettings, serve_page
from framepipe.talk.assembly import Assembly

TRIALS: Final = 15
_MS: Final = 1_000_000
_FLAGS: Final = (
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

_WATCH: Final = """() => {
  const analyser = new AnalyserNode(framepipe.context, { fftSize: 128 });
  framepipe.playback.connect(analyser);
  const samples = new Float32Array(128);
  const channel = new MessageChannel();
  framepipe.silentAt = [];
  let wasLoud = false;
  channel.port1.onmessage = () => {
    analyser.getFloatTimeDomainData(samples);
    const isLoud = samples.some((one) => Math.abs(one) > 1e-4);
    if (wasLoud && !isLoud) framepipe.silentAt.push(performance.timeOrigin + performance.now());
    wasLoud = isLoud;
    setTimeout(() => channel.port2.postMessage(0), 0);
  };
  channel.port2.postMessage(0);
}"""


class _Tone:
    """Lets a tone sound, silences it, and notes when it said so and when it was told."""

    def __init__(self) -> None:
        self.ordered_ms: list[float] = []
        self.answered_ms: list[float] = []
        self.is_done = anyio.Event()
        self.begin = anyio.Event()

    @on(Played)
    def note(self, frame: Played) -> None:
        if frame.mute_point is not None:
            self.answered_ms.append(_now_ms())

    async def run(self, emit: Emit[AudioOut | Mute | Unmute | Interrupt]) -> None:
        wave = 9_000 * np.sin(np.arange(24_000) * 2 * np.pi * 440 / 24_000)
        tone = wave.astype("<i2").tobytes()
        await self.begin.wait()
        for _ in range(TRIALS):
            turn = emit.new_turn()
            emit(AudioOut(pcm=tone, rate_hz=24_000, turn=turn))
            await _pause(emit, 300)
            self.ordered_ms.append(_now_ms())
            emit(Mute())
            await _pause(emit, 150)
            emit(Interrupt(turn=turn))
            await _pause(emit, 50)
        self.is_done.set()


async def _pause(emit: Emit[Any], ms: int) -> None:
    until_ns = emit.now_ns() + ms * _MS
    while not await emit.until(until_ns):
        pass


def _now_ms() -> float:
    return time.time() * 1e3


async def _measure(chromium: str) -> tuple[list[float], list[float]]:
    from playwright.async_api import async_playwright

    tone = _Tone()

    def assemble(mic: object, speaker: object) -> Assembly:
        return Assembly(pipeline=Pipeline(mic, tone, speaker))

    addresses: list[str] = []
    silent_ms: list[float] = []
    async with anyio.create_task_group() as tasks, async_playwright() as playwright:
        tasks.start_soon(serve_page, TalkSettings(assemble=assemble, port=0), addresses.append)
        browser = await playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        page = await browser.new_page()
        await page.goto(addresses[0])
        await page.click("#start")
        await page.wait_for_selector("#link[data-state=open]")
        await page.evaluate(_WATCH)
        tone.begin.set()
        await tone.is_done.wait()
        silent_ms = await page.evaluate("framepipe.silentAt")
        await browser.close()
        tasks.cancel_scope.cancel()
    silent = [min((t for t in silent_ms if t > at), default=at) - at for at in tone.ordered_ms]
    answered = [min(t for t in tone.answered_ms if t > at) - at for at in tone.ordered_ms]
    return silent, answered


def figures() -> list[Figure]:
    """Measure; nothing without Chromium and playwright."""
    chromium = shutil.which("chromium")
    if chromium is None:
        return []
    silent, answered = anyio.run(_measure, chromium)
    return [
        Figure("order → the page's answer, median", statistics.median(answered), "ms"),
        Figure("order → silent in the page, median", statistics.median(silent), "ms", 25.0),
        Figure("order → silent in the page, most", max(silent), "ms"),
    ]
