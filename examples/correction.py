"""A correction: "to Denver" … "no, to Chicago", and only Chicago is booked.

You will see the user's turns as they grow, what is revoked on the service, and the booking that
waits until its turn is committed. The user is noise with known words, the service an embedded
server in this process. It takes as long as the call: 17 seconds.
"""

from __future__ import annotations

import anyio

from framepipe import Frame, Pipeline, Proceed, Revoke, ToolCall, TurnAmended, UserTurn
from framepipe.realtime.booking import Booking
from framepipe.realtime.connection import Connect
from framepipe.realtime.mind import given_words
from framepipe.realtime.server import ServerSettings, server_in_process
from framepipe.realtime.session import SessionSettings, Transcription
from framepipe.realtime.tools import tool
from framepipe.realtime.window_detectors import LoudWindows
from framepipe.testing import Pause, ScriptedUser, Speech
from framepipe_processors import BargeIn, LocalVad, Playout, Realtime, Turns, WavSink

WORDS = ["I want to fly from Oslo to Denver on Friday", "no, to Chicago", "yes please"]
USER = ScriptedUser(
    Pause(500), Speech(2_000), Pause(800), Speech(600), Pause(7_100), Speech(400), Pause(5_600)
)


@tool(effects=True)
async def book_flight(origin: str, destination: str, day: str, prepared: int) -> str:
    """Book a flight, for money."""
    print(f"booked: {origin} to {destination}, {day}, for {prepared} euros")
    return f"{origin} to {destination}, {day}"


@book_flight.prepare
async def price(origin: str, destination: str, day: str) -> int:
    print(f"what does {origin} to {destination} cost on {day}?")
    return 10 * len(origin + destination)


def amended(what: TurnAmended) -> None:
    for call in what.calls:
        print(f"please look at {call.name} again: {what.old} is {what.new} now")


def chain(connect: Connect) -> Pipeline:
    session = SessionSettings(transcription=Transcription())
    return Pipeline(
        USER,
        LocalVad(second_stage=False),  # it would call the noise what it is
        Realtime(session, tools=(book_flight,), connect=connect),
        Turns(on_amended=amended),
        Playout(),
        BargeIn(),
        WavSink(),
    )


def watch(what: str, stage: str, frame: Frame) -> None:
    if what != "emitted":
        return
    match frame:
        case UserTurn():
            print(f"{frame.turn_id} is {frame.state}: {frame.text!r}")
        case Revoke(item_ids=item_ids):
            print(f"revoked: the answer to {len(item_ids)} item")
        case ToolCall():
            print(f"the model calls {frame.name}")
        case Proceed():
            print("it may go ahead")
        case _:
            pass


async def main() -> None:
    settings = ServerSettings(mind=Booking(), ears=given_words(WORDS), detector=LoudWindows)
    async with server_in_process(settings) as server:
        pipeline = chain(server.connect)
        pipeline.observe(watch)
        await pipeline.run()


if __name__ == "__main__":
    anyio.run(main)
