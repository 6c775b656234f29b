// The page's loudspeaker: the queue lives here, on the audio thread, so that one message silences it
// within one render quantum.

import { PlaybackCore } from "./playback-core.js";

const REPORT_QUANTA = 4; // 21 ms at 24 kHz

class Playback extends AudioWorkletProcessor {
  constructor() {
    super();
    this.core = new PlaybackCore();
    this.quanta = 0;
    this.energy = 0;
    this.samples = 0;
    this.wasSounding = false;
    this.port.onmessage = ({ data }) => this.obey(data);
  }

  obey(message) {
    const core = this.core;
    if (message.type === "sound") {
      core.hand(message.line, message.samples, message.inTheMiddle);
      return;
    }
    if (message.type === "mute") core.mute(message.order, message.gain, message.fade_samples);
    if (message.type === "unmute") core.unmute(message.order, message.fade_samples);
    if (message.type === "cut") core.cut(message.order, message.line, message.fade_samples);
    this.report();
  }

  process(_inputs, outputs) {
    const out = outputs[0][0];
    const n = this.core.render(out);
    for (let i = 0; i < n; i++) this.energy += out[i] * out[i];
    this.samples += out.length;
    this.quanta += 1;
    const due = this.quanta >= REPORT_QUANTA && n > 0;
    if (due || (this.wasSounding && n === 0)) this.report();
    this.wasSounding = n > 0;
    return true;
  }

  report() {
    const rms = this.samples > 0 ? Math.sqrt(this.energy / this.samples) : 0;
    this.port.postMessage({ ...this.core.report(), rms, isSounding: this.core.isSounding });
    this.quanta = this.samples = this.energy = 0;
  }
}

registerProcessor("playback", Playback);
