// The page: what is asked for, and the pictures as they come.

import { ask, begin as open, post } from "./ask.js";
import { by, el, fill, tell } from "./dom.js";
import * as faces from "./faces.js";
import * as skeleton from "./skeleton.js";

const SCALES = [["face", "Face"], ["clip", "Look"], ["pose", "Pose"]];
const TOLD = { face: "face", clip: "look", pose: "pose" };
const WAIT_MS = 400, MARK = "AI-generated";
const number = (id) => Number(by(id).value);
let strengths = {};

async function begin() {
  const facts = await open("/api/facts", "Pictures that were shown are in their folder.");
  document.title = `Studio: ${facts.adapter}`;
  const made = [facts.base, facts.weights ?? (facts.step === null ? null : `step ${facts.step}`), facts.recogniser];
  by("adapter").textContent = [facts.adapter, ...made.filter((one) => one)].join("; ");
  fill(by("style"), facts.styles.map((style) => el("option", { value: style }, style)));
  fill(by("scales"), SCALES.map(([name, shown]) => strength(name, shown)));
  for (const id of ["row-scale", "column-scale"]) fill(by(id), el("option", { value: "" }, "none"), SCALES.map(([name, shown]) => el("option", { value: name }, shown)));
  for (const id of ["width", "height"]) {
    by(id).value = facts.side;
    by(id).step = facts.stride;
    by(id).addEventListener("change", () => skeleton.shape(number("width"), number("height")));
  }
  by("guidance").value = facts.guidance;
  faces.start();
  skeleton.start(facts);
  by("another").addEventListener("click", () => { by("seed").value = crypto.getRandomValues(new Uint32Array(1))[0]; });
  by("stop").addEventListener("click", () => post("/api/stop", {}).catch((error) => tell(error.message, true)));
  by("controls").addEventListener("submit", (event) => { event.preventDefault(); draw(); });
  addEventListener("keydown", (event) => { if ((event.ctrlKey || event.metaKey) && event.key === "Enter") by("controls").requestSubmit(); });
  const state = await ask("/api/state");
  if (state.name) follow(state);
  document.body.dataset.ready = "yes";
}

function strength(name, shown) {
  const range = el("input", { type: "range", min: 0, max: 2, step: 0.05, value: 1, "aria-label": `${shown}, slider` });
  const exact = el("input", { type: "number", min: 0, max: 4, step: 0.01, value: 1, required: true, id: `scale-${name}`, "aria-label": shown });
  range.addEventListener("input", () => { exact.value = range.value; });
  exact.addEventListener("input", () => { range.value = exact.value; });
  strengths[name] = exact;
  return el("div", { class: "strength" }, el("span", {}, shown), range, exact);
}

function axis(name) {
  const scale = by(`${name}-scale`).value;
  if (!scale || !by("grid").open) return null;
  const values = by(`${name}-values`).value.split(/[,;\s]+/).filter((word) => word).map(Number);
  if (!values.length || values.some(Number.isNaN)) throw new Error(`The values of the ${name}s must be numbers with commas between them.`);
  return { scale, values };
}

async function draw() {
  try {
    if (!faces.mixed().length) throw new Error("Add a photo of the person first.");
    follow(await post("/api/draw", {
      faces: faces.mixed(), prompt: by("prompt").value, style: by("style").value, negative_prompt: by("negative").value,
      pose: skeleton.pose(), scales: Object.fromEntries(SCALES.map(([name]) => [name, Number(strengths[name].value)])),
      rows: axis("row"), columns: axis("column"), seed: number("seed"), steps: number("steps"), guidance: number("guidance"),
      height: number("height"), width: number("width"), consent: by("consent").value,
    }));
    tell("");
    if (matchMedia("(max-width: 820px)").matches) by("results").scrollIntoView();
  } catch (error) {
    tell(error.message, true);
  }
}

async function follow(state) {
  fill(by("pictures"), state.cells.map(() => el("figure", {})));
  by("pictures").style.setProperty("--columns", state.num_columns);
  while (true) {
    show(state);
    if (state.is_over) return;
    await new Promise((done) => setTimeout(done, WAIT_MS));
    try { state = await ask("/api/state"); } catch (error) { tell(error.message, true); return; }
  }
}

function show(state) {
  const done = state.cells.filter((cell) => cell.file).length, all = state.cells.length;
  const figures = by("pictures").children;
  state.cells.forEach((cell, place) => {
    const figure = figures[place];
    const isWaiting = !cell.file && !state.is_over;
    if (figure.dataset.file === (cell.file ?? String(isWaiting))) return;
    figure.dataset.file = cell.file ?? String(isWaiting);
    const address = `/drawn/${state.name}/${cell.file}`;
    const told = SCALES.map(([name]) => `${TOLD[name]} ${cell.scales[name]}`).join(" · ");
    const shown = cell.file ? el("a", { href: address, download: `${state.name}-${cell.file}` }, el("img", { src: address, alt: `${MARK}: ${state.prompt}` }))
      : isWaiting ? el("div", { class: "waiting" }) : null;
    fill(figure, shown, cell.file || isWaiting ? el("figcaption", {}, cell.file ? `${MARK} · ${told}` : told) : null);
  });
  by("progress").hidden = state.is_over;
  by("progress").value = done / all;
  by("stop").disabled = state.is_over;
  by("draw").disabled = !state.is_over;
  const how = state.error ? `stopped: ${state.error}` : state.is_stopped ? "stopped" : state.is_over ? "done" : "drawing";
  by("told").textContent = `${done} of ${all} ${all === 1 ? "picture" : "pictures"}, ${how}. Seed ${state.seed}. ${done ? `In ${state.folder}.` : ""}`;
}

begin().catch((error) => tell(error.message, true));
