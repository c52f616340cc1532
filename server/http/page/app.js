// Asks /api/status every second and draws what it says. No state but the last minutes of it.
"use strict";

const POLL_MS = 1000;
const TIMEOUT_MS = 5000;
const HISTORY_SECONDS = 180;    // of the charts, which begin with fewer
const FIRST_SECONDS = 30;
const RANK_SECONDS = 10;        // over which a rank's compute and wait are compared
const STRAGGLER = 1.25;         // compute time over the median from which a rank is marked
const WARN = 1.5, ALARM = 3;    // load over the mean; the alerts have the same
const COLLAPSED = 0.5;          // entropy under which a router counts as collapsed
const SPAN = 4;                 // the colours end at a quarter of, and four times, an even share
const FIGURES = [
  ["max/mean", "Tokens of the busiest expert over the mean; 1 is even"],
  ["Gini", "0: even; towards 1: one expert has all"],
  ["entropy", "1: even; 0: one expert has all"],
  ["dead", "Experts that received no token"],
  ["repeats", "Tokens whose first expert is that of the token before them"],
];

const $ = (id) => document.getElementById(id);
const NUMBER = new Intl.NumberFormat("en", {maximumFractionDigits: 0});
const COMPACT = new Intl.NumberFormat("en", {notation: "compact", maximumSignificantDigits: 3});

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}
// Touches the document only where something changes.
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
function percent(part, whole) { return whole > 0 ? 100 * part / whole : 0; }
function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) { count /= 1024; ++unit; }
  return `${count < 10 && unit > 0 ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}
function duration(seconds) {
  const days = Math.floor(seconds / 86400), hours = Math.floor(seconds / 3600) % 24;
  const minutes = Math.floor(seconds / 60) % 60;
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  return minutes > 0 ? `${minutes} min` : `${Math.floor(seconds)} s`;
}
function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

// ---- Header and loading

function drawHeader(status) {
  const model = status.model;
  setText($("model-name"), model ? model.name : "");
  setText($("model-shape"), model ? `${model.layers} layers × ${model.experts} experts, ` +
      `${model.top_k} per token · ${model.ranks} ${model.ranks === 1 ? "rank" : "ranks"} · ` +
      `${model.dtype} · ${model.backend}` : "");
  const phase = $("phase");
  phase.dataset.phase = status.phase;
  setText(phase, status.phase === "loading" ? `loading ${status.load.percent} %` : status.phase);
  setText($("uptime"), `up ${duration(status.uptime_seconds)}`);
  const title = model ? `${model.name} · moed` : "moed";
  document.title = status.phase === "ready" ? title : `${status.phase} · ${title}`;
}

function drawLoading(status) {
  const loading = status.phase === "loading";
  $("loading").hidden = !loading;
  if (!loading) return;
  $("load-all").value = status.load.percent;
  setText($("load-percent"), `${status.load.percent} %`);
  const list = $("load-ranks");
  status.load.ranks.forEach((rank, i) => {
    let line = list.children[i];
    if (!line) {
      line = make("div", "bar-line");
      const bar = make("progress");
      bar.max = 100;
      bar.setAttribute("aria-label", `Rank ${rank.rank}`);
      line.append(make("span", "quiet"), bar, make("output"));
      list.append(line);
    }
    setText(line.children[0], `Rank ${rank.rank}: ${rank.phase}`);
    line.children[1].value = rank.percent;
    setText(line.children[2], `${rank.percent} %`);
  });
}

// ---- Line charts

class Chart {
  constructor(id, format, least) {
    this.figure = $(id);
    this.format = format;
    this.least = least;  // of the scale's top
    this.points = [];    // {at, value}, seconds of the daemon's uptime
    this.svg = this.figure.querySelector("svg");
    for (const name of ["area", "line", "base"]) {
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("class", name);
      this.svg.append(path);
      this[name] = path;
    }
    this.base.setAttribute("d", "M0,72H300");
  }
  clear() { this.points = []; }
  add(at, value) {
    this.points.push({at, value});
    while (this.points[0].at < at - HISTORY_SECONDS) this.points.shift();
    const span = Math.max(FIRST_SECONDS, at - this.points[0].at);
    const top = Math.max(this.least, ...this.points.map((p) => p.value));
    const x = (p) => (300 * (1 - (at - p.at) / span)).toFixed(1);
    const y = (p) => (70 - 66 * p.value / top).toFixed(1);
    const line = this.points.map((p) => `${x(p)},${y(p)}`).join("L");
    this.line.setAttribute("d", `M${line}`);
    this.area.setAttribute("d", `M${x(this.points[0])},72L${line}V72Z`);
    const text = this.format(value);
    setText(this.figure.querySelector("output"), text);
    const peak = this.format(Math.max(...this.points.map((p) => p.value)));
    setText(this.figure.querySelector(".scale"), `peak ${peak}`);
    const title = this.figure.querySelector(".title").textContent;
    this.svg.setAttribute("aria-label", `${title}: now ${text}, peak of the last ${Math.round(span)} seconds ${peak}`);
  }
}

const charts = {
  tokens: new Chart("chart-tokens", (v) => v < 1000 ? NUMBER.format(v) : COMPACT.format(v), 10),
  running: new Chart("chart-running", (v) => NUMBER.format(v), 4),
  waiting: new Chart("chart-waiting", (v) => NUMBER.format(v), 4),
  kv: new Chart("chart-kv", (v) => `${v.toFixed(v < 10 ? 1 : 0)} %`, 100),
};
let before = null;  // the status before this one

function drawCharts(status) {
  $("traffic").hidden = false;
  const at = status.uptime_seconds;
  if (before && at <= before.uptime_seconds) {  // another daemon
    Object.values(charts).forEach((chart) => chart.clear());
    before = null;
    rankHistory.length = 0;
  }
  charts.running.add(at, status.requests.running);
  charts.waiting.add(at, status.requests.waiting);
  let used = 0, total = 0;
  for (const rank of status.ranks) {
    total += rank.kv_blocks.total || 0;
    used += (rank.kv_blocks.total || 0) - (rank.kv_blocks.free || 0);
  }
  charts.kv.add(at, percent(used, total));
  const computed = status.counters.computed_tokens;
  if (before && before.counters) {
    const seconds = at - before.uptime_seconds;
    charts.tokens.add(at, Math.max(0, computed - before.counters.computed_tokens) / seconds);
  }
}

// ---- Ranks

const rankHistory = [];  // {at, ranks}

function rankCard(rank) {
  const card = make("article", "card rank");
  card.setAttribute("role", "listitem");
  card.innerHTML = `<h3><span></span><span class="mark"></span></h3><dl>
    <dt>KV in use</dt><dd><div class="stack"><i class="used"></i><i class="cached"></i></div></dd><dd class="kv"></dd>
    <dt>Computing</dt><dd><div class="stack"><i class="compute"></i><i class="wait"></i></div></dd><dd class="time"></dd>
    <dd class="foot"><span class="memory"></span><span class="routed"></span></dd></dl>`;
  card.querySelector("h3 span").textContent = `Rank ${rank.rank}`;
  return card;
}

function drawRanks(status) {
  $("ranks-section").hidden = false;
  const at = status.uptime_seconds;
  rankHistory.push({at, ranks: status.ranks});
  while (rankHistory.length > 2 && rankHistory[1].at <= at - RANK_SECONDS) rankHistory.shift();
  const then = rankHistory[0];
  const seconds = at - then.at;
  const work = status.ranks.map((rank, i) => {
    const old = then.ranks[i] || rank;
    return {compute: rank.compute_seconds - old.compute_seconds, wait: rank.wait_seconds - old.wait_seconds};
  });
  const usual = median(work.map((w) => w.compute));
  const list = $("ranks");
  status.ranks.forEach((rank, i) => {
    const card = list.children[i] || list.appendChild(rankCard(rank));
    const part = (selector) => card.querySelector(selector);
    const blocks = rank.kv_blocks;
    const used = blocks.total - blocks.free;
    part(".used").style.width = `${percent(used, blocks.total)}%`;
    part(".cached").style.width = `${percent(blocks.cached, blocks.total)}%`;
    setText(part(".kv"), `${Math.round(percent(used, blocks.total))} %`);
    const {compute, wait} = work[i];
    part(".compute").style.width = `${percent(compute, seconds)}%`;
    part(".wait").style.width = `${percent(wait, seconds)}%`;
    setText(part(".time"), seconds > 0 ? `${Math.round(percent(compute, seconds))} %` : "–");
    card.title = `${NUMBER.format(used)} of ${NUMBER.format(blocks.total)} KV blocks in use, ` +
        `${NUMBER.format(blocks.cached)} more hold cached prefixes\n` +
        `computing ${percent(compute, seconds).toFixed(1)} %, waiting for other ranks ` +
        `${percent(wait, seconds).toFixed(1)} % of the last ${Math.round(seconds)} s`;
    const slow = status.ranks.length > 1 && compute > 0.1 * seconds && compute > STRAGGLER * usual;
    card.classList.toggle("straggler", slow);
    setText(part(".mark"), slow ? `slow: ${(compute / usual).toFixed(1)} × median` : "");
    const memory = Object.values(rank.memory_bytes).reduce((sum, n) => sum + n, 0);
    setText(part(".memory"), memory > 0 ? bytes(memory) : "");
    setText(part(".routed"), `${COMPACT.format(rank.routed_pairs)} routed`);
  });
  while (list.children.length > status.ranks.length) list.lastChild.remove();
}

// ---- Expert load

const grid = {cells: [], figures: [], layers: 0, experts: 0, dense: false, at: [0, 0], status: null};

function buildGrid(layers, experts) {
  const table = $("load");
  const step = experts <= 32 ? 1 : experts <= 64 ? 4 : experts <= 128 ? 8 : 16;
  grid.dense = experts > 32;
  table.classList.toggle("dense", grid.dense);
  $("experts-section").classList.toggle("dense-load", grid.dense);
  table.style.setProperty("--gap", experts <= 64 ? "2px" : "1px");
  table.style.setProperty("--height", experts <= 32 ? "24px" : layers > 40 ? "11px" : "15px");
  const head = make("tr");
  head.append(make("th", "layer", "Layer"));
  for (let expert = 0; expert < experts; ++expert) {
    const cell = make("th", "expert", expert % step === 0 ? String(expert) : "");
    cell.setAttribute("aria-label", `Expert ${expert}`);
    head.append(cell);
  }
  for (const [name, meaning] of FIGURES) {
    const cell = make("th", "figure", name);
    cell.title = meaning;
    head.append(cell);
  }
  for (const cell of head.children) cell.scope = "col";
  table.tHead.replaceChildren(head);
  grid.cells = [];
  grid.figures = [];
  const rows = [];
  for (let layer = 0; layer < layers; ++layer) {
    const row = make("tr");
    const name = make("th", "layer", String(layer));
    name.scope = "row";
    row.append(name);
    const cells = [];
    for (let expert = 0; expert < experts; ++expert) {
      const cell = make("td", "cell");
      cell.setAttribute("role", "gridcell");
      cell.tabIndex = -1;
      cell.dataset.layer = layer;
      cell.dataset.expert = expert;
      cells.push(cell);
    }
    const figures = FIGURES.map(() => make("td", "figure"));
    row.append(...cells, ...figures);
    grid.cells.push(cells);
    grid.figures.push(figures);
    rows.push(row);
  }
  table.tBodies[0].replaceChildren(...rows);
  Object.assign(grid, {layers, experts, at: [0, 0]});
  if (layers > 0 && experts > 0) grid.cells[0][0].tabIndex = 0;
}

// Writes the tokens always, what is seen only where it changes: in steps that are finer the fewer
// cells there are.
function drawCell(cell, tokens, total, experts) {
  cell.dataset.tokens = tokens;
  const relative = total > 0 ? tokens * experts / total : 1;
  const heat = Math.max(-1, Math.min(1, Math.log(Math.max(relative, 1e-9)) / Math.log(SPAN)));
  const dead = total > 0 && tokens === 0;
  const level = relative > ALARM ? " alarm" : relative > WARN ? " warn" : "";
  const className = dead ? "cell dead" : `cell${Math.abs(heat) > 0.7 ? " strong" : ""}${level}`;
  if (cell.className !== className) cell.className = className;
  const step = grid.dense ? 8 : 2;
  const colour = step * Math.round(100 * heat / step);
  if (cell.dataset.colour !== String(colour)) {
    cell.dataset.colour = colour;
    cell.style.setProperty("--t", Math.abs(colour));
    cell.style.setProperty("--end", colour < 0 ? "var(--under)" : "var(--over)");
  }
  if (!grid.dense) setText(cell, total === 0 ? "" : dead ? "✕" : relative.toFixed(relative < 10 ? 2 : 0));
}

function drawFigures(cells, layer, total) {
  const values = total === 0 ? ["–", "–", "–", "–", "–"] : [
    layer.max_over_mean.toFixed(2), layer.gini.toFixed(3), layer.entropy.toFixed(3), String(layer.dead),
    layer.repetition.rows > 0 ? `${(100 * layer.repetition.first).toFixed(1)} %` : "–"];
  values.forEach((value, i) => setText(cells[i], value));
  const peak = cells[0].classList;
  peak.toggle("alarm-text", layer.max_over_mean > ALARM);
  peak.toggle("warn-text", layer.max_over_mean > WARN && layer.max_over_mean <= ALARM);
  cells[2].classList.toggle("alarm-text", layer.entropy < COLLAPSED);
  cells[3].classList.toggle("alarm-text", layer.dead > 0);
}

function findings(layers, covered) {
  const parts = [];
  const count = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
  const add = (text, className) => parts.push(make("b", className, text));
  const dead = layers.reduce((sum, layer) => sum + layer.dead, 0);
  const alarming = layers.filter((layer) => layer.max_over_mean > ALARM).length;
  const uneven = layers.filter((layer) => layer.max_over_mean > WARN && layer.max_over_mean <= ALARM).length;
  const collapsed = layers.filter((layer) => layer.entropy < COLLAPSED).length;
  if (dead) add(count(dead, "dead expert"), "alarm");
  if (alarming) add(`${count(alarming, "layer")} over ${ALARM} ×`, "alarm");
  if (collapsed) add(`${count(collapsed, "router")} collapsed`, "alarm");
  if (uneven) add(`${count(uneven, "layer")} over ${WARN} ×`, "");
  if (!parts.length) parts.push("nothing unusual");
  const line = [];
  parts.forEach((part, i) => line.push(...(i ? [" · ", part] : [part])));
  line.push(` · ${duration(covered)} covered`);
  return line;
}

function drawExperts(status) {
  $("experts-section").hidden = false;
  const {experts: load, model} = status;
  grid.status = status;
  const layers = load.layers.length;
  const experts = layers ? load.layers[0].tokens.length : 0;
  if (layers !== grid.layers || experts !== grid.experts) buildGrid(layers, experts);
  let all = 0;
  load.layers.forEach((layer, l) => {
    const total = layer.tokens.reduce((sum, n) => sum + n, 0);
    all += total;
    layer.tokens.forEach((tokens, e) => drawCell(grid.cells[l][e], tokens, total, experts));
    drawFigures(grid.figures[l], layer, total);
  });
  $("no-tokens").hidden = all > 0;
  if (all > 0) {
    const line = findings(load.layers, load.covered_seconds);
    const text = line.map((part) => part.textContent || part).join("");
    if ($("findings").textContent !== text) $("findings").replaceChildren(...line);
  } else {
    setText($("findings"), "");
  }
  setText($("most"), `at most ${(experts / model.top_k).toFixed(1).replace(/\.0$/, "")} ×, where every token picks it`);
  showTip();
}

// ---- Tooltip and keyboard

let tipCell = null;

function tipText(layer, expert) {
  const load = grid.status.experts.layers[layer];
  const tokens = load.tokens[expert];
  const total = load.tokens.reduce((sum, n) => sum + n, 0);
  const lines = [`Layer ${layer}, expert ${expert}` + (load.ranks.length ? ` on rank ${load.ranks[expert]}` : "")];
  if (total === 0) return [...lines, "no tokens yet"].join("\n");
  lines.push(`${NUMBER.format(tokens)} tokens, ${percent(tokens, total).toFixed(1)} % of the layer`);
  lines.push(tokens === 0 ? "dead: no token chose it" : `${(tokens * load.tokens.length / total).toFixed(2)} × an even share`);
  return lines.join("\n");
}

function showTip() {
  const tip = $("tip");
  if (!tipCell || !tipCell.isConnected || !grid.status) { tip.hidden = true; return; }
  setText(tip, tipText(Number(tipCell.dataset.layer), Number(tipCell.dataset.expert)));
  tip.hidden = false;
  const cell = tipCell.getBoundingClientRect(), box = tip.getBoundingClientRect();
  const left = Math.max(8, Math.min(innerWidth - box.width - 8, cell.left + cell.width / 2 - box.width / 2));
  const above = cell.top - box.height - 8;
  tip.style.left = `${left}px`;
  tip.style.top = `${above > 8 ? above : cell.bottom + 8}px`;
}

function pointAt(cell) {
  if (tipCell) tipCell.removeAttribute("aria-describedby");
  tipCell = cell;
  if (cell) cell.setAttribute("aria-describedby", "tip");
  showTip();
}

function moveFocus(layer, expert) {
  const [oldLayer, oldExpert] = grid.at;
  grid.cells[oldLayer][oldExpert].tabIndex = -1;
  grid.at = [Math.max(0, Math.min(grid.layers - 1, layer)), Math.max(0, Math.min(grid.experts - 1, expert))];
  const cell = grid.cells[grid.at[0]][grid.at[1]];
  cell.tabIndex = 0;
  cell.focus();
}

function onKey(event) {
  if (event.key === "Escape") return pointAt(null);
  const moves = {
    ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1],
    Home: [0, -grid.experts], End: [0, grid.experts], PageUp: [-grid.layers, 0], PageDown: [grid.layers, 0],
  };
  const move = moves[event.key];
  if (!move || !event.target.matches("td.cell")) return;
  event.preventDefault();
  moveFocus(grid.at[0] + move[0], grid.at[1] + move[1]);
}

function listenToGrid() {
  const table = $("load");
  const cellOf = (event) => event.target.closest("td.cell");
  table.addEventListener("mouseover", (event) => pointAt(cellOf(event)));
  table.addEventListener("mouseleave", () => pointAt(null));
  table.addEventListener("focusin", (event) => pointAt(cellOf(event)));
  table.addEventListener("focusout", () => pointAt(null));
  table.addEventListener("keydown", onKey);
}

// ---- The page

let lastSeen = null;  // when the daemon last answered

function connectionLost(why) {
  document.body.dataset.connection = "lost";
  const since = lastSeen ? `, last answer ${duration((Date.now() - lastSeen) / 1000)} ago` : "";
  setText($("lost"), `Connection lost${since}: ${why}. Trying again.`);
  $("lost").hidden = false;
}

function draw(status) {
  document.body.dataset.connection = "live";
  $("lost").hidden = true;
  drawHeader(status);
  drawLoading(status);
  if (status.model) {
    drawCharts(status);
    drawRanks(status);
    drawExperts(status);
  }
  before = status;
}

// The window is kept in the address, so that a bookmark keeps it.
function chosenWindow() {
  const value = location.hash.replace("#window=", "");
  return [...$("window").options].some((option) => option.value === value) ? value : "60";
}

async function poll() {
  try {
    const response = await fetch(`api/status?window=${chosenWindow()}`,
                                 {cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS)});
    if (!response.ok) {
      connectionLost(response.status === 401 || response.status === 403
          ? "a key for monitoring is needed" : `the daemon answers ${response.status}`);
    } else {
      lastSeen = Date.now();
      draw(await response.json());
    }
  } catch (error) {
    connectionLost("the daemon does not answer");
  }
  setTimeout(poll, POLL_MS);
}

function chooseTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
}

function drawScale() {
  const strip = document.querySelector(".scale-strip");
  for (const [text, at] of [["¼", 0], ["½", 25], ["1", 50], ["2", 75], ["4 ×", 100]]) {
    const tick = make("span", "", text);
    tick.style.left = `${at}%`;
    strip.append(tick);
  }
}

const theme = localStorage.getItem("theme");
if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
$("theme").addEventListener("click", chooseTheme);
$("window").value = chosenWindow();
$("window").addEventListener("change", () => { location.hash = `window=${$("window").value}`; });
addEventListener("hashchange", () => { $("window").value = chosenWindow(); });
addEventListener("scroll", showTip, {passive: true});
drawScale();
listenToGrid();
poll();
