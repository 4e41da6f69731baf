// What the page asks of the server.

import { ask, begin, post } from "./ask.js";

export const facts = () => begin("/api/facts", "Labels that were shown as given are safe.");
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
