"use strict";
// What a page can do besides being read: tables sort by a column, curves tell their values under the pointer.

/** Return what a cell sorts by: its number, if it holds one. */
function sortKey(row, i) {
  const cell = row.cells[i];
  const text = cell?.dataset.v ?? cell?.textContent ?? "";
  return text === "" || Number.isNaN(Number(text)) ? text : Number(text);
}

for (const table of document.querySelectorAll("table.sorts")) {
  table.querySelectorAll("thead th").forEach((head, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      const order = (a, b) => (typeof a === typeof b ? (a > b) - (a < b) : typeof a === "number" ? -1 : 1);
      rows.sort((a, b) => (down ? -1 : 1) * order(sortKey(a, i), sortKey(b, i)));
      table.tBodies[0].append(...rows);
    });
  });
}

/** Return a line's points as [x, y] in pixels of the drawing. */
const pointsOf = (line) => line.getAttribute("points").split(" ").map((pair) => pair.split(",").map(Number));

for (const svg of document.querySelectorAll("svg[data-frame]")) {
  const [left, top, width, height, x0, x1, y0, y1, ratios] = svg.dataset.frame.split(" ").map(Number);
  const lines = [...svg.querySelectorAll("polyline[data-name]")].map((line) => [line.dataset.name, pointsOf(line)]);
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  svg.parentElement.append(tip);
  svg.addEventListener("pointerleave", () => { tip.hidden = true; });
  svg.addEventListener("pointermove", (event) => {
    const bounds = svg.getBoundingClientRect();
    const at = ((event.clientX - bounds.left) * svg.viewBox.baseVal.width) / bounds.width;
    const values = lines.map(([name, points]) => {
      const [x, y] = points.reduce((best, point) => (Math.abs(point[0] - at) < Math.abs(best[0] - at) ? point : best));
      const share = (top + height - y) / height;
      return { name, x, value: ratios ? y0 * (y1 / y0) ** share : y0 + (y1 - y0) * share };
    });
    const near = values.reduce((best, v) => (Math.abs(v.x - at) < Math.abs(best.x - at) ? v : best));
    const here = values.filter((v) => Math.abs(v.x - near.x) < 1).sort((a, b) => a.value - b.value);
    const number = Math.round(x0 + ((x1 - x0) * (near.x - left)) / width);
    tip.textContent = [`${svg.dataset.x} ${number}`, ...here.map((v) => `${v.value.toPrecision(4)}  ${v.name}`)].join("\n");
    tip.hidden = false;
    const x = event.clientX - bounds.left;
    tip.style.left = `${Math.max(Math.min(x + 12, bounds.width - tip.offsetWidth), 0)}px`;
    tip.style.top = `${(top * bounds.height) / svg.viewBox.baseVal.height}px`;
  });
}
