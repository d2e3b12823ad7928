// Keeps the status page up to date: asks for the page again and makes the shown one like it, node by node, so that focus, selection,
// scrolling and what is unfolded stay. Without this script the page reloads by itself.
"use strict";

const EVERY = 2000; // milliseconds from one answer to the next question
const PATIENCE = 5000; // milliseconds for an answer
const KEPT = new Set(["open"]); // of <details>: the reader's choice

function sameKind(shown, fresh) {
  return shown.nodeType === fresh.nodeType && shown.nodeName === fresh.nodeName && shown.id === fresh.id;
}

function copyAttributes(shown, fresh) {
  for (const { name } of [...shown.attributes]) {
    if (!KEPT.has(name) && !fresh.hasAttribute(name)) shown.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (shown.getAttribute(name) !== value) shown.setAttribute(name, value);
  }
}

function become(shown, fresh) {
  if (!sameKind(shown, fresh)) {
    shown.replaceWith(document.importNode(fresh, true));
  } else if (shown.nodeType === Node.TEXT_NODE) {
    if (shown.data !== fresh.data) shown.data = fresh.data;
  } else if (shown.nodeType === Node.ELEMENT_NODE) {
    copyAttributes(shown, fresh);
    const [before, after] = [[...shown.childNodes], [...fresh.childNodes]];
    after.forEach((child, index) => {
      if (index < before.length) become(before[index], child);
      else shown.append(document.importNode(child, true));
    });
    before.slice(after.length).forEach((child) => child.remove());
  }
}

function show(text) {
  const fresh = new DOMParser().parseFromString(text, "text/html");
  if (fresh.documentElement.dataset.version !== document.documentElement.dataset.version) {
    location.reload(); // another version of the gateway, whose style and script may be others too
    return;
  }
  document.title = fresh.title;
  become(document.querySelector("link[rel=icon]"), fresh.querySelector("link[rel=icon]"));
  for (const name of ["header", "main", "footer"]) become(document.querySelector(name), fresh.querySelector(name));
}

function showSilence() {
  const state = document.getElementById("state");
  if (state.classList.contains("silent")) return;
  state.className = "state silent";
  document.querySelector("#headline .sign span").textContent = "✕";
  document.querySelector("#headline strong").textContent = "No contact: what is shown is old";
  document.title = "✕ No contact";
}

async function refresh() {
  if (!document.hidden) {
    try {
      const answer = await fetch(location.pathname, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
      if (!answer.ok) throw new Error(String(answer.status));
      show(await answer.text());
    } catch {
      showSilence();
    }
  }
  setTimeout(refresh, EVERY);
}

setTimeout(refresh, EVERY);
