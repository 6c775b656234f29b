// The page: buttons, keys, and one call at a time.

import { Call } from "./call.js";
import { View } from "./view.js";

const $ = (id) => document.getElementById(id);
const asked = new URLSearchParams(location.search);
const token = asked.get("token") || "";
// Whoever measures wants the microphone as it is.
const constraints = asked.has("raw")
  ? { echoCancellation: false, noiseSuppression: false, autoGainControl: false }
  : {};

const REFUSED = {
  NotAllowedError: "The browser may not use the microphone. Allow it for this page, and press the button again.",
  NotFoundError: "There is no microphone. Connect one, and press the button again.",
  NotReadableError: "Another program keeps the microphone. Close it, and press the button again.",
};

let call = null;
let isMuted = false;

async function start() {
  $("start").disabled = true;
  const view = new View();
  view.problem("");
  try {
    if (!navigator.mediaDevices) {
      throw new Error("This page gets no microphone: open it at 127.0.0.1 or localhost, or over https.");
    }
    call = new Call(token, view);
    window.framepipe = call; // for whoever measures
    view.link("connecting");
    await call.start(constraints);
    document.body.dataset.call = "on";
    $("over").textContent = "";
    $("words").replaceChildren($("empty"));
    setMuted(false);
    $("stop").focus();
  } catch (error) {
    view.problem(REFUSED[error.name] || error.message);
    view.link("idle");
    call = null;
  }
  $("start").disabled = false;
}

function isOn() {
  return call !== null && !call.isOver;
}

function setMuted(muted) {
  isMuted = muted;
  call.muteMicrophone(muted);
  $("mute").setAttribute("aria-pressed", String(muted));
  $("mute").firstChild.textContent = muted ? "Unmute me " : "Mute me ";
}

$("start").onclick = start;
$("stop").onclick = () => isOn() && call.ask("stop");
$("mute").onclick = () => isOn() && setMuted(!isMuted);
$("hang-up").onclick = () => isOn() && call.hangUp();
$("type").onsubmit = (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (text !== "" && isOn()) call.ask("text", text);
  $("text").value = "";
};
$("settings").oninput = ({ target }) => {
  const shown = $(`${target.name}-shown`);
  if (shown) shown.textContent = target.value;
};
$("settings").onchange = ({ target }) => {
  const value = target.type === "range" ? Number(target.value) : target.value;
  if (isOn()) call.ask("setting", { name: target.name, value });
};
document.onkeydown = (event) => {
  if (!isOn() || event.target.matches("input, select") || event.ctrlKey || event.metaKey) return;
  if (event.key === "m") setMuted(!isMuted);
  if (event.key === "s" || event.key === "Escape") call.ask("stop");
};
addEventListener("pagehide", () => isOn() && call.hangUp());
