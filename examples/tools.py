"""A tool: the model asks for the weather, and speaks when it knows.

You will see the typed question, the call that the model makes of it, what the tool answered, and
what the model says then. The service is an embedded server in this process; its mind is a script.
"""

from __future__ import annotations

import anyio

from framepipe import AudioIn, Emit, Frame, Pipeline, TextIn, ToolCall, ToolResult, Transcript
from framepipe.audio import silence
from framepipe.realtime.mind import Scripted, ToolUse
from framepipe.realtime.server import ServerSettings, server_in_process
from framepipe.realtime.tools import tool
from framepipe_processors import Realtime

SCRIPT = Scripted([[ToolUse(name="weather", arguments='{"city": "Oslo"}')], "It is sunny in Oslo."])


@tool(time_limit_s=5)
async def weather(city: str, days: int = 0) -> str:
    """Tell the weather forecast.

    Args:
        city: Where.
        days: How many days ahead, 0 to 7.
    """
    await anyio.sleep(0.4)  # somebody has to be asked
    return f"sunny in {city}, {21 - days} degrees"


class Quiet:
    """A microphone in a silent room."""

    async def run(self, emit: Emit[AudioIn]) -> None:
        for block in range(100):
            await emit.until(emit.now_ns() + 20_000_000)
            emit(AudioIn(pcm=silence(480), rate_hz=24_000, start_sample=block * 480))


async def converse() -> None:
    async with server_in_process(ServerSettings(mind=SCRIPT)) as server:
        pipeline = Pipeline(Quiet(), Realtime(tools=(weather,), connect=server.connect))

        def watch(what: str, stage: str, frame: Frame) -> None:
            if what != "emitted":
                return
            if isinstance(frame, ToolCall):
                print(f"the model calls {frame.name} with {frame.arguments}")
            elif isinstance(frame, ToolResult):
                print(f"{frame.name} answers: {frame.output}")
            elif isinstance(frame, Transcript) and frame.final:
                print(f"the {frame.who} says: {frame.text}")

        pipeline.observe(watch)
        async with pipeline:
            print("the user types: what is the weather in Oslo?")
            pipeline.emit(TextIn(text="What is the weather in Oslo?"))
            await anyio.sleep(4)


if __name__ == "__main__":
    anyio.run(converse)
