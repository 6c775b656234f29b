"""Four frames that no processor knows, one for each way to travel.

For tests of how frames travel, not of what is in them: every processor must pass them untouched.
"""

from __future__ import annotations

from attrs import frozen

from framepipe.frames import Interruptible, Ordered, UrgentDown, UrgentUp


@frozen(kw_only=True)
class Note(Ordered):
    """Goes down in order.

    Attributes:
        n: Tells it from others.
        path: The stages that have written themselves on it.
    """

    n: int = 0
    path: tuple[str, ...] = ()


@frozen(kw_only=True)
class Piece(Interruptible):
    """Goes down in order, and is dropped when its turn is cut.

    Attributes:
        n: Tells it from others.
        path: The stages that have written themselves on it.
    """

    n: int = 0
    path: tuple[str, ...] = ()


@frozen(kw_only=True)
class Nod(UrgentDown):
    """Goes down past everything that waits.

    Attributes:
        n: Tells it from others.
    """

    n: int = 0


@frozen(kw_only=True)
class Call(UrgentUp):
    """Goes up past everything that waits.

    Attributes:
        n: Tells it from others.
    """

    n: int = 0
