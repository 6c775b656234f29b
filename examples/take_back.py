"""Take back a turn: the user corrects themselves while the agent already answers.

You will see the first answer begin, being taken back with a hint, and the second one: what the
agent said and did because of the first words is void, and the words themselves stay. The service
is an embedded server in this process; its mind is a script.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import anyio

from framepipe import Frame, Interrupt, Pipeline, ReplyPending, Revoke, Transcript
from framepipe.demo import USER_WAV
from framepipe.realtime.mind import Scripted, given_words, text_of
from framepipe.realtime.server import ServerSettings, server_in_process
from framepipe.realtime.session import SessionSettings, Transcription
from framepipe_processors import Playout, Realtime, WavSink, WavSource

MIND = Scripted(
    ["There are three flights to Denver, at nine, ten and noon.", "To Chicago, then.", "Bye."]
)


async def converse(speaker: Path) -> None:
    asked: list[str] = []
    answers = anyio.Event()
    settings = ServerSettings(mind=MIND, ears=given_words(["a flight to Denver", "thank you"]))
    async with server_in_process(settings) as server:
        model = Realtime(SessionSettings(transcription=Transcription()), connect=server.connect)
        pipeline = Pipeline(WavSource(USER_WAV, tail_ms=3_000), model, Playout(), WavSink(speaker))

        def watch(what: str, stage: str, frame: Frame) -> None:
            if what == "cut" and isinstance(frame, Interrupt):
                print(f"cut: {frame.cause}")
            elif what == "emitted" and isinstance(frame, ReplyPending):
                asked.extend(frame.item_ids)
                answers.set()
            elif what == "emitted" and isinstance(frame, Transcript) and frame.final:
                print(f"the {frame.who} says: {frame.text}")

        pipeline.observe(watch)
        async with pipeline:
            await answers.wait()
            await anyio.sleep(1.5)
            print("no, wait: not Denver")
            hint = "The user meant Chicago, not Denver."
            pipeline.emit(Revoke(item_ids=(asked[0],), hint=hint))
            await anyio.sleep(3.0)
        for item in server.sessions[0].conversation.items:
            print(f"the service remembers: {item.role} {text_of(item) or ''}".rstrip())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(converse, Path(folder) / "agent.wav")
