// Elements, and nothing that could take a text for HTML: every text of the world arrives as textContent.

const SVG = "http://www.w3.org/2000/svg";

export const by = (id) => document.getElementById(id);

export function el(tag, props = {}, ...children) {
  return filled(document.createElement(tag), props, children);
}

export function svg(tag, props = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), props, children);
}

/** A name that may break after its points and underscores, and nowhere within its words. */
export const breakable = (name) => String(name).split(/(?<=[_.])/).flatMap((part, place) => place ? [el("wbr"), part] : [part]);

export function fill(place, ...children) {
  place.replaceChildren(...children.flat().filter((child) => child !== null));
  return place;
}

function filled(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null));
  return element;
}

export function short(value) {
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return String(Number(value.toPrecision(4)));
}

export const count = (num) => num.toLocaleString("en");
export const counted = (num, noun) => `${count(num)} ${noun}${num === 1 ? "" : "s"}`;

let timer;
export function tell(text, lasts = false) {
  const place = by("message");
  clearTimeout(timer);
  place.textContent = text;
  place.hidden = !text;
  if (text && !lasts) timer = setTimeout(() => tell(""), 6000);
}

export function later(act, ms) {
  let waiting;
  return (...values) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => act(...values), ms);
  };
}
