"""`framepipe talk --terminal`: the machine's own microphone and loudspeaker.

What was said scrolls by; the last two lines show the levels and what the agent is doing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import anyio
from attrs import define, evolve, field
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from framepipe import Frame
from framepipe.audio import rms_dbfs
from framepipe.clock import now_ns
from framepipe.frames import AudioIn, Played
from framepipe.talk.assembly import Assemble
from framepipe.talk.page_news import News, PageNews
from framepipe.talk.run import TalkOptions, assembling
from framepipe_processors.transports.sound_card import SoundCard

FLOOR_DBFS: Final = -60.0
"""Level at which a meter shows nothing."""

METER_WIDTH: Final = 24
"""Characters of a meter."""

_STATES: Final = {"open": "connected", "connecting": "connecting", "closed": "closed"}


def talk_in_terminal(
    options: TalkOptions,
    console: Console,
    *,
    input_device: int | str | None = None,
    output_device: int | str | None = None,
    headphones: bool = False,
    cancel_echo: bool = False,
) -> None:
    """Talk until somebody presses Ctrl-C.

    Args:
        options: Where the model is; what concerns the page does not count.
        console: The screen.
        input_device: Number or name of the microphone; ``None``: the system's choice.
        output_device: The same for the loudspeaker.
        headphones: The microphone does not hear the agent.
        cancel_echo: Take the agent's voice out of what the microphone heard (extra ``aec``).

    Raises:
        TransportError: There is no microphone or no loudspeaker, or they have gone.
        FramepipeError: The call failed.
    """
    card = SoundCard(input_device=input_device, output_device=output_device)
    heard = evolve(options, loudspeaker=not headphones, tap=card.tap if cancel_echo else None)
    anyio.run(_talk, heard, card, console)


async def _talk(options: TalkOptions, card: SoundCard, console: Console) -> None:
    async with assembling(options) as assemble:
        await hold_call(assemble, card, console)


async def hold_call(assemble: Assemble, card: SoundCard, console: Console) -> None:
    """Hold one call with what happens on the screen. Cancellation leaves the screen in order."""
    pipeline = assemble(card.mic, card.speaker).pipeline
    screen = TerminalScreen(PageNews(now_ns()), lambda line: console.print(line, highlight=False))
    pipeline.observe(screen.observe)
    with Live(get_renderable=screen.status, console=console, refresh_per_second=10, transient=True):
        await pipeline.run()


@define(eq=False)
class TerminalScreen:
    """What the terminal shows of a pipeline.

    Attributes:
        news: Says what there is to show.
        tell: Prints a line that stays.
    """

    news: PageNews
    tell: Callable[[str], None]
    _mic_dbfs: float = -math.inf
    _agent_dbfs: float = -math.inf
    _state: str = "connecting"
    _is_muted: bool = False
    _words: dict[str, str] = field(factory=dict[str, str])

    def observe(self, what: str, stage: str, frame: Frame) -> None:
        """The pipeline's observer."""
        if what == "emitted" and isinstance(frame, AudioIn) and stage == "SoundCardMic":
            self._mic_dbfs = rms_dbfs(frame.pcm_bytes())
        elif what == "emitted" and isinstance(frame, Played):
            self._agent_dbfs = frame.level_dbfs
        for news in self.news.receive(what, frame, now_ns()):
            self._show(news)

    def status(self) -> RenderableType:
        """The lines at the bottom: levels, and how the agent is."""
        state = "muted: was that you?" if self._is_muted else self._state
        return Group(
            Text(f"you   {_meter(self._mic_dbfs)}"),
            Text(f"agent {_meter(self._agent_dbfs)}  {state}  (Ctrl-C ends)"),
        )

    def _show(self, news: News) -> None:
        match news:
            case {"type": "transcript", "who": "agent", "item": item, "text": text, "final": final}:
                self._words[item] = text if final else self._words.get(item, "") + text
                if final:
                    self.tell(f"agent: {self._words.pop(item)}")
            case {"type": "transcript", "who": "user", "text": text, "final": True}:
                self.tell(f"you: {text or '(no words)'}")
            case {"type": "heard", "item": item, "text": text, "unheard": unheard}:
                self._words.pop(item, None)
                if text and unheard:
                    self.tell(f"agent, as you heard it: {text} ✕")
            case {"type": "span", "who": "mute", "on": bool(on)}:
                self._is_muted = on
            case {"type": "figures", "verdict": verdict, "cause": cause}:
                silent = news["onset_to_mute_ms"]
                after = "" if silent is None else f", silent after {silent:.0f} ms"
                self.tell(f"  {verdict} ({cause}{after})")
            case {"type": "state", "state": state, "reason": reason}:
                self._state = " ".join(filter(None, (_STATES.get(state, state), reason)))
            case {"type": "problem", "message": message}:
                self.tell(f"problem: {message}")
            case _:
                pass


def _meter(dbfs: float) -> str:
    share = min(1.0, max(0.0, 1 - dbfs / FLOOR_DBFS)) if dbfs > FLOOR_DBFS else 0.0
    filled = round(share * METER_WIDTH)
    return "█" * filled + "·" * (METER_WIDTH - filled)
