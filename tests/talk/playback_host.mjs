// Runs the page's PlaybackCore for a test: one JSON command a line in, one JSON answer a line out.
import { createInterface } from "node:readline";
import { PlaybackCore } from "../../framepipe/talk/page/playback-core.js";

let core = new PlaybackCore();
for await (const line of createInterface({ input: process.stdin })) {
  const [what, ...args] = JSON.parse(line);
  let answer = null;
  if (what === "new") core = new PlaybackCore();
  else if (what === "hand") core.hand(args[0], Float32Array.from(args[1]), args[2]);
  else if (what === "mute") core.mute(...args);
  else if (what === "unmute") core.unmute(...args);
  else if (what === "cut") core.cut(...args);
  else if (what === "report") answer = core.report();
  else if (what === "render") {
    const out = new Float32Array(args[0]);
    core.render(out);
    answer = [...out];
  }
  console.log(JSON.stringify(answer));
}
