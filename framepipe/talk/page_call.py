"""One call with one page: its pipeline, what the page is told of it, and what it may ask."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

from framepipe import Frame, TextIn
from framepipe.clock import now_ns
from framepipe.errors import EmitError, FramepipeError, ProcessorError, only_error
from framepipe.talk.assembly import Assemble
from framepipe.talk.page_news import PageNews
from framepipe_processors.transports.browser import Browser

MAX_TEXT: Final = 2_000
"""Typed words, in characters; the page's own limit."""

MAX_WAITING_ASKS: Final = 32
"""What a person may ask for before the first of it is done."""

_log: Final = logging.getLogger("framepipe")


class PageCall:
    """A call that lives as long as its page, over any number of sockets.

    Args:
        assemble: Makes the pipeline.

    Attributes:
        browser: The page as microphone and loudspeaker.
        reason: Why the call ended, for the person.

    Raises:
        WiringError: The pipeline cannot be made.
    """

    def __init__(self, assemble: Assemble) -> None:
        self.browser = Browser(on_ask=self._ask)
        self.reason = ""
        self._assembly = assemble(self.browser.mic, self.browser.speaker)
        self._tasks: TaskGroup | None = None
        self._changing = 0
        self._news: PageNews | None = None

    async def run(self) -> None:
        """Hold the call until it ends. What goes wrong is told to the page, and logged.

        Cancellation leaves nothing behind.
        """
        pipeline = self._assembly.pipeline
        self._news = PageNews(now_ns())
        detach = pipeline.observe(self._show)
        self._show_settings()
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                await pipeline.run()
                tasks.cancel_scope.cancel()
            self.reason = "The call has ended."
        except Exception as raised:
            self.reason = _in_words(only_error(raised))
            _log.warning("a call ended: %s", self.reason)
            if not isinstance(only_error(raised), FramepipeError):
                raise
        finally:
            self._tasks = None
            detach()
            self.browser.hang_up()

    def _show(self, what: str, _stage: str, frame: Frame) -> None:
        assert self._news is not None, "observing begins with the call"
        for news in self._news.receive(what, frame, now_ns()):
            self.browser.tell(news)

    def _show_settings(self) -> None:
        self.browser.tell({"type": "settings", **self._assembly.values})

    def _ask(self, what: str, value: Any) -> None:
        if self._tasks is None:
            return
        try:
            match what, value:
                case "stop", _:
                    self._assembly.pipeline.interrupt(cause="stop button")
                case "text", str(text) if 0 < len(text.strip()) <= MAX_TEXT:
                    self._assembly.pipeline.emit(TextIn(text=text.strip()))
                case "setting", {"name": str(name), "value": new}:
                    self._set(name, new)
                case _:
                    self._problem(f"the page asked for {what!r}, which there is not")
        except EmitError as error:
            self._problem(str(error))

    def _set(self, name: str, value: object) -> None:
        change = self._assembly.settings.get(name)
        if change is None or self._tasks is None:
            self._problem(f"{name} cannot be changed in this call")
        elif self._changing < MAX_WAITING_ASKS:
            self._changing += 1
            self._tasks.start_soon(self._change, name, change, value)

    async def _change(self, name: str, change: Callable[[Any], Any], value: object) -> None:
        try:
            await change(value)
        except (FramepipeError, TypeError, ValueError) as error:
            self._problem(f"{name}: {error}")
        finally:
            self._changing -= 1

    def _problem(self, message: str) -> None:
        self.browser.tell({"type": "problem", "message": message})


def _in_words(error: BaseException) -> str:
    cause = error.__cause__ if isinstance(error, ProcessorError) else None
    told = cause or error
    return " ".join(str(told).split()) or type(told).__name__
