// One call: microphone and loudspeaker in worklets, one WebSocket, and what survives it.

const RATE_HZ = 24000;
const MIC_KEPT_BLOCKS = 1000; // 10 s of microphone audio wait for a new socket
const RETRY_MS = [200, 400, 800, 1600, 3000];
const IN_THE_MIDDLE = 1;

/** Everything that happens in a call is told to `view`; see view.js. */
export class Call {
  constructor(token, view) {
    this.token = token;
    this.view = view;
    this.session = crypto.randomUUID();
    this.hadSeq = 0;
    this.tries = 0;
    this.isOver = false;
    this.micKept = []; // blocks that Python may not have had, oldest first
    this.log = []; // the last orders and what became of them, for whoever measures
  }

  /** Ask for the microphone, and begin. Throws what getUserMedia throws. */
  async start(constraints = {}) {
    this.stream = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true, ...constraints },
    });
    this.context = new AudioContext({ sampleRate: RATE_HZ, latencyHint: "interactive" });
    await Promise.all([
      this.context.audioWorklet.addModule("capture-worklet.js"),
      this.context.audioWorklet.addModule("playback-worklet.js"),
    ]);
    this.playback = new AudioWorkletNode(this.context, "playback", {
      numberOfInputs: 0,
      outputChannelCount: [1],
    });
    this.analyser = new AnalyserNode(this.context, { fftSize: 256 });
    this.playback.connect(this.analyser).connect(this.context.destination);
    this.playback.port.onmessage = ({ data }) => this.played(data);
    this.capture = new AudioWorkletNode(this.context, "capture", {
      numberOfInputs: 1,
      numberOfOutputs: 0,
    });
    this.capture.port.onmessage = ({ data }) => this.heard(data);
    this.context.createMediaStreamSource(this.stream).connect(this.capture);
    for (const track of this.stream.getAudioTracks()) {
      track.onended = () => this.view.problem("The microphone is gone. The agent hears silence.");
    }
    await this.context.resume();
    this.connect();
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.socket = new WebSocket(`${scheme}://${location.host}/call`);
    this.socket.binaryType = "arraybuffer";
    this.isReady = false;
    this.socket.onopen = () => {
      this.send({ type: "hello", token: this.token, session: this.session, had_seq: this.hadSeq });
    };
    this.socket.onmessage = ({ data }) => this.received(data);
    this.socket.onclose = ({ code, reason }) => this.closed(code, reason);
  }

  closed(code, reason) {
    this.isReady = false;
    if (this.isOver) return;
    // 4000 and above: the other end has said why, and will say it again.
    if (code >= 4000 || code === 1000 || this.tries >= RETRY_MS.length) {
      this.end(reason || "The connection to framepipe is lost, and did not come back.");
      return;
    }
    this.view.link("reconnecting");
    setTimeout(() => this.connect(), RETRY_MS[this.tries++]);
  }

  received(data) {
    if (typeof data !== "string") {
      const view = new DataView(data);
      const seq = view.getUint32(0, true);
      if (!this.isNews(seq)) return;
      const pcm = new Int16Array(data, 12);
      const samples = new Float32Array(pcm.length);
      for (let i = 0; i < pcm.length; i++) samples[i] = pcm[i] / 32768;
      const sound = {
        type: "sound",
        line: view.getUint32(4, true),
        inTheMiddle: (view.getUint32(8, true) & IN_THE_MIDDLE) !== 0,
        samples,
      };
      this.playback.port.postMessage(sound, [samples.buffer]);
      return;
    }
    const message = JSON.parse(data);
    if (message.type === "ready") {
      this.ready(message);
      return;
    }
    if (!this.isNews(message.seq)) return;
    if (message.type === "mute" || message.type === "unmute" || message.type === "cut") {
      this.note({ ...message, at: performance.now() });
      this.playback.port.postMessage(message);
    } else if (message.type === "over") {
      this.end(message.reason);
    } else {
      this.view.news(message);
    }
  }

  isNews(seq) {
    if (seq <= this.hadSeq) return false;
    this.hadSeq = seq;
    return true;
  }

  ready(message) {
    this.isReady = true;
    this.tries = 0;
    this.view.link("open");
    this.micKept = this.micKept.filter((block) => block.end > message.mic_from);
    for (const block of this.micKept) this.socket.send(block.bytes);
  }

  /** The capture worklet has a block. */
  heard({ start, pcm, rms }) {
    this.view.micLevel(rms);
    const bytes = new ArrayBuffer(4 + pcm.byteLength);
    new DataView(bytes).setUint32(0, start, true);
    new Int16Array(bytes, 4).set(pcm);
    this.micKept.push({ end: start + pcm.length, bytes });
    if (this.micKept.length > MIC_KEPT_BLOCKS) this.micKept.shift();
    if (this.isReady && !this.isOver) this.socket.send(bytes);
  }

  /** The playback worklet says where it is; the ear is behind it by the output latency. */
  played(report) {
    const latency_s = this.context.outputLatency || this.context.baseLatency || 0;
    const latency = Math.round(latency_s * RATE_HZ);
    this.view.agentLevel(report.rms);
    this.note({ type: "report", ...report, latency, at: performance.now() });
    this.report(report, Math.max(0, report.played - latency));
    clearTimeout(this.lastSamples);
    if (!report.isSounding) {
      this.lastSamples = setTimeout(() => this.report(report, report.played), latency_s * 1000);
    }
  }

  report({ order, mute_point, rms }, played) {
    const level_dbfs = rms > 0 ? 20 * Math.log10(rms) : null;
    this.send({ type: "report", seq: this.hadSeq, played, order, mute_point, level_dbfs });
  }

  note(entry) {
    this.log.push(entry);
    if (this.log.length > 2000) this.log.shift();
  }

  muteMicrophone(muted) {
    this.capture.port.postMessage({ muted });
  }

  ask(what, value = null) {
    this.send({ type: "ask", what, value });
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  hangUp() {
    this.send({ type: "bye" });
    this.end("You have hung up.");
  }

  end(reason) {
    if (this.isOver) return;
    this.isOver = true;
    clearTimeout(this.lastSamples);
    for (const track of this.stream.getTracks()) track.stop();
    this.context.close();
    this.socket.close(1000);
    this.view.over(reason);
  }
}
