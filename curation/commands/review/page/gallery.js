// The gallery: tiles of what a query finds, more of them as the page is scrolled, and a selection.

import { breakable, by, count, counted, el, fill, later, short, tell } from "./dom.js";
import { infoOf, showCaptions, showPicture, verdictOf } from "./picture.js";
import { desk, labelButtons, refresh } from "./queue.js";
import * as server from "./server.js";

const PAGE = 60;
const LARGE_PX = 24_000_000;
const selected = new Set();
const ranges = new Map();
let whole = null;
let items = [];
let total = 0;
let side = null;
let uids = null;
let limits = {};
let asking = null;
let shown = -1;

export function start(facts) {
  const scores = Object.entries(facts.scores).filter(([, one]) => one.spread);
  const options = () => scores.map(([name]) => el("option", { value: name }, name));
  by("sort").append(...options());
  by("add-range").append(...options());
  by("rejected-by").append(...Object.keys(facts.rejected).map((name) => el("option", { value: name }, name)));
  by("filters").addEventListener("submit", (event) => event.preventDefault());
  by("filters").addEventListener("input", later(search, 150));
  by("add-range").addEventListener("change", (event) => addRange(event.target, facts));
  by("select-all").addEventListener("click", () => { whole = query(); selection(); });
  by("clear").addEventListener("click", () => { selected.clear(); whole = null; uids = null; selection(); search(); });
  by("save").addEventListener("submit", save);
  by("download").addEventListener("click", download);
  by("label-selected").addEventListener("change", labelSelected);
  by("close").addEventListener("click", () => by("dialog").close());
  by("previous").addEventListener("click", () => step(-1));
  by("next").addEventListener("click", () => step(1));
  new IntersectionObserver((entries) => entries.some((one) => one.isIntersecting) && more()).observe(by("end"));
  selection();
}

export function query() {
  const kept = Object.fromEntries([...ranges].map(([name, range]) => [name, Object.fromEntries(Object.entries(range).filter(([, end]) => end !== null))]));
  return {
    verdict: by("verdict").value, rejected_by: by("rejected-by").value || null, label: by("label-filter").value || null,
    caption: by("caption").value, sort: by("sort").value || null, descending: by("descending").checked, side, limits, uids,
    ranges: Object.fromEntries(Object.entries(kept).filter(([, range]) => Object.keys(range).length)),
  };
}

export function withLimits(now) {
  limits = now;
  if (side) search();
}

export function only(those) {
  uids = those;
  return search();
}

export function showSides(values) {
  const sides = [["enter", "enter", values.num_enter], ["leave", "leave", values.num_leave], ["undecided", "to be measured", values.num_undecided]];
  fill(by("sides"), sides.map(([name, text, num]) => el("button", { type: "button", "aria-pressed": String(side === name), disabled: num === 0 && side !== name,
    onclick: () => { side = side === name ? null : name; showSides(values); search(); } }, `${text} ${count(num)}`)));
}

export async function search() {
  items = [];
  total = -1;
  asking?.abort();
  asking = null;
  await more(true);
}

async function more(isFirst = false) {
  if (asking || by("gallery").hidden || (total >= 0 && items.length >= total)) return;
  const mine = asking = new AbortController();
  try {
    const found = await server.gallery({ ...query(), first: items.length, num: PAGE }, mine.signal);
    total = found.total;
    by("total").textContent = `${count(total)} ${total === 1 ? "picture" : "pictures"}`;
    if (isFirst) fill(by("tiles"));
    by("tiles").append(...found.items.map((item, place) => tile(item, items.length + place)));
    items.push(...found.items);
    by("end").textContent = items.length < total ? "" : found.fraction_read < 1 && by("caption").value ? `Captions read so far: ${Math.floor(100 * found.fraction_read)} %` : "";
  } catch (error) {
    if (error.name !== "AbortError") tell(error.message, true);
    return;
  } finally {
    if (asking === mine) asking = null;
  }
  if (items.length < total && by("end").getBoundingClientRect().top < window.innerHeight) await more();
}

function tile(item, place) {
  const isLarge = item.width * item.height > LARGE_PX;
  const shot = el("button", { type: "button", class: "shot blur", "aria-label": `Open ${item.uid}`, onclick: () => open(place) });
  const hint = el("span", { class: "note" }, item.width ? "large; open to see it" : "no picture");
  shot.append(item.width && !isLarge ? el("img", { src: `/picture/${item.uid}`, alt: "", loading: "lazy", decoding: "async", onerror: () => fill(shot, el("span", { class: "note" }, "not here")) }) : hint);
  const pick = el("input", { type: "checkbox", class: "pick", "aria-label": `Select ${item.uid}`, checked: selected.has(item.uid), onchange: (event) => {
    if (event.target.checked) selected.add(item.uid); else selected.delete(item.uid);
    whole = null;
    box.classList.toggle("selected", event.target.checked);
    selection();
  } });
  const score = item.score === null ? null : el("div", {}, `${by("sort").value} ${short(item.score)}`);
  const what = el("div", { class: "what" }, el("span", { class: item.kept ? "good" : "bad" }, item.kept ? "kept" : breakable(item.reason)), score, item.labels.map((word) => el("span", { class: "tag" }, word)));
  const box = el("div", { class: `tile ${item.kept ? "kept" : ""} ${selected.has(item.uid) ? "selected" : ""}`, title: verdictOf(item) }, shot, pick, what);
  return box;
}

async function open(place) {
  if (place < 0 || place >= items.length) return;
  shown = place;
  try {
    const told = await server.about(items[place].uid);
    if (!by("dialog").open) by("dialog").showModal();
    showPicture(by("dialog-stage"), told);
    showCaptions(by("dialog-captions"), told.captions);
    fill(by("dialog-info"), infoOf(told));
    fill(by("dialog-said"), told.labels.map((one) => el("p", {}, el("span", { class: "tag" }, one.label), ` by ${one.reviewer}`)));
    fill(by("dialog-buttons"), labelButtons(told.labels.filter((one) => one.reviewer === desk.reviewer).map((one) => one.label), labelShown));
  } catch (error) {
    tell(error.message, true);
  }
}

export async function step(by_) {
  if (shown + by_ >= items.length) await more();
  await open(shown + by_);
}

export async function labelShown(word) {
  try {
    await server.give([items[shown].uid], word, desk.reviewer, false);
    await refresh();
    await open(shown);
  } catch (error) {
    tell(error.message, true);
  }
}

function selection() {
  const num = whole ? total : selected.size;
  by("save").hidden = num === 0;
  by("num-selected").textContent = `${count(num)} selected`;
  by("label-selected").disabled = by("download").disabled = whole !== null;
}

async function save(event) {
  event.preventDefault();
  try {
    const done = await server.select(by("selection-name").value, whole, whole ? [] : [...selected]);
    tell(`${counted(done.num, "uid")} in ${done.path}`, true);
  } catch (error) {
    tell(error.message, true);
  }
}

function download() {
  const address = URL.createObjectURL(new Blob([[...selected].map((uid) => `${uid}\n`).join("")], { type: "text/plain" }));
  el("a", { href: address, download: `${by("selection-name").value || "selection"}.txt` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

async function labelSelected(event) {
  const word = event.target.value;
  event.target.value = "";
  const chosen = [...selected];
  try {
    for (let first = 0; word && first < chosen.length; first += 1000) await server.give(chosen.slice(first, first + 1000), word, desk.reviewer, false);
    await refresh();
    tell(`labelled ${word}: ${counted(chosen.length, "picture")}`);
    await search();
  } catch (error) {
    tell(error.message, true);
  }
}

function addRange(chooser, facts) {
  const name = chooser.value;
  chooser.value = "";
  if (!name || ranges.has(name)) return;
  const { low, high, step } = facts.scores[name].spread;
  ranges.set(name, { min: null, max: null });
  const end = (which, hint) => el("input", { type: "number", step: "any", placeholder: short(hint), "aria-label": `${name} ${which}`, oninput: (event) => {
    ranges.get(name)[which] = event.target.value === "" ? null : Number(event.target.value);
  } });
  const row = el("div", { class: "range" }, el("span", {}, name), end("min", low), end("max", low + step * Math.round((high - low) / step)), el("button", { type: "button", "aria-label": `Remove ${name}`, onclick: () => { ranges.delete(name); row.remove(); search(); } }, "×"));
  by("ranges").append(row);
}
