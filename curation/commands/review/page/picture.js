// A picture with what the filters saw drawn over it, and the table of what decided.

import { breakable, el, fill, short, svg } from "./dom.js";

export const LAYERS = [["face", "faces", "b"], ["landmark", "landmarks", "l"], ["text", "text", "t"], ["hit", "anime hits", "h"], ["region", "screens", "s"]];

export function toggleLayer(kind, on) {
  document.body.classList.toggle(`show-${kind}`, on);
  for (const box of document.querySelectorAll(`input[data-layer="${kind}"]`)) box.checked = document.body.classList.contains(`show-${kind}`);
}

export function layerBoxes() {
  return LAYERS.map(([kind, name, key]) =>
    el("label", { class: "check" },
      el("input", { type: "checkbox", "data-layer": kind, onchange: (event) => toggleLayer(kind, event.target.checked) }),
      el("span", { class: `swatch ${kind}` }), name, " ", el("kbd", {}, key)));
}

export function showPicture(place, told) {
  if (!told.is_shown || !told.width) {
    return fill(place, el("p", { class: "note" }, `Not shown: ${told.rejected_by ?? "nothing is known of it"} (${told.reason ?? "no size"}).`));
  }
  const image = el("img", { src: `/picture/${told.uid}`, alt: "", decoding: "async" });
  const marks = told.marks.map((mark) => mark.kind === "landmark"
    ? svg("path", { class: "mark landmark", d: `M${mark.points}h.01` })
    : svg("polygon", { class: `mark ${mark.kind}`, points: mark.points }));
  const over = svg("svg", { viewBox: `0 0 ${told.width} ${told.height}`, preserveAspectRatio: "none", "aria-hidden": "true" }, marks);
  const frame = el("div", { class: "frame blur", onclick: () => frame.classList.toggle("open") }, image, over);
  const size = () => {
    const scale = Math.min(place.clientWidth / told.width, (window.innerHeight * 0.68) / told.height, 4);
    frame.style.width = `${told.width * scale}px`;
    frame.style.height = `${told.height * scale}px`;
  };
  image.addEventListener("error", () => fill(place, el("p", { class: "note" }, "Its picture is not here, or is none that a page may show.")));
  fill(place, frame);
  size();
  return place;
}

export function showCaptions(place, captions) {
  fill(place, captions.length ? captions.map((text) => el("p", { dir: "auto" }, text)) : el("p", { class: "muted" }, "No caption."));
}

export const verdictOf = (told) => told.kept ? "kept" : `rejected by ${told.rejected_by}: ${told.reason}`;

export function infoOf(told) {
  const said = el("p", { class: `verdict ${told.kept ? "kept" : "lost"}` }, verdictOf(told));
  const rows = told.criteria.map((one) => el("tr", { class: one.failure ? "criterion-fails" : "" },
    el("td", {}, breakable(one.name), one.by ? el("span", { class: "muted" }, ` by ${one.by}`) : null),
    el("td", { class: "n" }, valueOf(one)), el("td", { class: "n" }, rangeOf(one)), el("td", { class: "outcome" }, outcomeOf(one))));
  const criteria = rows.length ? el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, el("th", {}, "criterion"), el("th", { class: "n" }, "score"), el("th", { class: "n" }, "stays"), el("th", {}, ""))), el("tbody", {}, rows))) : null;
  const scores = Object.entries(told.scores).map(([name, value]) => el("tr", {}, el("td", {}, breakable(name)), el("td", { class: "n" }, short(value))));
  const facts = [["uid", told.uid], ["key", told.key], ["url", told.url ?? "none"], ["size", told.width ? `${told.width} × ${told.height} px, ${short(told.num_bytes)} bytes, ${told.format}` : "unknown"]];
  return [said, criteria, el("details", {}, el("summary", {}, "All scores"), el("table", {}, el("tbody", {}, scores))),
    el("details", {}, el("summary", {}, "Who it is"), el("table", {}, el("tbody", {}, facts.map(([name, value]) => el("tr", {}, el("td", {}, name), el("td", {}, value))))))];
}

function valueOf(one) {
  if (one.low === one.high) return short(one.low);
  if (one.waiting.length) return "not measured";
  if (one.high === "inf") return `≥ ${short(one.low)}`;
  return one.low === "-inf" ? `≤ ${short(one.high)}` : `${short(one.low)} … ${short(one.high)}`;
}

export function rangeOf({ min, max }) {
  if (min === null || min === undefined) return max === null || max === undefined ? "anything" : `≤ ${short(max)}`;
  if (max === null || max === undefined) return `≥ ${short(min)}`;
  return min === max ? `= ${short(min)}` : `${short(min)} … ${short(max)}`;
}

const outcomeOf = (one) => one.failure ? `fails (${one.failure.replace("_", " ")})` : one.holds ? "holds" : `waits for ${one.waiting.join(", ")}`;
