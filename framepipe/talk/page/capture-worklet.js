// The page's microphone: blocks of 16-bit samples, numbered since the call began.

const BLOCK_SAMPLES = 240; // 10 ms at 24 kHz: the local detector's frame

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Int16Array(BLOCK_SAMPLES);
    this.filled = 0;
    this.position = 0;
    this.energy = 0;
    this.isMuted = false;
    this.port.onmessage = ({ data }) => {
      this.isMuted = data.muted;
    };
  }

  process(inputs) {
    const input = inputs[0][0];
    const n = input === undefined ? 128 : input.length;
    for (let i = 0; i < n; i++) {
      // A muted microphone, and one that has gone, send silence: the clock must not stop.
      const sample = input === undefined || this.isMuted ? 0 : input[i];
      this.energy += sample * sample;
      const scaled = Math.round(sample * 32768);
      this.block[this.filled++] = Math.max(-32768, Math.min(32767, scaled));
      if (this.filled === BLOCK_SAMPLES) this.send();
    }
    return true;
  }

  send() {
    const pcm = this.block.slice();
    const rms = Math.sqrt(this.energy / BLOCK_SAMPLES);
    this.port.postMessage({ start: this.position, pcm, rms }, [pcm.buffer]);
    this.position += BLOCK_SAMPLES;
    this.filled = 0;
    this.energy = 0;
  }
}

registerProcessor("capture", Capture);
