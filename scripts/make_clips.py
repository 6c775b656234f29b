"""Make the speech clips that ship with framepipe, from the list beside them.

Needs espeak-ng. Run from the project's folder: python scripts/make_clips.py
"""

from __future__ import annotations

import json
import sys
import wave
from pathlib import Path

from framepipe.realtime.speech import RATE_HZ, VoiceError
from framepipe.realtime.voice import Espeak

CLIPS = Path(__file__).parents[1] / "framepipe" / "realtime" / "clips"


def main() -> int:
    """Write every clip of ``clips.json``; the same bytes every time."""
    try:
        for clip in json.loads((CLIPS / "clips.json").read_text("utf-8"))["clips"]:
            pcm = Espeak(clip["voice"]).speak(clip["text"])
            with wave.open(str(CLIPS / clip["file"]), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(RATE_HZ)
                file.writeframes(pcm)
            sys.stdout.write(f"{clip['file']}: {len(pcm) / 2 / RATE_HZ:.2f} s\n")
    except VoiceError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
