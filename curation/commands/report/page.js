"use strict";
// Keys and filters. Without it the page shows the same, and links turn its large pictures.
(() => {
  const $ = (id) => document.getElementById(id);
  const tiles = [...document.querySelectorAll(".tile")];
  const sifter = document.querySelector(".sift");
  sifter.hidden = document.querySelector(".keys").hidden = false;

  const sift = () => {
    const reason = $("sift-reason").value, score = $("sift-score").value;
    const low = $("sift-low").valueAsNumber, high = $("sift-high").valueAsNumber;
    let shown = 0;
    for (const tile of tiles) {
      const value = score ? JSON.parse(tile.dataset.scores)[score] : 0;
      const fits = (!reason || tile.dataset.verdict === reason) && value !== undefined
        && !(score && (value < low || value > high));
      tile.hidden = !fits;
      shown += fits;
    }
    for (const sheet of document.querySelectorAll(".sheet"))
      sheet.hidden = !sheet.querySelector(".tile:not([hidden])");
    $("sift-count").textContent = `${shown} of ${tiles.length} shown`;
  };
  sifter.addEventListener("input", sift);
  sift();

  document.addEventListener("keydown", (event) => {
    const large = document.querySelector(".tile:target");
    if (!large || event.altKey || event.ctrlKey || event.metaKey) return;
    const row = tiles.filter((tile) => !tile.hidden && tile.querySelector("img"));
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) {
      const next = row[row.indexOf(large) + step];
      if (next) location.replace("#" + next.id);
    } else if (event.key === "Escape") {
      const tile = large;
      location.replace("#" + large.closest(".sheet").id);
      tile.scrollIntoView({ block: "center" });
    } else if (event.key === " ") {
      const box = large.querySelector(".frame input");
      box.checked = !box.checked;
    } else return;
    event.preventDefault();
  });
})();
