// The queue: one picture at a time, one key per label.

import { by, count, counted, el, fill, tell } from "./dom.js";
import { infoOf, layerBoxes, showCaptions, showPicture } from "./picture.js";
import * as server from "./server.js";

export const desk = { reviewer: "", state: null, words: [] };
const skipped = [];
const ahead = new Map();
let current = null;
let isBusy = false;

export async function refresh() {
  await take(await server.state(desk.reviewer));
}

export async function start(reviewer) {
  desk.reviewer = reviewer;
  fill(by("layers"), layerBoxes());
  by("undo").addEventListener("click", undo);
  by("skip").addEventListener("click", skip);
  by("back").addEventListener("click", back);
  by("info").addEventListener("toggle", () => sessionStorage.setItem("info", by("info").open ? "open" : ""));
  by("info").open = sessionStorage.getItem("info") === "open";
  by("new-label").addEventListener("submit", (event) => {
    event.preventDefault();
    const word = by("new-word").value.trim();
    if (word && !words().includes(word)) desk.words.push(word);
    by("new-word").value = "";
    by("new-word").blur();
    buttons();
  });
  await refresh();
}

export const words = () => [...desk.state.labels.map((one) => one.label), ...desk.words.filter((word) => !desk.state.labels.some((one) => one.label === word))];

export function labelButtons(given, act) {
  return words().map((word, place) => el("button", { type: "button", class: given.includes(word) ? "given" : "", onclick: () => act(word) },
    el("span", {}, word), place < 9 ? el("kbd", {}, String(place + 1)) : null));
}

async function take(state) {
  desk.state = state;
  desk.reviewer = state.reviewer;
  fill(by("reviewers"), state.reviewers.map((name) => el("option", { value: name })));
  by("reviewer").value = state.reviewer;
  fill(by("label-selected"), el("option", { value: "" }, "label them"), words().map((word) => el("option", { value: word }, word)));
  const total = state.num_done + state.num_left;
  by("stage").classList.add("waiting");
  by("progress").max = total || 1;
  by("progress").value = state.num_done;
  by("progress-text").textContent = `${count(state.num_done)} of ${count(total)} in the queue; ${counted(state.num_given, "label")} by ${state.reviewer}`;
  const open = state.queue.filter((one) => !skipped.includes(one.uid));
  await show(open[0] ?? state.queue[0] ?? null);
}

async function show(draw) {
  current = null; // no key labels what is not on the page yet
  by("stage").classList.add("waiting");
  by("stratum").textContent = draw ? `${draw.stratum}; one in ${(1 / draw.probability).toFixed(1)} of these was drawn` : "";
  if (!draw) {
    by("stage").classList.remove("waiting");
    fill(by("stage"), el("p", { class: "note" }, "The queue is empty: everything in it has your label."));
    fill(by("captions"));
    fill(by("info-body"));
    return buttons();
  }
  const told = await (ahead.get(draw.uid) ?? server.about(draw.uid));
  ahead.clear();
  current = { draw, told };
  by("stage").classList.remove("waiting");
  showPicture(by("stage"), told);
  showCaptions(by("captions"), told.captions);
  fill(by("info-body"), infoOf(told));
  buttons();
  const after = desk.state.queue.find((one) => one.uid !== draw.uid && !skipped.includes(one.uid));
  if (!after) return;
  new Image().src = `/picture/${after.uid}`;
  ahead.set(after.uid, server.about(after.uid));
}

function buttons() {
  const mine = current ? current.told.labels.filter((one) => one.reviewer === desk.reviewer).map((one) => one.label) : [];
  fill(by("buttons"), labelButtons(mine, label));
}

export async function label(word) {
  if (!current || isBusy) return;
  const uid = current.draw.uid;
  await busy(async () => {
    const state = await server.give([uid], word, desk.reviewer, true);
    await take(state);
  });
}

export async function undo() {
  await busy(async () => {
    const state = await server.undo(desk.reviewer);
    tell(state.uid ? `Taken back: ${state.label}` : "There is nothing to take back.");
    desk.state = state;
    const draw = state.uid ? state.queue.find((one) => one.uid === state.uid) : null;
    if (draw) state.queue = [draw, ...state.queue.filter((one) => one.uid !== state.uid)];
    if (draw && skipped.includes(draw.uid)) skipped.splice(skipped.indexOf(draw.uid), 1);
    await take(state);
  });
}

export async function skip() {
  if (!current || desk.state.queue.length < 2) return;
  skipped.push(current.draw.uid);
  if (skipped.length >= desk.state.queue.length) skipped.length = 0;
  await busy(() => take(desk.state));
}

export async function back() {
  const uid = skipped.pop();
  const draw = uid && desk.state.queue.find((one) => one.uid === uid);
  if (draw) await busy(() => show(draw));
}

async function busy(act) {
  if (isBusy) return;
  isBusy = true;
  try {
    await act();
  } catch (error) {
    tell(error.message, true);
  } finally {
    isBusy = false;
  }
}
