// The only way to the server: its own addresses, answers in JSON, errors as sentences.

let csrf = "";
let safe = "";

export async function begin(path, whatIsSafe) {
  safe = whatIsSafe;
  history.replaceState(null, "", "/"); // the token stays in no history
  const found = await ask(path);
  csrf = found.csrf;
  return found;
}

export function post(path, body, signal) {
  return send(path, JSON.stringify(body), "application/json", signal);
}

export function send(path, body, type, signal) {
  return ask(path, { method: "POST", headers: { "content-type": type, "x-page-csrf": csrf }, body, signal });
}

export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error(`The server does not answer. Was it ended? ${safe}`);
  }
  const text = await answer.text();
  if (answer.ok) return JSON.parse(text);
  let why = text;
  try { why = JSON.parse(text).error; } catch { /* plain text */ }
  throw new Error(why || `refused (${answer.status})`);
}
