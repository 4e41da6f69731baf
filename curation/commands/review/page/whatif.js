// What-if: a slider for each limit; the server says at once who would stay.

import { by, count, el, fill, later, short, svg, tell } from "./dom.js";
import { showSides, withLimits } from "./gallery.js";
import { rangeOf } from "./picture.js";
import * as server from "./server.js";

let facts = null;
let asked = {};
let last = null;
let asking = null;
const added = new Map();

export function start(found) {
  facts = found;
  by("recipe-name").value = `${found.recipe}-what-if`.slice(0, 64);
  by("reset").addEventListener("click", () => { asked = {}; added.clear(); sliders(); ask(); });
  by("write").addEventListener("submit", write);
  by("add-limit").addEventListener("change", (event) => add(event.target));
  const screens = new Set(facts.screened);
  const open = Object.entries(facts.scores).filter(([name, one]) => one.spread && !(name in facts.limits) && !screens.has(name.slice(0, name.indexOf("."))));
  by("add-limit").append(...open.map(([name]) => el("option", { value: name }, name)));
  sliders();
  return ask();
}

const now = (name) => name in asked ? asked[name] : facts.limits[name];

function sliders() {
  const names = [...Object.keys(facts.limits), ...added.keys()];
  fill(by("sliders"), names.map(limit));
}

function limit(name) {
  const spread = facts.scores[name]?.spread;
  const before = facts.limits[name] ?? added.get(name);
  const box = el("div", { class: "limit", "data-limit": name });
  const said = el("span", { class: "muted n" });
  const on = el("input", { type: "checkbox", checked: now(name) !== null, "aria-label": `Use ${name}`, onchange: (event) => { asked[name] = event.target.checked ? { ...before } : null; sliders(); ask(); } });
  const lines = {};
  const knobs = ["min", "max"].filter((end) => before[end] !== null && before[end] !== undefined).map((end) => knob(name, end, before, spread, (value) => {
    move(value, end);
    asked[name] = { ...(now(name) ?? before), [end]: value };
    if (same(asked[name], facts.limits[name])) delete asked[name];
    tellNow();
    ask();
  }));
  const tellNow = () => {
    said.textContent = now(name) === null ? "off" : rangeOf(now(name));
    box.classList.toggle("off", now(name) === null);
    box.classList.toggle("moved", name in asked);
  };
  const move = (value, end) => lines[end]?.setAttribute("transform", `translate(${place(value, spread)} 0)`);
  box.append(el("div", { class: "head" }, el("label", { class: "check" }, on, el("span", {}, name)), said), ...(spread ? [bars(spread, lines, now(name) ?? before)] : []), ...knobs, el("div", { class: "muted small", "data-hits": name }));
  for (const end of Object.keys(lines)) move((now(name) ?? before)[end], end);
  tellNow();
  return box;
}

const same = (one, other) => other !== undefined && (one.min ?? null) === (other.min ?? null) && (one.max ?? null) === (other.max ?? null);
const width = (spread) => spread.step * spread.kept.length;
const place = (value, spread) => Math.max(-1, Math.min(101, (100 * (value - spread.low)) / width(spread)));

function bars(spread, lines, keep) {
  const most = Math.max(1, ...spread.kept.map((num, bin) => num + spread.rejected[bin]));
  const size = 100 / spread.kept.length;
  const height = (num) => num ? Math.max(0.8, 30 * Math.sqrt(num / most)) : 0;
  const parts = spread.kept.flatMap((num, bin) => {
    const all = height(num + spread.rejected[bin]);
    const kept = all * (num / Math.max(1, num + spread.rejected[bin]));
    return [svg("rect", { class: "kept", x: bin * size, y: 30 - kept, width: size, height: kept }), svg("rect", { class: "lost", x: bin * size, y: 30 - all, width: size, height: all - kept })];
  });
  for (const end of ["min", "max"]) if (keep[end] !== null && keep[end] !== undefined) lines[end] = svg("line", { x1: 0, x2: 0, y1: 0, y2: 31 });
  return svg("svg", { viewBox: "0 0 100 31", preserveAspectRatio: "none", "aria-hidden": "true" }, parts, Object.values(lines));
}

function knob(name, end, before, spread, act) {
  const value = (now(name) ?? before)[end];
  const isWhole = facts.scores[name]?.is_whole;
  const low = Math.min(spread?.low ?? value, facts.limits[name]?.[end] ?? value, value);
  const high = Math.max(spread ? spread.low + width(spread) : value + 1, facts.limits[name]?.[end] ?? value, value);
  const step = isWhole ? 1 : 10 ** Math.floor(Math.log10((high - low) / 200 || 1));
  const disabled = now(name) === null;
  const attributes = { disabled, "aria-label": `${name} ${end}`, value: String(value) };
  const slider = el("input", { type: "range", min: low, max: high, step: isWhole ? 1 : "any", ...attributes, oninput: () => {
    const rounded = Number((Math.round(Number(slider.value) / step) * step).toPrecision(10));
    field.value = String(rounded);
    act(rounded);
  } });
  const field = el("input", { type: "number", step: isWhole ? 1 : "any", ...attributes, "aria-label": `${name} ${end}, number`, onchange: () => {
    if (field.value !== "" && Number.isFinite(Number(field.value))) { slider.value = field.value; act(Number(field.value)); }
  } });
  return el("div", { class: "knob" }, el("span", { class: "muted" }, end), slider, field);
}

function add(chooser) {
  const name = chooser.value;
  chooser.value = "";
  if (!name || added.has(name)) return;
  const { low, step, kept } = facts.scores[name].spread;
  added.set(name, { min: low, max: low + step * kept.length });
  asked[name] = { ...added.get(name) };
  sliders();
  ask();
}

const ask = later(async () => {
  asking?.abort();
  const mine = asking = new AbortController();
  try {
    last = await server.whatIf(asked, mine.signal);
    showOutcome(last);
    showSides(last);
    withLimits({ ...asked });
  } catch (error) {
    if (error.name !== "AbortError") tell(error.message, true);
  }
}, 40);

function showOutcome(values) {
  const share = values.num_judged ? ` (${(100 * values.num_kept / values.num_judged).toFixed(1)} %)` : "";
  fill(by("summary"), el("b", { id: "num-kept" }, count(values.num_kept)), ` of ${count(values.num_judged)} would be kept${share}; now ${count(values.num_kept_before)}`,
    el("div", { class: "muted" }, `${count(values.num_enter)} enter, ${count(values.num_leave)} leave`, values.num_undecided ? `, ${count(values.num_undecided)} would have to be measured first (\`decide --dry-run\` says at what cost)` : ""));
  for (const one of values.criteria) {
    const place = document.querySelector(`[data-hits="${CSS.escape(one.name)}"]`);
    if (place) place.textContent = `fails ${count(one.num_fail)}, alone ${count(one.num_alone)}${one.num_wait ? `, unknown ${count(one.num_wait)}` : ""}`;
  }
  const names = values.filters.map((one) => one.name);
  const both = (one, other) => values.overlap.find((pair) => pair.filters.includes(one) && pair.filters.includes(other))?.num ?? 0;
  fill(by("overlap"), el("table", {}, el("thead", {}, el("tr", {}, el("th", {}, "rejected by both"), names.map((name) => el("th", { class: "n" }, name)))),
    el("tbody", {}, values.filters.map((one) => el("tr", {}, el("th", {}, one.name), names.map((name) => el("td", { class: "n" }, name === one.name ? el("b", {}, count(one.num_fail)) : count(both(one.name, name)))))))));
}

async function write(event) {
  event.preventDefault();
  try {
    const done = await server.write(by("recipe-name").value, asked);
    by("written").hidden = false;
    by("written").querySelector("summary").textContent = `Written: ${done.path}`;
    by("written").querySelector("pre").textContent = done.text;
    tell(`Written: ${done.path}. Try it: facecaptionhq decide RUN --recipe ${done.path} --dry-run`, true);
  } catch (error) {
    tell(error.message, true);
  }
}

export const moved = () => Object.entries(asked).map(([name, keep]) => `${name} ${keep === null ? "off" : rangeOf(keep)}`).join(", ") || short(0);
