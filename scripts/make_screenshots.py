"""Take the pictures of the page for the docs: a call with a recorded user, in real Chromium.

    python scripts/make_screenshots.py

Needs chromium and framepipe[dev]; takes a quarter of a minute. Writes ``docs/images/talk*.png``.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import anyio

from framepipe.audio import silence
from framepipe.realtime.mind import Scripted, given_words
from framepipe.realtime.server import ServerSettings, server_in_process
from framepipe.realtime.session import SessionSettings, Transcription
from framepipe.realtime.voice import default_voice
from framepipe.talk.app import TalkSettings, serve_page
from framepipe.talk.assembly import Service, usual
from framepipe.wav import WavWriter

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"

SAID = ("Which trains go to Oslo tomorrow?", "Wait, I meant Bergen.")
ANSWERS = (
    "To Oslo there are three: at seven in the morning, at noon, and at six in the evening.",
    "To Bergen there are two: one at eight, and one at half past three. Shall I book a seat?",
)

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


def record_user(path: Path) -> None:
    """A question, and four seconds into the answer, another one."""
    voice = default_voice()
    wav = WavWriter(path, 24_000)
    wav.write(silence(24_000))
    wav.write(voice.speak(SAID[0]))
    wav.write(silence(24_000 * 5))
    wav.write(voice.speak(SAID[1]))
    wav.write(silence(24_000 * 8))
    wav.close()


async def take(chromium: str, user: Path) -> None:
    """Hold the call, and take the pictures."""
    from playwright.async_api import async_playwright

    settings = ServerSettings(mind=Scripted(ANSWERS), ears=given_words(SAID))
    session = SessionSettings(transcription=Transcription())
    addresses: list[str] = []
    async with (
        server_in_process(settings) as server,
        anyio.create_task_group() as tasks,
        async_playwright() as playwright,
    ):
        service = Service(url="ws://127.0.0.1/v1/realtime", connect=server.connect, session=session)
        talk = TalkSettings(assemble=usual(service), port=0)
        tasks.start_soon(serve_page, talk, addresses.append)
        browser = await playwright.chromium.launch(
            executable_path=chromium,
            args=[*FLAGS, f"--use-file-for-fake-audio-capture={user}%noloop"],
        )
        page = await browser.new_page(viewport={"width": 1080, "height": 860})
        await page.goto(f"{addresses[0]}&raw=1")
        await page.click("#start")
        await page.wait_for_timeout(13_500)
        await page.screenshot(path=IMAGES / "talk.png")
        await page.emulate_media(color_scheme="dark")
        await page.set_viewport_size({"width": 390, "height": 844})
        await page.wait_for_timeout(200)
        await page.screenshot(path=IMAGES / "talk-phone-dark.png", full_page=True)
        await browser.close()
        tasks.cancel_scope.cancel()


def main() -> int:
    """Take them."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.stderr.write("there is no chromium; install Debian's package\n")
        return 1
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        user = Path(folder) / "user.wav"
        record_user(user)
        anyio.run(take, chromium, user)
    return 0


if __name__ == "__main__":
    sys.exit(main())
