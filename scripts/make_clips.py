"""Make the speech clips that ship with framepipe, from the lists beside them.

Needs espeak-ng. Run from the project's folder: python scripts/make_clips.py
"""

from __future__ import annotations

import json
import sys
import wave
from pathlib import Path

from framepipe.realtime.speech import RATE_HZ, VoiceError
from framepipe.realtime.voice import Espeak

ROOT = Path(__file__).parents[1]
FOLDERS = (
    ROOT / "framepipe" / "realtime" / "clips",
    ROOT / "processors" / "framepipe_processors" / "clips",
)


def main() -> int:
    """Write every clip of each ``clips.json``; the same bytes every time."""
    try:
        clips = [
            (folder / clip["file"], clip)
            for folder in FOLDERS
            for clip in json.loads((folder / "clips.json").read_text("utf-8"))["clips"]
        ]
        for path, clip in clips:
            pcm = Espeak(clip["voice"]).speak(clip["text"])
            with wave.open(str(path), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(RATE_HZ)
                file.writeframes(pcm)
            sys.stdout.write(f"{path.name}: {len(pcm) / 2 / RATE_HZ:.2f} s\n")
    except VoiceError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
