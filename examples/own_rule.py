"""Interrupt the agent by a rule of your own: the word "stop", as soon as it is in the text.

You will see, within three seconds, that the agent is cut by the rule, 100 ms after the service
began to hear the user, with other settings than the usual ones. The service is a script.
"""

from __future__ import annotations

from collections.abc import Iterator

import anyio

from framepipe import (
    AudioOut,
    Emit,
    Frame,
    Interrupt,
    Pipeline,
    ReplyPending,
    SpeechConfirmed,
    SpeechStarted,
    Transcript,
    on,
)
from framepipe.audio import silence
from framepipe.conversation.profiles import Needs, Profile, Situation, UseProfile, profiles
from framepipe_processors import BargeIn, Playout, WavSink


class StopWord:
    """Cut the agent as soon as "stop" is in the words that stream in."""

    def __init__(self) -> None:
        self._onset = 0

    @on(SpeechStarted)
    def note(self, frame: SpeechStarted) -> SpeechStarted:
        self._onset = frame.onset_sample
        return frame

    @on(Transcript)
    def read(self, frame: Transcript) -> Iterator[Transcript | SpeechConfirmed]:
        if frame.who == "user" and "stop" in frame.text.lower():
            yield SpeechConfirmed(source="stop-word", onset_sample=self._onset, probability=1)
        yield frame


def barge_in() -> BargeIn:
    table = profiles(
        {
            Situation.FIRST_SECOND: Profile(armed=False),
            Situation.SPEAKING: Profile(reject_ms=400),
            Situation.TOOL: Profile(needs=Needs.BOTH, suspect="duck"),
        }
    )
    return BargeIn(two=True, profiles=table)


def notice(pipeline: Pipeline, *, begins: bool) -> None:
    """While it lasts, nobody interrupts."""
    profile = Profile(armed=False, interruptible=False) if begins else None
    pipeline.emit(UseProfile(profile=profile))


class Service:
    """Talks for three seconds, and hears the user after 1.2."""

    async def run(self, emit: Emit[Frame]) -> None:
        turn = emit.new_turn()
        emit(ReplyPending(turn=turn))
        emit(AudioOut(turn=turn, pcm=silence(72_000), rate_hz=24_000))
        await anyio.sleep(1.2)
        emit(SpeechStarted(source="server", onset_sample=28_000, item_id="words"))
        await anyio.sleep(0.1)
        emit(Transcript(who="user", text="Please stop", final=False, item_id="words"))


async def main() -> None:
    pipeline = Pipeline(Service(), StopWord(), Playout(), barge_in(), WavSink())

    def watch(what: str, stage: str, frame: Frame) -> None:
        if what == "cut" and isinstance(frame, Interrupt):
            print(f"turn {frame.turn} is cut by the {frame.cause}")

    pipeline.observe(watch)
    await pipeline.run()


if __name__ == "__main__":
    anyio.run(main)
