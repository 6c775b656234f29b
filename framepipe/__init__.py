"""Voice agents that can be interrupted like a person.

The table of contents: assemble a graph, write a stage, speak in frames, meet errors.
"""

# Assemble a graph
from framepipe.graph import Fork as Fork
from framepipe.graph import lossy as lossy
from framepipe.pipeline import Pipeline as Pipeline
from framepipe.pipeline import PipelineStatistics as PipelineStatistics
from framepipe.pipeline import StageStatistics as StageStatistics
from framepipe.policy import Policy as Policy
from framepipe.mailbox import MailboxStatistics as MailboxStatistics

# Write a stage
from framepipe.processor import Emit as Emit
from framepipe.processor import on as on
from framepipe.processor import supervised as supervised

# Speak in frames: the bases
from framepipe.frames import Frame as Frame
from framepipe.frames import Interruptible as Interruptible
from framepipe.frames import Ordered as Ordered
from framepipe.frames import UrgentDown as UrgentDown
from framepipe.frames import UrgentUp as UrgentUp
from framepipe.frames import evolve as evolve

# Speak in frames: the frames
from framepipe.frames import AudioDone as AudioDone
from framepipe.frames import AudioIn as AudioIn
from framepipe.frames import AudioOut as AudioOut
from framepipe.frames import ConnectionState as ConnectionState
from framepipe.frames import Drained as Drained
from framepipe.frames import DropParked as DropParked
from framepipe.frames import EchoReference as EchoReference
from framepipe.frames import End as End
from framepipe.frames import Escalate as Escalate
from framepipe.frames import GuardTools as GuardTools
from framepipe.frames import Heard as Heard
from framepipe.frames import Hold as Hold
from framepipe.frames import Interrupt as Interrupt
from framepipe.frames import InterruptionReport as InterruptionReport
from framepipe.frames import InterruptionTotals as InterruptionTotals
from framepipe.frames import Mute as Mute
from framepipe.frames import Played as Played
from framepipe.frames import Problem as Problem
from framepipe.frames import Proceed as Proceed
from framepipe.frames import Release as Release
from framepipe.frames import ReplyPending as ReplyPending
from framepipe.frames import ReplyReady as ReplyReady
from framepipe.frames import Say as Say
from framepipe.frames import Sound as Sound
from framepipe.frames import Speak as Speak
from framepipe.frames import SpeechConfirmed as SpeechConfirmed
from framepipe.frames import SpeechRejected as SpeechRejected
from framepipe.frames import SpeechStarted as SpeechStarted
from framepipe.frames import SpeechStopped as SpeechStopped
from framepipe.frames import Revoke as Revoke
from framepipe.frames import Swallow as Swallow
from framepipe.frames import TextIn as TextIn
from framepipe.frames import TextOut as TextOut
from framepipe.frames import ToolCall as ToolCall
from framepipe.frames import ToolResult as ToolResult
from framepipe.frames import Transcript as Transcript
from framepipe.frames import TurnAmended as TurnAmended
from framepipe.frames import Undo as Undo
from framepipe.frames import Unmute as Unmute
from framepipe.frames import Usage as Usage
from framepipe.frames import UserTurn as UserTurn
from framepipe.frames import Withdrawn as Withdrawn

# Meet errors
from framepipe.errors import EmitError as EmitError
from framepipe.errors import FrameError as FrameError
from framepipe.errors import FramepipeError as FramepipeError
from framepipe.errors import LocalProtocolError as LocalProtocolError
from framepipe.errors import MailboxFull as MailboxFull
from framepipe.errors import ProcessorError as ProcessorError
from framepipe.errors import ProtocolError as ProtocolError
from framepipe.errors import RemoteProtocolError as RemoteProtocolError
from framepipe.errors import TransportBroken as TransportBroken
from framepipe.errors import TransportClosed as TransportClosed
from framepipe.errors import TransportError as TransportError
from framepipe.errors import WiringError as WiringError
