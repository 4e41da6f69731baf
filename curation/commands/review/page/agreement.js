// What two reviewers said of the same pictures.

import { by, count, el, fill, tell } from "./dom.js";
import * as server from "./server.js";

export async function show() {
  try {
    const found = await server.agreement();
    fill(by("agreements"), found.length ? found.map(pair) : el("p", { class: "muted" }, "No two reviewers have labelled the same picture yet. The queue shows everyone the same pictures: change the reviewer above and label some."));
  } catch (error) {
    tell(error.message, true);
  }
}

function pair(one) {
  const kappa = one.kappa === null ? "Cohen's kappa is not defined: both use one label alone" : `Cohen's kappa ${one.kappa.toFixed(2)} (95 %: ${one.low.toFixed(2)} to ${one.high.toFixed(2)})`;
  const rows = one.pairs.map(([first, second, num]) => el("tr", {}, el("td", {}, first), el("td", {}, second), el("td", { class: "n" }, count(num))));
  return el("div", { class: "agreement" }, el("h2", {}, one.reviewers.join(" and ")),
    el("p", { class: "kappa" }, `${kappa}; ${count(one.num_agreed)} of ${count(one.num)} labels agree.`),
    rows.length ? el("table", {}, el("thead", {}, el("tr", {}, el("th", {}, one.reviewers[0]), el("th", {}, one.reviewers[1]), el("th", { class: "n" }, "pictures"))), el("tbody", {}, rows)) : null);
}
