// What the page's loudspeaker does with the agent's audio. No Web Audio in here, so that the same
// file runs in the worklet and in the tests.
//
// Positions are samples of the sink line: everything handed over since the call began, numbered.
// An order acts on the first sample that was not rendered yet. Where the sound ends is known at
// once, and is part of the next report. A mute freezes the queue, an unmute goes on with the very
// next sample, a cut empties it; all three fade.

/** A gain that goes from one value to another in equal steps, and stays there. */
class Ramp {
  constructor(at, n, start, stop) {
    this.at = at;
    this.n = n;
    this.start = start;
    this.stop = stop;
  }

  gain(position) {
    const done = Math.min(1, Math.max(0, (position - this.at + 1) / (this.n + 1)));
    return this.start + (this.stop - this.start) * done;
  }

  isOver(position) {
    return position >= this.at + this.n;
  }
}

export class PlaybackCore {
  constructor() {
    this.handed = 0;
    this.order = 0;
    this.mutePoint = null; // while silent
    this.cutPoint = null; // of the newest order, if that was a cut
    this.queue = [];
    this.queued = 0;
    this.fading = []; // the fade of a cut, gain applied: no order can change it any more
    this.ramp = new Ramp(0, 0, 1, 1);
    this.isFresh = true;
    this.cutFade = 0;
  }

  /** The first sample that an order can still act on. */
  get next() {
    return this.handed - this.queued;
  }

  get isSounding() {
    if (this.fading.length > 0) return true;
    return this.queued > 0 && this.mutePoint !== this.next;
  }

  /** Take samples that begin at `line`; what was handed before is left out. */
  hand(line, samples, inTheMiddle) {
    const known = this.handed - line;
    if (known >= samples.length) return;
    if (known > 0) samples = samples.subarray(known);
    if (known < 0) {
      // Nothing is missing on a line that keeps its order; a page that joins late begins here.
      if (this.queued > 0) throw new Error(`samples from ${line} on, but ${this.handed} came`);
      this.handed = line;
    }
    if (this.isFresh) {
      this.isFresh = false;
      if (inTheMiddle && this.ramp.stop !== 0) this.fadeTo(this.ramp.stop, this.cutFade, 0);
    }
    this.queue.push(samples);
    this.queued += samples.length;
    this.handed += samples.length;
  }

  mute(order, gain, fade) {
    if (!this.isNew(order)) return;
    if (gain === 0 && this.mutePoint === null) {
      this.silence(fade);
    } else if (gain > 0) {
      this.fadeTo(gain, fade);
      this.mutePoint = null;
    }
  }

  unmute(order, fade) {
    if (!this.isNew(order)) return;
    this.fadeTo(1, fade);
    this.mutePoint = null;
  }

  cut(order, line, fade) {
    if (!this.isNew(order)) return;
    this.cutFade = fade;
    if (this.mutePoint === null) this.silence(fade);
    this.cutPoint = this.mutePoint;
    const faded = new Float32Array(this.mutePoint - this.next);
    this.take(faded, 0, faded.length);
    if (faded.length > 0) this.fading.push(faded);
    this.queue = [];
    this.queued = 0;
    this.handed = Math.max(this.handed, line);
    this.mutePoint = null;
    this.ramp = new Ramp(0, 0, 1, 1);
    this.isFresh = true;
  }

  /** Fill `out` with sound, then silence; returns how many samples of it were sound. */
  render(out) {
    let at = 0;
    while (at < out.length && this.fading.length > 0) {
      const first = this.fading[0];
      const n = Math.min(first.length, out.length - at);
      out.set(first.subarray(0, n), at);
      at += n;
      if (n === first.length) this.fading.shift();
      else this.fading[0] = first.subarray(n);
    }
    const last = this.mutePoint === null ? this.handed : this.mutePoint;
    at = this.take(out, at, Math.min(out.length - at, last - this.next));
    out.fill(0, at);
    return at;
  }

  /** What the other end wants to know: see `Report` in `framepipe.conversation.remote_speaker`. */
  report() {
    return {
      played: this.next,
      order: this.order,
      mute_point: this.mutePoint === null ? this.cutPoint : this.mutePoint,
    };
  }

  isNew(order) {
    if (order <= this.order) return false;
    this.order = order;
    this.cutPoint = null;
    return true;
  }

  silence(fade) {
    // A fade longer than what waits would break off in the middle: an audible click.
    const n = Math.min(fade, this.queued);
    this.fadeTo(0, n, n > 0 ? null : 0);
    this.mutePoint = this.next + n;
  }

  fadeTo(gain, n, start = null) {
    const at = this.next;
    if (start === null) start = this.mutePoint === at ? 0 : this.ramp.gain(at - 1);
    this.ramp = new Ramp(at, n, start, gain);
  }

  take(out, at, n) {
    const end = at + n;
    while (at < end) {
      const first = this.queue[0];
      const size = Math.min(first.length, end - at);
      const line = this.next;
      if (this.ramp.stop === 1 && this.ramp.isOver(line)) {
        out.set(first.subarray(0, size), at);
      } else {
        for (let i = 0; i < size; i++) out[at + i] = first[i] * this.ramp.gain(line + i);
      }
      this.queued -= size;
      at += size;
      if (size === first.length) this.queue.shift();
      else this.queue[0] = first.subarray(size);
    }
    return end;
  }
}
