"""Where virtual time was before it was public."""

from framepipe.testing.virtual_time import VirtualLoop as VirtualLoop
from framepipe.testing.virtual_time import run_virtual as run_virtual
