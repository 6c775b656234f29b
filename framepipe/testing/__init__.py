"""The test kit: what framepipe is tested with, for those who build on it.

The table of contents. What needs hypothesis is imported from its own module.
"""

# Time
from framepipe.testing.virtual_time import VirtualLoop as VirtualLoop
from framepipe.testing.virtual_time import VirtualTimeError as VirtualTimeError
from framepipe.testing.virtual_time import run_virtual as run_virtual
from framepipe.testing.virtual_time import virtual_backend as virtual_backend

# Frames in, frames out
from framepipe.testing.script import Collector as Collector
from framepipe.testing.script import Script as Script
from framepipe.testing.script import Step as Step
from framepipe.testing.script import Wait as Wait
from framepipe.testing.script import collect as collect
from framepipe.testing.script import play as play
from framepipe.testing.written import assert_golden as assert_golden
from framepipe.testing.written import assert_same_frames as assert_same_frames
from framepipe.testing.written import difference as difference
from framepipe.testing.written import written as written

# Somebody before the microphone
from framepipe.testing.people import Act as Act
from framepipe.testing.people import Cough as Cough
from framepipe.testing.people import Pause as Pause
from framepipe.testing.people import Recorded as Recorded
from framepipe.testing.people import ScriptedUser as ScriptedUser
from framepipe.testing.people import Speech as Speech

# Somebody at the other end
from framepipe.realtime.connection import memory_pair as memory_pair
from framepipe.realtime.server import ServerSettings as ServerSettings
from framepipe.realtime.server import server_in_process as server_in_process
from framepipe.testing.service import ScriptedService as ScriptedService

# Whole conversations
from framepipe.testing.conversation import Conversation as Conversation
from framepipe.testing.conversation import Held as Held
from framepipe.testing.conversation import hold as hold
