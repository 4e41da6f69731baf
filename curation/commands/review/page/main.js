// The page: four views, the keyboard, and who is at work.

import * as agreement from "./agreement.js";
import { by, counted, tell } from "./dom.js";
import * as gallery from "./gallery.js";
import * as map from "./map.js";
import { LAYERS, toggleLayer } from "./picture.js";
import * as queue from "./queue.js";
import * as server from "./server.js";
import * as whatif from "./whatif.js";

function view(name) {
  document.body.dataset.view = name;
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== name;
  for (const button of document.querySelectorAll("header nav button")) button.setAttribute("aria-pressed", String(button.dataset.view === name));
  if (name === "gallery") gallery.search();
  if (name === "map") map.show();
  if (name === "agreement") agreement.show();
}

function reveal(on) {
  document.body.classList.toggle("reveal", on);
  by("reveal").checked = on;
  sessionStorage.setItem("reveal", on ? "on" : "");
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input:not([type=checkbox]), select, textarea")) return;
  const key = event.key.toLowerCase();
  const dialog = by("dialog").open;
  const layer = LAYERS.find(([, , letter]) => letter === key);
  const word = /^[1-9]$/.test(key) ? queue.words()[Number(key) - 1] : undefined;
  const isQueue = document.body.dataset.view === "queue" && !dialog;
  const acts = { u: queue.undo, v: () => reveal(!by("reveal").checked) };
  if (isQueue) Object.assign(acts, { arrowright: queue.skip, n: queue.skip, arrowleft: queue.back, i: () => { by("info").open = !by("info").open; } });
  if (dialog) Object.assign(acts, { arrowright: () => gallery.step(1), arrowleft: () => gallery.step(-1) });
  if (layer) acts[key] = () => toggleLayer(layer[0], !document.body.classList.contains(`show-${layer[0]}`));
  if (word && (isQueue || dialog)) acts[key] = () => (dialog ? gallery.labelShown(word) : queue.label(word));
  if (!acts[key]) return;
  event.preventDefault();
  acts[key]();
}

async function begin() {
  const facts = await server.facts();
  document.title = `Review: ${facts.run}`;
  by("run").textContent = facts.run;
  by("recipe").textContent = `${facts.recipe}; ${counted(facts.num_rows, "picture")}`;
  reveal(sessionStorage.getItem("reveal") === "on");
  for (const button of document.querySelectorAll("header nav button")) button.addEventListener("click", () => view(button.dataset.view));
  by("reveal").addEventListener("change", (event) => reveal(event.target.checked));
  by("reviewer").addEventListener("change", async (event) => {
    queue.desk.reviewer = event.target.value.trim();
    sessionStorage.setItem("reviewer", queue.desk.reviewer);
    await queue.refresh().catch((error) => tell(error.message, true));
    event.target.blur();
  });
  addEventListener("keydown", onKey);
  if (matchMedia("(max-width: 820px)").matches) for (const panel of document.querySelectorAll("aside > details")) panel.open = false;
  gallery.start(facts);
  map.start((uids) => { view("gallery"); gallery.only(uids); });
  await queue.start(sessionStorage.getItem("reviewer") ?? "");
  await whatif.start(facts);
  document.body.dataset.ready = "yes";
}

begin().catch((error) => tell(error.message, true));
