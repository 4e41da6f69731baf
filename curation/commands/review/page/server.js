// The only way to the server: its own addresses, answers in JSON, errors as sentences.

let csrf = "";

export const facts = async () => {
  const found = await ask("/api/facts");
  csrf = found.csrf;
  return found;
};
export const state = (reviewer) => ask(`/api/state?reviewer=${encodeURIComponent(reviewer)}`);
export const about = (uid) => ask(`/api/picture/${uid}`);
export const agreement = () => ask("/api/agreement");
export const points = (by) => ask(`/api/map?q=${encodeURIComponent(JSON.stringify({ by: by || null }))}`);
export const gallery = (query, signal) => post("/api/gallery", query, signal);
export const whatIf = (limits, signal) => ask(`/api/whatif?q=${encodeURIComponent(JSON.stringify({ limits }))}`, { signal });
export const give = (uids, label, reviewer, fromQueue) => post("/api/label", { uids, label, reviewer, from_queue: fromQueue });
export const undo = (reviewer) => post("/api/undo", { reviewer });
export const select = (name, query, uids) => post("/api/selection", { name, query, uids });
export const write = (name, limits) => post("/api/recipe", { name, limits });

function post(path, body, signal) {
  const headers = { "content-type": "application/json", "x-review-csrf": csrf };
  return ask(path, { method: "POST", headers, body: JSON.stringify(body), signal });
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Was it ended? Labels that were shown as given are safe.");
  }
  const text = await answer.text();
  if (answer.ok) return JSON.parse(text);
  let why = text;
  try { why = JSON.parse(text).error; } catch { /* plain text */ }
  throw new Error(why || `refused (${answer.status})`);
}
