"""The voice of the embedded server: text in, speech out, always the same for the same text.

espeak-ng speaks when it is installed; otherwise a few shipped clips stand in for it, so that what
sounds is real speech on every machine. Speech is made whole before its first sample is sent: a
subprocess holds the event loop for some 40 ms and virtual time cannot see it, and afterwards it
is remembered by its text.
"""

from __future__ import annotations

import io
import json
import math
import shutil
import subprocess
import wave
from collections import OrderedDict
from importlib import resources
from zlib import crc32

import numpy as np

from framepipe.audio import Resampler, pcm_of, samples_of
from framepipe.realtime.speech import LONGEST_MS, RATE_HZ, Speech, Voice, VoiceError

REMEMBERED_TEXTS = 64
"""Texts whose speech a voice keeps: a scripted conversation many times over, some 10 MB."""

_CLIP_MS_PER_CHARACTER = 65
"""espeak-ng's own pace at its default speed: clips last as long as it would have spoken."""


class ShippedClips:
    """Speaks with the clips that come with the package.

    The words of `talk` are the clips' own. `speak` cannot say a text that nobody recorded: it
    sounds as long as the text would, with clips chosen by the text.

    Attributes:
        clips: All of them.
    """

    def __init__(self) -> None:
        self.clips = _shipped_clips()

    def speak(self, text: str) -> bytes:
        """Sound for as long as ``text`` takes to say; see `Voice`."""
        if not text.strip():
            return b""
        duration_ms = min(len(text) * _CLIP_MS_PER_CHARACTER, LONGEST_MS)
        return self._line(duration_ms, first=crc32(text.encode())).pcm

    def talk(self, duration_ms: int) -> Speech:
        """Say one clip after the other, cut at ``duration_ms``; see `Voice`."""
        return self._line(_checked_ms(duration_ms), first=0)

    def _line(self, duration_ms: int, first: int) -> Speech:
        wanted = 2 * (duration_ms * RATE_HZ // 1000)
        pcm = bytearray()
        words: list[str] = []
        while len(pcm) < wanted:
            clip = self.clips[(first + len(words)) % len(self.clips)]
            pcm += clip.pcm
            words.append(clip.text)
        return Speech(
            text=_cut_words(" ".join(words), wanted / max(len(pcm), 1)), pcm=_cut(pcm, wanted)
        )


class Espeak:
    """Speaks with the program espeak-ng.

    Args:
        voice: One of its voices, as ``espeak-ng --voices`` lists them.
        program: Its name or path.

    Raises:
        VoiceError: The program is not there.
    """

    def __init__(self, voice: str = "en-us", program: str = "espeak-ng") -> None:
        path = shutil.which(program)
        if path is None:
            raise VoiceError(
                f"{program} is not installed; install it, or use ShippedClips() as the voice"
            )
        self._command = [path, "--stdin", "--stdout", "-v", voice]
        self._remembered: OrderedDict[str, bytes] = OrderedDict()

    def speak(self, text: str) -> bytes:
        """Say ``text``; see `Voice`. The first time takes a subprocess of some 40 ms."""
        if not text.strip():
            return b""
        pcm = self._remembered.pop(text, None)
        if pcm is None:
            pcm = self._run(text)
        self._remembered[text] = pcm
        if len(self._remembered) > REMEMBERED_TEXTS:
            self._remembered.popitem(last=False)
        return pcm

    def talk(self, duration_ms: int) -> Speech:
        """Say the shipped clips' sentences, cut at ``duration_ms``; see `Voice`."""
        wanted = 2 * (_checked_ms(duration_ms) * RATE_HZ // 1000)
        pcm = bytearray()
        words: list[str] = []
        sentences = _clip_sentences()
        while len(pcm) < wanted:
            words.append(sentences[len(words) % len(sentences)])
            pcm += self.speak(words[-1])
        return Speech(
            text=_cut_words(" ".join(words), wanted / max(len(pcm), 1)), pcm=_cut(pcm, wanted)
        )

    def _run(self, text: str) -> bytes:
        # By stdin: a text that begins with a minus would be an option. NUL ends a C string.
        said = text.replace("\0", " ").encode(errors="replace")
        try:
            done = subprocess.run(
                self._command, input=said, capture_output=True, timeout=30, check=True
            )
            with wave.open(io.BytesIO(done.stdout)) as spoken:
                rate_hz, raw = spoken.getframerate(), spoken.readframes(spoken.getnframes())
        except subprocess.CalledProcessError as error:
            lines = error.stderr.decode(errors="replace").split("\n")
            said_last = next((line for line in reversed(lines) if line.strip()), "")
            why = said_last or f"exit code {error.returncode}"
            raise VoiceError(f"{self._command[0]} failed: {why}") from error
        except (wave.Error, EOFError) as error:
            raise VoiceError(f"{self._command[0]} failed: what it wrote is no WAV") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise VoiceError(f"{self._command[0]} failed: {error}") from error
        converter = Resampler(rate_hz, RATE_HZ, aligned=True)
        return converter.process(raw[: len(raw) - len(raw) % 2]) + converter.flush()


def default_voice() -> Voice:
    """espeak-ng when it is installed, the shipped clips otherwise."""
    try:
        return Espeak()
    except VoiceError:
        return ShippedClips()


def _checked_ms(duration_ms: int) -> int:
    if not 0 <= duration_ms <= LONGEST_MS:
        raise VoiceError(
            f"{duration_ms} ms of speech were asked for; allowed are 0 to {LONGEST_MS}"
        )
    return duration_ms


def _cut(pcm: bytearray, n_bytes: int) -> bytes:
    """The first ``n_bytes``, faded over the last 5 ms so that the cut does not click."""
    kept = bytes(pcm[:n_bytes])
    n_fade = min(RATE_HZ // 200, n_bytes // 2)
    if len(pcm) == n_bytes or not n_fade:
        return kept
    tail = samples_of(kept[-2 * n_fade :])
    return kept[: -2 * n_fade] + pcm_of(tail * np.linspace(1.0, 0.0, n_fade))


def _cut_words(text: str, share: float) -> str:
    """As many words as sound in ``share`` (0 to 1) of the text's speech."""
    words = text.split()
    return " ".join(words[: math.ceil(len(words) * min(share, 1.0))])


def _clip_list() -> list[dict[str, str]]:
    listed = (
        resources.files("framepipe.realtime").joinpath("clips", "clips.json").read_text("utf-8")
    )
    clips: list[dict[str, str]] = json.loads(listed)["clips"]
    return clips


def _clip_sentences() -> list[str]:
    return [clip["text"] for clip in _clip_list()]


def _shipped_clips() -> list[Speech]:
    folder = resources.files("framepipe.realtime").joinpath("clips")
    clips: list[Speech] = []
    for clip in _clip_list():
        with folder.joinpath(clip["file"]).open("rb") as file, wave.open(file) as recording:
            shape = (recording.getframerate(), recording.getnchannels(), recording.getsampwidth())
            if shape != (RATE_HZ, 1, 2):
                raise VoiceError(f"{clip['file']} is {shape}; a clip is 24 kHz, mono, 16 bit")
            clips.append(
                Speech(text=clip["text"], pcm=recording.readframes(recording.getnframes()))
            )
    return clips
