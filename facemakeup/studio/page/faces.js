// The faces that are mixed: each with its weight, and its pose to lend.

import { post, send } from "./ask.js";
import { by, el, tell } from "./dom.js";
import * as skeleton from "./skeleton.js";

const faces = new Map();

export const mixed = () => [...faces].map(([face, weight]) => ({ face, weight: Number(weight.value) }));

export function start() {
  by("photos").addEventListener("change", async (event) => {
    const photos = [...event.target.files];
    event.target.value = "";
    for (const photo of photos) await add(photo).catch((error) => tell(error.message, true));
  });
}

async function add(photo) {
  tell(`Looking for the face in ${photo.name} …`, true);
  const found = await send(`/api/face?name=${encodeURIComponent(photo.name)}`, photo, "application/octet-stream");
  tell("");
  const weight = el("input", { type: "range", min: 0, max: 1, step: 0.05, value: 1, "aria-label": `Weight of ${found.name}` });
  const told = el("output", {}, "1.00");
  weight.addEventListener("input", () => { told.textContent = Number(weight.value).toFixed(2); });
  const tile = el("div", { class: "face" }, el("img", { src: `/face/${found.face}`, alt: `The face in ${found.name}` }),
    el("div", {}, el("span", { class: "called", title: found.name }, found.name), el("span", { class: "weight" }, weight, told),
      el("div", { class: "row" }, el("button", { type: "button", onclick: () => skeleton.take(found.points) }, "Take its pose"),
        el("button", { type: "button", onclick: () => remove(found.face, tile) }, "Remove"))));
  faces.set(found.face, weight);
  by("faces").append(tile);
}

function remove(face, tile) {
  faces.delete(face);
  tile.remove();
  post("/api/remove", { face }).catch((error) => tell(error.message, true));
}
