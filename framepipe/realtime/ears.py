"""Ears that make words out of a recording: pocketsphinx with a grammar.

Free dictation does not work offline at this size; a grammar does, where the task is narrow. The
extra ``ears`` brings pocketsphinx and its English model. Listening to a turn takes some 300 ms,
for which the event loop waits.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from framepipe.audio import Resampler, silence
from framepipe.errors import FramepipeError
from framepipe.realtime.booking import CITIES
from framepipe.realtime.speech import RATE_HZ

_MODEL_RATE_HZ = 16_000


class EarsError(FramepipeError):
    """There are no ears: the extra is not installed, or the grammar cannot be used."""


class GrammarEars:
    """Hears what a grammar allows; see `framepipe.realtime.mind.Ears`.

    Args:
        grammar: Text in the Java Speech Grammar Format.

    Raises:
        EarsError: pocketsphinx is not installed, or does not take the grammar.
    """

    def __init__(self, grammar: str) -> None:
        try:
            library: Any = import_module("pocketsphinx")
        except ImportError as error:
            raise EarsError(
                "these ears need pocketsphinx; say pip install 'framepipe[ears]'"
            ) from error
        self._decoder: Any = library.Decoder(lm=None, loglevel="FATAL", samprate=_MODEL_RATE_HZ)
        try:
            self._decoder.add_jsgf_string("framepipe", grammar)
            self._decoder.activate_search("framepipe")
        except (RuntimeError, KeyError, ValueError) as error:
            raise EarsError(
                f"the grammar cannot be used: {error}; is it JSGF, with words of the dictionary?"
            ) from error

    def __call__(self, nth: int, pcm: bytes, /) -> str | None:
        """The words in a recording (24 kHz mono s16le); ``None`` when the grammar has none."""
        converter = Resampler(RATE_HZ, _MODEL_RATE_HZ, aligned=True)
        heard = converter.process(pcm + silence(RATE_HZ // 4)) + converter.flush()
        self._decoder.start_utt()
        self._decoder.process_raw(heard, full_utt=True)
        self._decoder.end_utt()
        best = self._decoder.hyp()
        return best.hypstr if best is not None and best.hypstr else None


def read_grammar(path: Path) -> GrammarEars:
    """Ears for a grammar in a file.

    Raises:
        EarsError: As `GrammarEars`, or the file cannot be read.
    """
    try:
        return GrammarEars(path.read_text("utf-8"))
    except OSError as error:
        raise EarsError(f"{path}: {error.strerror}; give a file that can be read") from error
    except UnicodeDecodeError as error:
        raise EarsError(f"{path} is not UTF-8: {error}; save it as that") from error


def booking_grammar() -> str:
    """What the users of `Booking` may say, in JSGF: cities, weekdays, yes, no, corrections."""
    cities = " | ".join(city.lower() for city in CITIES)
    return f"""#JSGF V1.0;
grammar booking;
<city> = {cities};
<day> = monday | tuesday | wednesday | thursday | friday | saturday | sunday | today | tomorrow;
<yes> = yes | yeah | sure | correct | right | okay;
<no> = no | nope | wrong | wait;
<trip> = from <city> | to <city> | [to] <city> on <day> | [make it] <day> | on <day>
       | from <city> to <city> [on <day> | <day>] | not <city> <city> | <city>;
public <turn> = <yes> [please] | <no> [<trip>] | [i want to fly | a flight | i need a flight]
       <trip> [please];
"""
