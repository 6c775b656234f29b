"""The processors that come with framepipe, one a file."""

from framepipe_processors.bargein import BargeIn as BargeIn
from framepipe_processors.echo_canceller import EchoCanceller as EchoCanceller
from framepipe_processors.local_vad import LocalVad as LocalVad
from framepipe_processors.mic_gate import MicGate as MicGate
from framepipe_processors.playout import Playout as Playout
from framepipe_processors.realtime import Realtime as Realtime
from framepipe_processors.resample import Resample as Resample
from framepipe_processors.turns import Turns as Turns
from framepipe_processors.wav_sink import WavSink as WavSink
from framepipe_processors.wav_source import WavSource as WavSource
