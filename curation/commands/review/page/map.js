// The map: a point for each picture; a line drawn around some selects them.

import { by, count, tell } from "./dom.js";
import * as server from "./server.js";

let found = null;
const drawn = new Map();
let line = [];
let inside = [];

export async function show(basis = "") {
  try {
    found = drawn.get(basis) ?? await server.points(basis);
    drawn.set(basis, found).set(found.by, found);
    inside = [];
    tellBasis();
    draw();
  } catch (error) {
    tell(error.message, true);
  }
}

function tellBasis() {
  const { features, scores } = found.num;
  by("map-basis").textContent = found.by === "features"
    ? `What looks alike to the heads' network lies together: first two principal components of its features, which ${count(features)} of ${count(scores)} pictures have; the others are not here.`
    : `What was measured alike lies together: first two principal components of all scores. ${features ? `${count(features)} of ${count(scores)} pictures have features, too.` : "No picture has features (teach keeps them beside the run)."}`;
  by("map-by").value = found.by;
  by("map-choice").hidden = features === 0;
}

export function start(onSelect) {
  by("map-by").addEventListener("change", (event) => show(event.target.value));
  const canvas = by("canvas");
  const at = (event) => [event.offsetX, event.offsetY];
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); line = [at(event)]; inside = []; });
  canvas.addEventListener("pointermove", (event) => { if (line.length && event.buttons) { line.push(at(event)); draw(); } });
  canvas.addEventListener("pointerup", () => { if (line.length > 2) lasso(); line = []; draw(); });
  by("show-lassoed").addEventListener("click", () => onSelect(inside.map((place) => found.uids[place])));
  addEventListener("resize", () => { if (!by("map").hidden) draw(); });
}

const spot = (place, canvas) => [(0.5 + 0.48 * place[0]) * canvas.clientWidth, (0.5 - 0.48 * place[1]) * canvas.clientHeight];

function lasso() {
  const canvas = by("canvas");
  inside = found.places.flatMap((place, number) => within(spot(place, canvas), line) ? [number] : []);
  by("num-lassoed").textContent = `${count(inside.length)} selected`;
  by("show-lassoed").hidden = inside.length === 0;
}

export function within([x, y], outline) {
  let isInside = false;
  for (let one = 0, before = outline.length - 1; one < outline.length; before = one++) {
    const [ax, ay] = outline[one];
    const [bx, by_] = outline[before];
    if ((ay > y) !== (by_ > y) && x < ((bx - ax) * (y - ay)) / (by_ - ay) + ax) isInside = !isInside;
  }
  return isInside;
}

function draw() {
  const canvas = by("canvas");
  const scale = devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * scale;
  canvas.height = canvas.clientHeight * scale;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const colours = ["--lost", "--kept"].map((name) => getComputedStyle(document.body).getPropertyValue(name));
  const size = found.places.length > 5000 ? 2 : 6;
  const chosen = new Set(inside);
  found.places.forEach((place, number) => {
    const [x, y] = spot(place, canvas);
    pen.fillStyle = colours[found.kept[number]];
    pen.globalAlpha = chosen.size && !chosen.has(number) ? 0.15 : 0.75;
    pen.fillRect(x - size / 2, y - size / 2, size, size);
  });
  pen.globalAlpha = 1;
  if (line.length > 1) {
    pen.strokeStyle = getComputedStyle(document.body).getPropertyValue("--ink");
    pen.beginPath();
    line.forEach(([x, y], number) => number ? pen.lineTo(x, y) : pen.moveTo(x, y));
    pen.stroke();
  }
}
