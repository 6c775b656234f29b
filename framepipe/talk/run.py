"""`framepipe talk`: a service or the embedded server, and a page or the terminal in front of it."""

from __future__ import annotations

import webbrowser
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import anyio
from attrs import frozen

from framepipe.conversation.playback_tap import PlaybackTap
from framepipe.realtime.mind import Mind, Talk
from framepipe.realtime.server import ServerSettings, server_in_process
from framepipe.talk.assembly import Assemble, Service, from_module, usual

ANSWER_MS = 15_000
"""Length of the embedded server's answers: long enough to be talked over."""


@frozen(kw_only=True)
class TalkOptions:
    """What `framepipe talk` was asked for.

    Attributes:
        service: Where the model is; ``None``: an embedded server, without a model.
        mind: What the embedded server answers.
        pipeline: ``module:function`` that makes the pipeline; ``None``: the usual one.
        host: Address of the page.
        port: Port of the page; 0 takes a free one.
        open_page: Open the page in the person's browser.
        loudspeaker: The microphone hears the agent, and nothing before it takes that out.
        tap: What was played, to cancel its echo.
    """

    service: Service | None = None
    mind: Mind = Talk(ANSWER_MS)  # noqa: RUF009 - has no state
    pipeline: str | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    open_page: bool = True
    loudspeaker: bool = False
    tap: PlaybackTap | None = None


@asynccontextmanager
async def assembling(options: TalkOptions) -> AsyncGenerator[Assemble, None]:
    """How pipelines are made while the context lasts; the embedded server lives in it.

    Raises:
        WiringError: The user's pipeline cannot be found.
    """
    if options.pipeline is not None:
        yield from_module(options.pipeline)
    elif options.service is not None:
        yield usual(options.service, loudspeaker=options.loudspeaker, tap=options.tap)
    else:
        async with server_in_process(ServerSettings(mind=options.mind)) as server:
            embedded = Service(
                url="ws://127.0.0.1/v1/realtime", connect=server.connect, greeting="Say hello."
            )
            yield usual(embedded, loudspeaker=options.loudspeaker, tap=options.tap)


def talk_on_page(options: TalkOptions, tell: Callable[[str], None]) -> None:
    """Serve the page until somebody presses Ctrl-C.

    Args:
        options: What is served.
        tell: Is told, line by line, what a person wants to know.

    Raises:
        FramepipeError: The port is taken, or the pipeline cannot be found.
        ImportError: The extra ``server`` is not installed.
    """
    anyio.run(_serve, options, tell)


async def _serve(options: TalkOptions, tell: Callable[[str], None]) -> None:
    from framepipe.talk.app import TalkSettings, serve_page

    def ready(address: str) -> None:
        tell(f"{address}  (Ctrl-C ends)")
        if options.open_page:
            webbrowser.open(address)

    async with assembling(options) as assemble:
        settings = TalkSettings(assemble=assemble, host=options.host, port=options.port)
        await serve_page(settings, ready)
