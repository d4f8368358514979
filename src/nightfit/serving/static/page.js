"use strict";
// The page of a server: what it serves, how its nights went, and a form to ask it. No library, nothing from elsewhere.

const $ = (id) => document.getElementById(id);
const N_ROWS = 60; // of the table of versions: the newest
const rates = [];
let state = null;
let last = null;

/** Make an element with attributes and children; text is never read as HTML. */
function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "circle", "line", "text", "title", "g"].includes(tag);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Fetch JSON with the tab's token; a refused one is asked for. */
async function fetchJson(path, options = {}) {
  const headers = { ...options.headers };
  const token = sessionStorage.getItem("token");
  if (token) headers.Authorization = `Bearer ${token}`;
  const reply = await fetch(path, { ...options, headers });
  if (reply.status === 401) {
    await askForToken();
    return fetchJson(path, options);
  }
  const body = await reply.json();
  if (!reply.ok) throw new Error(body.error);
  return body;
}

let asking = null;
function askForToken() {
  asking ??= new Promise((resolve) => {
    $("ask").showModal();
    $("ask-form").onsubmit = () => {
      sessionStorage.setItem("token", $("token").value);
      asking = null;
      resolve();
    };
  });
  return asking;
}
$("ask").addEventListener("cancel", (event) => event.preventDefault());

const color = (model) => `var(--m${state.models.findIndex((m) => m.name === model) % 4})`;
const figure = (value, digits = 4) => (value === undefined || value === null ? "" : value.toFixed(digits));

function age(seconds) {
  for (const [unit, size] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
    const n = Math.floor(seconds / size);
    if (n) return `${n} ${unit}${n > 1 ? "s" : ""}`;
  }
  return "less than a minute";
}

function showCards() {
  $("cards").replaceChildren(
    ...state.models.map((model) =>
      make(
        "section",
        {},
        make("h2", {}, model.name),
        make("div", { class: "big" }, model.serving === null ? "no version yet" : `version ${model.serving}`),
        model.serving === null ? null : make("div", { class: "soft" }, `${age(Date.now() / 1000 - model.created_at)} old`),
        model.versions.length ? make("p", {}, `Last night: ${model.versions.at(-1).verdict}`) : null,
      ),
    ),
  );
}

/** Draw lines over nights as SVG; `points` of a line are [x, y, title]. */
function lines(drawn, label, lowest = Infinity) {
  const all = drawn.flatMap((line) => line.points);
  if (all.length < 2) return make("p", { class: "soft" }, "Nothing to draw yet.");
  const [w, h, left, right, top, bottom] = [720, 220, 46, 10, 10, 24];
  const xs = all.map((p) => p[0]);
  const ys = all.map((p) => p[1]);
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(lowest, ...ys), Math.max(...ys)];
  const px = (x) => left + ((w - left - right) * (x - x0)) / (x1 - x0 || 1);
  const py = (y) => h - bottom - ((h - top - bottom) * (y - y0)) / (y1 - y0 || 1);
  const svg = make("svg", { viewBox: `0 0 ${w} ${h}`, role: "img", "aria-label": label });
  for (const y of [y0, (y0 + y1) / 2, y1]) {
    svg.append(make("line", { x1: left, x2: w - right, y1: py(y), y2: py(y), stroke: "var(--line)" }));
    svg.append(make("text", { x: left - 6, y: py(y) + 4, "text-anchor": "end" }, y.toPrecision(3)));
  }
  for (const x of new Set([x0, x1])) {
    svg.append(make("text", { x: px(x), y: h - 6, "text-anchor": x === x0 ? "start" : "end" }, String(x)));
  }
  for (const line of drawn) {
    const path = line.points.map(([x, y], i) => `${i ? "L" : "M"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`).join("");
    svg.append(make("path", { d: path, fill: "none", stroke: line.color, "stroke-width": 2 }));
    for (const [x, y, title] of line.points) {
      if (title) svg.append(make("circle", { cx: px(x), cy: py(y), r: 3, fill: line.color }, make("title", {}, title)));
    }
  }
  return svg;
}

function showChart() {
  const score = state.models.some((m) => m.versions.some((v) => "rmse" in v.prequential)) ? "rmse" : "log_loss";
  const drawn = state.models.map((model) => ({
    color: color(model.name),
    points: model.versions
      .filter((v) => score in v.prequential)
      .map((v) => [v.version, v.prequential[score], `${model.name}, version ${v.version}: ${figure(v.prequential[score])}`]),
  }));
  const what = score === "rmse" ? "RMSE" : "log loss";
  $("chart").replaceChildren(lines(drawn, `${what} of each model by version; lower is better`));
  $("key").replaceChildren(
    ...state.models.map((m) => make("span", {}, make("i", { style: `background:${color(m.name)}` }), m.name)),
    make("span", { class: "soft" }, `${what} by version, lower is better`),
  );
}

function showDrift() {
  const rows = state.models.flatMap((model) =>
    model.versions.slice(-5).flatMap((v) => [
      ...(v.moved.length ? [[model.name, v.version, v.moved.join(", ")]] : []),
      ...(v.rise ? [[model.name, v.version, `the error rose from ${figure(v.rise[0], 3)} to ${figure(v.rise[1], 3)}`]] : []),
    ]),
  );
  $("drift").replaceChildren(
    rows.length
      ? make("ul", {}, ...rows.reverse().map(([m, v, alarm]) => make("li", {}, `${m}, version ${v}: ${alarm}`)))
      : make("p", { class: "soft" }, "None in the last five nights."),
  );
}

function showLog() {
  const head = ["model", "version", "status", "when", "read", "learned", "held out", "score", "verdict"];
  const numbers = new Set(["version", "read", "learned", "held out", "score"]);
  const rows = state.models.flatMap((model) => model.versions.map((v) => [model.name, v]));
  rows.sort((a, b) => (a[1].created_at < b[1].created_at ? 1 : -1));
  const cells = ([model, v]) => [
    model, v.version, v.act === "night" ? v.status : v.act, v.created_at.slice(0, 16).replace("T", " "),
    v.rows.read.toLocaleString("en"), v.rows.learned.toLocaleString("en"), v.rows.held_out.toLocaleString("en"),
    figure(v.prequential.log_loss ?? v.prequential.rmse), v.verdict,
  ];
  rows.splice(N_ROWS);
  $("log").replaceChildren(
    make("thead", {}, make("tr", {}, ...head.map((h) => make("th", { scope: "col", class: numbers.has(h) ? "n" : "" }, h)))),
    make(
      "tbody",
      {},
      ...rows.map((row) =>
        make(
          "tr",
          {},
          ...cells(row).map((cell, i) =>
            make("td", { class: numbers.has(head[i]) ? "n" : cell === "refused" ? "bad" : head[i] === "when" ? "when" : "" }, String(cell)),
          ),
        ),
      ),
    ),
  );
}

function field(column) {
  const id = `f-${column.name}`;
  const choices = { boolean: ["true", "false"], categorical: column.categories }[column.kind];
  const input = choices
    ? make("input", { id, list: `${id}-list`, autocomplete: "off" })
    : make("input", { id, autocomplete: "off", inputmode: column.kind === "numeric" ? "decimal" : "text" });
  if (column.kind === "datetime") input.placeholder = "2026-01-31 08:00";
  const list = choices ? make("datalist", { id: `${id}-list` }, ...choices.map((value) => make("option", { value }))) : null;
  return make("div", {}, make("label", { for: id }, `${column.name} `, make("span", { class: "soft" }, column.kind)), input, list);
}

/** Turn what was typed into a value of the column's kind; empty is missing. */
function typed(column) {
  const text = $(`f-${column.name}`).value.trim();
  if (!text) return null;
  if (column.kind === "numeric") return Number.isNaN(Number(text)) ? text : Number(text);
  if (column.kind === "boolean") return { true: true, false: false }[text.toLowerCase()] ?? text;
  return text;
}

function showForm() {
  const before = new FormData($("form")).get("model");
  const select = make("select", { id: "model", name: "model" }, ...state.models.map((m) => make("option", {}, m.name)));
  if (before) select.value = before;
  const chosen = () => state.models.find((m) => m.name === select.value);
  const fields = make("div", { style: "display: contents" });
  const fill = () => fields.replaceChildren(...chosen().columns.map(field));
  select.onchange = fill;
  fill();
  $("form").replaceChildren(
    make("div", {}, make("label", { for: "model" }, "model"), select),
    fields,
    make("div", {}, make("label", {}, "\u00a0"), make("button", {}, "Predict")),
  );
  $("form").onsubmit = async (event) => {
    event.preventDefault();
    const row = chosen().columns.map(typed);
    try {
      const body = JSON.stringify({ features: [row] });
      const options = { method: "POST", headers: { "Content-Type": "application/json" }, body };
      showAnswer(await fetchJson(`predict/${encodeURIComponent(select.value)}`, options));
    } catch (error) {
      $("answer").replaceChildren(make("p", { class: "bad" }, error.message));
    }
  };
}

function showAnswer(reply) {
  const bars = (reply.classes ?? []).map((label, i) => {
    const p = reply.probability[0][i];
    return make("tr", {}, make("td", {}, label), make("td", { class: "n" }, `${(100 * p).toFixed(1)} %`),
      make("td", { style: "width: 60%" }, make("div", { class: "bar" }, make("i", { style: `width:${100 * p}%` }))));
  });
  $("answer").replaceChildren(
    make("p", {}, make("span", { class: "big" }, String(reply.prediction[0])), ` by version ${reply.model_version} of ${reply.model}`),
    bars.length ? make("table", {}, make("tbody", {}, ...bars)) : "",
  );
}

async function refreshLive() {
  const live = await fetchJson("api/live");
  if (last && live.uptime_s > last.uptime_s) {
    rates.push([Math.round(live.uptime_s), (live.requests - last.requests) / (live.uptime_s - last.uptime_s)]);
    if (rates.length > 120) rates.shift();
  }
  last = live;
  const words = [
    `${live.requests.toLocaleString("en")} requests`, `${live.rows.toLocaleString("en")} rows predicted`,
    `${live.refused.toLocaleString("en")} refused`, `up for ${age(live.uptime_s)}`, "drawn: requests a second",
  ];
  $("live").textContent = words.join(" · ");
  $("traffic").replaceChildren(lines([{ color: "var(--m0)", points: rates }], "Requests a second, lately", 0));
}

async function refresh() {
  const fresh = await fetchJson("api/lineages");
  const grew = JSON.stringify(fresh.models.map((m) => m.columns)) !== JSON.stringify(state?.models.map((m) => m.columns));
  state = fresh;
  document.title = `${state.pipeline} · nightfit`;
  $("name").textContent = state.pipeline;
  for (const show of [showCards, showChart, showDrift, showLog]) show();
  if (grew) showForm();
  $("main").hidden = false;
}

/** Do something now and every so many seconds; what goes wrong is shown until it goes right. */
function repeat(what, seconds) {
  const once = async () => {
    try {
      await what();
      $("problem").hidden = true;
    } catch (error) {
      $("problem").textContent = `The server does not answer: ${error.message}`;
      $("problem").hidden = false;
    }
    setTimeout(once, 1000 * seconds);
  };
  once();
}
repeat(refresh, 10);
repeat(refreshLive, 2);
