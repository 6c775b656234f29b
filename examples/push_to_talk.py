"""Push-to-talk: the user holds a button, and the application ends the turn.

You will see when the button is released, and what the agent says to the words before it. The
microphone is a recording, the service an embedded server in this process.
"""

from __future__ import annotations

import anyio

from framepipe import Frame, Pipeline, Transcript
from framepipe.demo import USER_WAV
from framepipe.realtime.mind import Scripted
from framepipe.realtime.server import ServerSettings, server_in_process
from framepipe.realtime.session import SessionSettings
from framepipe_processors import Realtime, WavSource


async def converse() -> None:
    async with server_in_process(ServerSettings(mind=Scripted(["I heard you."]))) as server:
        model = Realtime(SessionSettings(turn_detection=None), connect=server.connect)
        pipeline = Pipeline(WavSource(USER_WAV), model)

        def watch(what: str, stage: str, frame: Frame) -> None:
            if what == "emitted" and isinstance(frame, Transcript) and frame.final:
                print(f"the {frame.who} says: {frame.text}")

        pipeline.observe(watch)
        async with pipeline:
            await anyio.sleep(2.0)
            print("the button is released")
            model.commit()
            await anyio.sleep(2.0)


if __name__ == "__main__":
    anyio.run(converse)
