// Keeps the page current: fetches itself, swaps the content if it changed, says a new headline aloud.
// Without this script the page works and is simply as old as it was loaded.
"use strict";
const EVERY_MS = 5000;
const button = document.getElementById("pause");
let paused = false;

function openDetails(root) {
  return new Set([...root.querySelectorAll("details[open] > summary")].map((summary) => summary.textContent));
}

function busy(main) {
  const at = document.activeElement;
  const selection = document.getSelection();
  return (at !== null && at !== main && main.contains(at)) || (selection !== null && !selection.isCollapsed);
}

async function refresh() {
  const main = document.getElementById("main");
  if (paused || document.hidden || busy(main)) return;
  let answer;
  try {
    answer = await fetch(location.href, { cache: "no-store" });
  } catch (error) {
    document.getElementById("as-of").textContent = "no answer since " + document.getElementById("as-of").textContent.replace("no answer since ", "");
    return;
  }
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  document.getElementById("as-of").replaceWith(fresh.getElementById("as-of"));
  const next = fresh.getElementById("main");
  if (next === null || next.innerHTML === main.innerHTML) return;
  const before = document.getElementById("headline");
  const after = next.querySelector("#headline");
  const open = openDetails(main);
  const scrolls = [...main.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
  main.replaceChildren(...next.childNodes);
  for (const summary of main.querySelectorAll("details > summary")) {
    if (open.has(summary.textContent)) summary.parentElement.open = true;
  }
  main.querySelectorAll(".scroll").forEach((box, i) => { box.scrollLeft = scrolls[i] ?? 0; });
  document.title = fresh.title;
  if (before !== null && after !== null && before.textContent !== after.textContent) {
    document.getElementById("announce").textContent = after.textContent;
  }
}

button.hidden = false;
button.setAttribute("aria-pressed", "false");
button.addEventListener("click", () => {
  paused = !paused;
  button.setAttribute("aria-pressed", String(paused));
});
setInterval(refresh, EVERY_MS);
