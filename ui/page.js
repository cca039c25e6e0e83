// What the page does in the browser alone: theme, language link, moving the viewer's crosshair.
"use strict";

window.consiliumPicked = (row) => {
  const list = row.closest(".cases, .bars, .evidence");
  if (list?.matches(".cases")) history.replaceState(null, "", `?case=${row.dataset.pick}`);
  list?.querySelectorAll("[aria-current]").forEach((other) => { other.ariaCurrent = "false"; });
  row.ariaCurrent = "true";
  const region = Number(row.dataset.region || 0);
  const viewer = document.getElementById("viewer");
  if (region && viewer) viewer.contentWindow.postMessage({ region }, location.origin);
};

const theme = {
  get dark() { return document.body.classList.contains("dark"); },
  set(dark) {
    document.body.classList.toggle("dark", dark);
    localStorage.setItem("consilium-theme", dark ? "dark" : "light");
  },
};

document.addEventListener("click", (event) => {
  if (event.target.closest("#theme")) theme.set(!theme.dark);
  const link = event.target.closest("#language");
  if (link) link.search = location.search;
});

addEventListener("DOMContentLoaded", () => {
  const chosen = localStorage.getItem("consilium-theme");
  if (chosen) setTimeout(() => theme.set(chosen === "dark"), 0);
  // Bring the marked sentence into view whenever a note is opened at it.
  new MutationObserver(() => {
    const mark = document.getElementById("marked");
    if (!mark || mark.dataset.seen) return;
    mark.dataset.seen = "1";
    const box = mark.closest(".note");
    box.scrollTop = mark.offsetTop - box.offsetTop - box.clientHeight / 3;
  }).observe(document.body, { childList: true, subtree: true });
});
