// What the person sees. Text from the conversation is only ever set as text, never as HTML.

import { Timeline } from "./timeline.js";

const $ = (id) => document.getElementById(id);
const LINKS = {
  idle: "not connected",
  connecting: "connecting to the model",
  open: "connected",
  reconnecting: "connection lost, trying again",
  closed: "connection closed",
};

export class View {
  constructor() {
    this.lines = new Map(); // item id -> its line in the conversation
    this.timeline = new Timeline($("timeline"));
    this.onSettings = () => {};
  }

  link(state, reason = "") {
    const shown = $("link");
    shown.dataset.state = state;
    shown.textContent = [LINKS[state] || state, reason].filter(Boolean).join(": ");
  }

  news(message) {
    switch (message.type) {
      case "transcript":
        this.transcript(message);
        break;
      case "heard":
        this.heard(message);
        break;
      case "span":
        this.timeline.span(message.who, message.on, message.at_ms);
        if (message.who === "user") $("you").dataset.on = message.on;
        break;
      case "mark":
        this.timeline.mark(message.what, message.at_ms);
        break;
      case "figures":
        this.figures(message);
        break;
      case "state":
        this.link(message.state, message.reason);
        break;
      case "problem":
        this.problem(message.message);
        break;
      case "settings":
        this.settings(message);
        break;
    }
  }

  line(who, item) {
    let line = this.lines.get(item);
    if (line === undefined) {
      $("empty").hidden = true;
      line = document.createElement("p");
      line.className = who;
      const name = document.createElement("b");
      name.textContent = who === "user" ? "You" : "Agent";
      const said = document.createElement("span");
      line.append(name, said);
      line.said = said;
      $("words").append(line);
      this.lines.set(item, line);
    }
    return line;
  }

  transcript({ who, item, text, final }) {
    const line = this.line(who, item);
    if (line.isSettled) return;
    line.whole = final ? text : (line.whole || "") + text;
    line.said.textContent = line.whole || (final ? "(no words)" : "…");
    this.follow();
  }

  /** The item was cut: what was heard stays, the rest is struck through. */
  heard({ item, text, unheard }) {
    const line = this.line("agent", item);
    line.isSettled = true;
    const rest = document.createElement("s");
    rest.textContent = unheard;
    rest.title = "generated, but not heard";
    line.said.replaceChildren(document.createTextNode(text), rest);
    this.follow();
  }

  follow() {
    const words = $("words");
    words.scrollTop = words.scrollHeight;
  }

  figures(report) {
    const ms = (value) => (value === null ? "–" : `${Math.round(value)} ms`);
    const VERDICTS = { cut: "cut", rejected: "false alarm: went on", undone: "undone: went on" };
    $("verdict").textContent = `${VERDICTS[report.verdict]} (${report.cause})`;
    $("onset-mute").textContent = ms(report.onset_to_mute_ms);
    $("mute-verdict").textContent = ms(report.mute_to_verdict_ms);
    $("heard-received").textContent =
      report.heard_ms === null ? "–" : `${ms(report.heard_ms)} of ${ms(report.received_ms)}`;
    $("audio-end").textContent = ms(report.audio_end_ms);
  }

  settings(values) {
    const known = [...$("settings").elements].filter((input) => input.name !== "");
    for (const input of known) input.closest("label").hidden = !(input.name in values);
    $("policy").hidden = !known.some((input) => input.name in values);
    for (const input of known.filter(({ name }) => name in values)) {
      input.value = values[input.name];
      const shown = $(`${input.name}-shown`);
      if (shown) shown.textContent = input.value;
    }
  }

  micLevel(rms) {
    $("mic-level").value = level(rms);
  }

  agentLevel(rms) {
    $("agent-level").value = level(rms);
  }

  problem(text) {
    const shown = $("problem");
    shown.textContent = text;
    shown.hidden = text === "";
  }

  over(reason) {
    document.body.dataset.call = "over";
    this.timeline.stop();
    this.link("idle");
    $("mic-level").value = $("agent-level").value = 0;
    $("over").textContent = reason;
    $("start").textContent = "Talk again";
    $("start").focus();
  }
}

/** −60 dB to 0 dB as 0 to 1. */
function level(rms) {
  return rms > 0 ? Math.max(0, 1 + (20 * Math.log10(rms)) / 60) : 0;
}
