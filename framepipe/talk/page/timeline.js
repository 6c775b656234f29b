// Who spoke when, as three lanes that move to the left: the user, the agent, and where it was mute.

const SPAN_S = 20;
const LANES = ["user", "agent", "mute"];
const LABELS = { user: "you", agent: "agent", mute: "mute" };
const MARKS = { cut: "✕ cut", undo: "↺ undo", resume: "↪ went on" };

export class Timeline {
  constructor(canvas) {
    this.canvas = canvas;
    this.spans = []; // {who, from, to}; to is null while it lasts
    this.marks = []; // {what, at}
    this.offset = null; // page time minus call time, in ms; the smallest seen is the truest
    this.isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.draw = this.draw.bind(this);
    requestAnimationFrame(this.draw);
  }

  clock(atMs) {
    const offset = performance.now() - atMs;
    if (this.offset === null || offset < this.offset) this.offset = offset;
  }

  span(who, isOn, atMs) {
    this.clock(atMs);
    const open = this.spans.findLast((span) => span.who === who && span.to === null);
    if (isOn && open === undefined) this.spans.push({ who, from: atMs, to: null });
    if (!isOn && open !== undefined) open.to = atMs;
    this.forget(atMs);
  }

  mark(what, atMs) {
    this.clock(atMs);
    this.marks.push({ what, at: atMs });
    this.forget(atMs);
  }

  forget(nowMs) {
    const oldest = nowMs - 2 * SPAN_S * 1000;
    this.spans = this.spans.filter((span) => span.to === null || span.to > oldest);
    this.marks = this.marks.filter((mark) => mark.at > oldest);
  }

  stop() {
    this.isOver = true;
  }

  draw() {
    const { canvas } = this;
    const ratio = devicePixelRatio || 1;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (canvas.width !== width * ratio || canvas.height !== height * ratio) {
      canvas.width = width * ratio;
      canvas.height = height * ratio;
    }
    const pen = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const left = 52;
    const lane = (height - 18) / LANES.length;
    const now = this.offset === null ? 0 : performance.now() - this.offset;
    const x = (at) => left + (width - left) * (1 - (now - at) / (SPAN_S * 1000));
    pen.font = `12px ${style.fontFamily}`;
    pen.textBaseline = "middle";
    LANES.forEach((who, row) => {
      const y = row * lane;
      pen.fillStyle = style.getPropertyValue("--muted");
      pen.fillText(LABELS[who], 0, y + lane / 2);
      pen.fillStyle = style.getPropertyValue("--line");
      pen.fillRect(left, y + lane / 2, width - left, 1);
      pen.fillStyle = style.getPropertyValue(`--${who}`);
      for (const span of this.spans.filter((one) => one.who === who)) {
        const from = Math.max(left, x(span.from));
        const to = x(span.to === null ? now : span.to);
        if (to > left) pen.fillRect(from, y + 4, Math.max(2, to - from), lane - 8);
      }
    });
    pen.fillStyle = style.getPropertyValue("--text");
    for (const mark of this.marks) {
      const at = x(mark.at);
      if (at < left) continue;
      pen.fillRect(at, 0, 1.5, height - 18);
      pen.fillText(MARKS[mark.what], Math.min(at + 3, width - pen.measureText(MARKS[mark.what]).width), height - 8);
    }
    if (!this.isOver) {
      if (this.isStill) setTimeout(() => requestAnimationFrame(this.draw), 1000);
      else requestAnimationFrame(this.draw);
    }
  }
}
