"""Scripted dialogues: what a user says and when, and what he wants in the end.

A corpus is a folder of YAML files, each a list of dialogues:

    - id: denver-no-chicago
      kind: inside a turn
      user:
        - I want to fly to Denver (700) wait no (150) Chicago
        - from Boston
        - {over: 400, corrects: true, say: no wait from Austin}
        - on Friday
        - yes please
      wants: [{from: Austin, to: Chicago, day: Friday}]

A number in parentheses is a pause in milliseconds. Each step waits for the agent to finish what
he says to the one before, and 400 ms more (``gap`` changes that); with ``over`` it begins so many
milliseconds into the agent's reply, with ``after`` so many after the user's own last word,
whatever the agent does. ``corrects`` marks a step that takes something back, ``goes_on`` one that
belongs to the turn before it, and ``backchannel`` one that wants no answer. ``wants`` are the
bookings that shall be made, in order; ``trip`` the one that is read back, where none is made.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Final

import msgspec
from attrs import frozen

from framepipe.errors import FrameError

LIMIT_WORDS: Final = 250
"""Words of one dialogue: each has a number of its own in one byte of every sample."""


class Trip(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"origin": "from"}):
    """A flight that is wanted.

    Attributes:
        origin: ``from`` in the file.
        to: Where to.
        day: When, as it was said.
    """

    origin: str
    to: str
    day: str

    def folded(self) -> tuple[str, str, str]:
        """For comparing: a day is the same with and without "the", "of" and "next"."""
        day = re.sub(r"\b(the|of|next)\b", " ", self.day.lower())
        return self.origin.lower(), self.to.lower(), " ".join(day.split())


class _Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    say: str
    over: int | None = None
    after: int | None = None
    gap: int = 400
    corrects: bool = False
    goes_on: bool = False
    backchannel: bool = False


class _Dialogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    kind: str
    user: list[str | _Step]
    wants: list[Trip] = []
    trip: Trip | None = None


@frozen
class Spoken:
    """One word, or one pause.

    Attributes:
        text: The word; "" for a pause.
        ms: Length of it.
    """

    text: str
    ms: int


@frozen(kw_only=True)
class Step:
    """Something that the user says.

    Attributes:
        spoken: Words and pauses.
        over_ms: So many milliseconds into the agent's reply; ``None``: not over it.
        after_ms: So many after the user's own last word; ``None``: after the reply.
        gap_ms: After the reply.
        corrects: It takes something back.
        goes_on: It belongs to the turn before it.
        is_backchannel: It wants no answer.
    """

    spoken: tuple[Spoken, ...]
    over_ms: int | None
    after_ms: int | None
    gap_ms: int
    corrects: bool
    goes_on: bool
    is_backchannel: bool

    @property
    def text(self) -> str:
        """The words."""
        return " ".join(part.text for part in self.spoken if part.text)


@frozen(kw_only=True)
class Dialogue:
    """One scripted call.

    Attributes:
        name: Unique in the corpus.
        kind: What it is an example of.
        held_out: It was written after the rules, and they were not changed for it.
        steps: What the user says.
        wants: The bookings that shall be made.
        trip: What is read back, where nothing is booked.
    """

    name: str
    kind: str
    held_out: bool
    steps: tuple[Step, ...]
    wants: tuple[Trip, ...]
    trip: Trip | None


HELD_OUT: Final = "held_out"
"""Files whose names begin with this are the part that no rule was made for."""


def checkout_corpus() -> Path:
    """The corpus of the checkout that this package runs from.

    Raises:
        FrameError: It runs from somewhere else.
    """
    folder = Path(__file__).parents[2] / "tests" / "turns" / "corpus"
    if not folder.is_dir():
        raise FrameError("this is no checkout, and has no corpus; name one with --corpus")
    return folder


def read_corpus(folder: Path) -> list[Dialogue]:
    """Read the dialogues of a folder, in the order of files and of places in them.

    Raises:
        FrameError: PyYAML is not installed, there is nothing to read, or a file is not
            understood; the message names it.
    """
    try:
        yaml = import_module("msgspec.yaml")
        import_module("yaml")
    except ImportError as error:
        raise FrameError("a corpus is YAML; say pip install pyyaml") from error
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise FrameError(f"{folder}: holds no *.yaml; --corpus names a folder of dialogues")
    dialogues: list[Dialogue] = []
    for path in paths:
        try:
            read = yaml.decode(path.read_bytes(), type=list[_Dialogue])
        except (OSError, msgspec.MsgspecError) as error:
            raise FrameError(f"{path}: {error}") from error
        held_out = path.name.startswith(HELD_OUT)
        dialogues += [_dialogue(one, path, held_out=held_out) for one in read]
    names = [dialogue.name for dialogue in dialogues]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise FrameError(f"{folder}: two dialogues are called {twice!r}; rename one")
    return dialogues


def _dialogue(read: _Dialogue, path: Path, *, held_out: bool) -> Dialogue:
    where = f"{path}: {read.id}"
    written = (_Step(say=one) if isinstance(one, str) else one for one in read.user)
    steps = tuple(_step(one, where) for one in written)
    if not steps:
        raise FrameError(f"{where}: the user says nothing; give him a step")
    if bool(read.wants) == (read.trip is not None):
        raise FrameError(f"{where}: give wants, or trip where nothing is booked, and not both")
    if sum(bool(part.text) for step in steps for part in step.spoken) > LIMIT_WORDS:
        raise FrameError(f"{where}: more than {LIMIT_WORDS} words; split it")
    return Dialogue(
        name=read.id,
        kind=read.kind,
        held_out=held_out,
        steps=steps,
        wants=tuple(read.wants),
        trip=read.trip,
    )


def _step(read: _Step, where: str) -> Step:
    spoken = tuple(
        Spoken("", int(part[1:-1])) if part.startswith("(") else Spoken(part, _word_ms(part))
        for part in read.say.split()
        if _is_part(part, where)
    )
    if not spoken or not spoken[0].text or not spoken[-1].text:
        raise FrameError(f"{where}: {read.say!r} must begin and end with a word")
    if read.over is not None and read.after is not None:
        raise FrameError(f"{where}: over and after in one step; take one")
    return Step(
        spoken=spoken,
        over_ms=read.over,
        after_ms=read.after,
        gap_ms=read.gap,
        corrects=read.corrects,
        goes_on=read.goes_on,
        is_backchannel=read.backchannel,
    )


def _is_part(part: str, where: str) -> bool:
    if part.startswith("(") and not re.fullmatch(r"\(\d{1,5}\)", part):
        raise FrameError(f"{where}: {part!r} is no pause; write (700) for 700 ms")
    return True


def _word_ms(word: str) -> int:
    """How long a word is spoken: about 180 words a minute, long words longer, "um" long."""
    letters = sum(letter.isalnum() for letter in word)
    if word.lower().strip(".,") in ("um", "uh", "er", "hmm"):
        return 380
    return 120 + 45 * max(1, letters)
