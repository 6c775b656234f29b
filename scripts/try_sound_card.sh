#!/usr/bin/env bash
# Hold a call in the terminal on a PulseAudio null sink: a loudspeaker whose sound comes back as the
# microphone. For machines without sound; needs Debian's pulseaudio, libasound2-plugins, libportaudio2
# and framepipe[audio].
#
#   scripts/try_sound_card.sh [seconds] [user.wav]
#
# Prints what the call prints. The user's recording is played into the same sink, so the agent hears
# itself as well: what is tried here is the device, not the conversation.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-8}
user=${2:-framepipe/demo/user.wav}
XDG_RUNTIME_DIR=$(mktemp -d)
export XDG_RUNTIME_DIR
chmod 700 "$XDG_RUNTIME_DIR"
# Without a latency of their own, null sinks take two seconds, and streams of 24 kHz stall.
export PULSE_LATENCY_MSEC=30 PULSE_SINK=vnull PULSE_SOURCE=vnull.monitor
pulseaudio -n --daemonize=no --exit-idle-time=-1 --disallow-exit --log-level=error \
  -L module-native-protocol-unix -L "module-null-sink sink_name=vnull rate=48000" &
daemon=$!
trap 'kill $daemon 2>/dev/null; rm -rf "$XDG_RUNTIME_DIR"' EXIT
for _ in $(seq 50); do
  pactl info >/dev/null 2>&1 && break
  sleep 0.1
done
(sleep 1; paplay "$user") &
timeout --signal=INT "$seconds" .venv/bin/python -m framepipe.cli talk --terminal || [ $? -ge 124 ]
