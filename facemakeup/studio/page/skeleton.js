// The pose: five points that are dragged or moved by keys, x and y in shares of the picture's sides.

import { by, fill, svg } from "./dom.js";

const NAMES = ["left eye", "right eye", "nose", "left corner of the mouth", "right corner of the mouth"];
const OTHER_SIDE = [1, 0, 2, 4, 3];
const NOSE = 2, STEP = 0.01, LARGE = 5, GROWTH = 1.04, UNIT = 1000;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

let points = [], frontal = [], dots = [], limbs = [], ring = null;
let high = UNIT;

export const pose = () => (by("posed").checked ? points : null);

export function start(facts) {
  frontal = facts.frontal;
  const rgb = (colour) => `rgb(${colour.join(",")})`;
  ring = svg("ellipse", { class: "whole", tabindex: 0, role: "button" });
  limbs = facts.limb_colours.map((colour) => svg("line", { stroke: rgb(colour) }));
  dots = facts.colours.map((colour) => svg("circle", { class: "point", r: 26, fill: rgb(colour), tabindex: 0, role: "button" }));
  fill(by("skeleton"), ring, limbs, dots);
  dots.forEach((dot, number) => listen(dot, (x, y) => move([number], x, y)));
  listen(ring, (x, y) => move(points.keys(), x, y), resize);
  by("posed").addEventListener("change", () => { by("pose").hidden = !by("posed").checked; });
  by("frontal").addEventListener("click", () => take(frontal));
  by("mirror").addEventListener("click", () => take(OTHER_SIDE.map((other) => [1 - points[other][0], points[other][1]])));
  take(frontal, false);
}

export function take(found, shows = true) {
  points = found.map(([x, y]) => [clamped(x), clamped(y)]);
  if (shows) { by("posed").checked = true; by("pose").hidden = false; }
  show();
}

export function shape(width, height) {
  high = (UNIT * height) / width;
  show();
}

function listen(element, act, grow) {
  let last = null;
  element.addEventListener("pointerdown", (event) => { last = place(event); element.setPointerCapture(event.pointerId); element.focus(); event.preventDefault(); });
  element.addEventListener("pointermove", (event) => {
    if (!last) return;
    const now = place(event);
    act(now[0] - last[0], now[1] - last[1]);
    last = now;
  });
  for (const end of ["pointerup", "pointercancel"]) element.addEventListener(end, () => { last = null; });
  element.addEventListener("keydown", (event) => {
    const arrow = ARROWS[event.key], step = STEP * (event.shiftKey ? LARGE : 1);
    if (arrow) act(arrow[0] * step, arrow[1] * step);
    else if (grow && (event.key === "+" || event.key === "-")) grow(event.key === "+" ? GROWTH : 1 / GROWTH);
    else return;
    event.preventDefault();
  });
}

function place(event) {
  const { left, top, width, height } = by("skeleton").getBoundingClientRect();
  return [(event.clientX - left) / width, (event.clientY - top) / height];
}

function move(numbers, x, y) {
  for (const number of numbers) points[number] = [clamped(points[number][0] + x), clamped(points[number][1] + y)];
  show();
}

function resize(by) {
  const [x, y] = middle();
  points = points.map((point) => [clamped(x + (point[0] - x) * by), clamped(y + (point[1] - y) * by)]);
  show();
}

function show() {
  by("skeleton").setAttribute("viewBox", `0 0 ${UNIT} ${high}`);
  const at = ([x, y]) => [x * UNIT, y * high];
  limbs.forEach((limb, number) => {
    const [[x1, y1], [x2, y2]] = [at(points[number]), at(points[NOSE])];
    for (const [name, value] of Object.entries({ x1, y1, x2, y2 })) limb.setAttribute(name, value);
  });
  dots.forEach((dot, number) => {
    const [x, y] = points[number];
    dot.setAttribute("cx", x * UNIT);
    dot.setAttribute("cy", y * high);
    dot.setAttribute("aria-label", `${NAMES[number]}, ${Math.round(x * 100)} % across, ${Math.round(y * 100)} % down`);
  });
  const [x, y] = middle(), spread = (axis) => Math.max(...points.map((point) => Math.abs(point[axis] - (axis ? y : x))));
  const round = { cx: x * UNIT, cy: y * high, rx: spread(0) * UNIT + 110, ry: spread(1) * high + 110, "aria-label": `the whole face, ${Math.round(x * 100)} % across, ${Math.round(y * 100)} % down` };
  for (const [name, value] of Object.entries(round)) ring.setAttribute(name, value);
}

const middle = () => [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);
const clamped = (value) => Math.round(Math.min(2, Math.max(-1, value)) * 10000) / 10000;
