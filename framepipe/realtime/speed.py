"""Speech faster or slower at its own pitch: waveform-similarity overlap-add.

Frames of 30 ms are laid down every 15 ms. Each is taken from where the speed says, moved by up to
8 ms to where it fits best what follows the frame before it, so that the periods of the voice meet.

Source: Verhelst and Roelands, "An overlap-add technique based on waveform similarity (WSOLA)",
ICASSP 1993.
"""

from __future__ import annotations

import numpy as np

from framepipe.audio import pcm_of, samples_of
from framepipe.realtime.speech import RATE_HZ

_HOP = RATE_HZ * 15 // 1000
_FRAME = 2 * _HOP
_REACH = RATE_HZ * 8 // 1000


def at_speed(pcm: bytes, speed: float) -> bytes:
    """Speech at another speed.

    Args:
        pcm: 24 kHz mono s16le.
        speed: Greater than 0; 1 gives back what came.

    Returns:
        ``1 / speed`` times as many samples; less than 60 ms are not stretched, only cut.
    """
    samples = samples_of(pcm).astype(np.float64)
    wanted = round(len(samples) / speed)
    if speed == 1 or len(samples) < 2 * _FRAME or not wanted:
        return pcm[: 2 * wanted] if speed > 1 else pcm
    window = np.hanning(_FRAME + 1)[:_FRAME]
    padded = np.concatenate((np.zeros(_FRAME), samples, np.zeros(2 * _FRAME + _REACH)))
    made = np.zeros(wanted + 2 * _FRAME)
    last = len(padded) - 2 * _FRAME - _REACH
    taken = _FRAME
    for at in range(0, wanted + _HOP, _HOP):
        place = min(_FRAME + round((at - _HOP) * speed), last)
        if at:
            natural = padded[taken + _HOP : taken + _HOP + _FRAME]
            begin = max(0, place - _REACH)
            likeness = np.correlate(padded[begin : place + _REACH + _FRAME], natural, "valid")
            place = begin + int(np.argmax(likeness))
        made[at : at + _FRAME] += window * padded[place : place + _FRAME]
        taken = min(place, last)
    return pcm_of(made[_HOP : _HOP + wanted])
