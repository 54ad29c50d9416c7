// What all drawings share: the data, the colours of the page as it is now, and one register of what was drawn.
const DATA = JSON.parse(document.getElementById("data").textContent);
const HOVERS = matchMedia("(hover: hover)").matches;
const CONFIG = { displayModeBar: false, responsive: true, scrollZoom: false };
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross"];
const drawings = new Map();

const byId = (id) => document.getElementById(id);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const series = (number) => colour(`c${(number % 7) + 1}`);
const narrow = () => innerWidth < 640;

// Plotly reads some markup in texts, links among it: what comes from files must stay the text that it is.
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const short = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
// Cut in the middle, where the end says what is told apart.
const shortened = (text, most) => (text.length > most ? `${text.slice(0, Math.floor(most / 3))}…${text.slice(1 + Math.floor(most / 3) - most)}` : text);
const words = (name) => name.replace(/_/g, " ");

// What a measure is called, with its unit: latency_ms -> "latency (ms)".
function labelOf(name, unit = "") {
  if (name.endsWith("_percent")) return `${words(name.slice(0, -8))} (%)`;
  if (unit && name.endsWith(`_${unit}`)) return `${words(name.slice(0, -unit.length - 1))} (${unit === "mj" ? "mJ" : unit})`;
  if (name.endsWith("_per_s")) return `${words(name.slice(0, -6))} (1/s)`;
  return unit ? `${words(name)} (${unit})` : words(name);
}

function digits(value, most = 4) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  return Number(value.toPrecision(most)).toLocaleString("en", { maximumSignificantDigits: most });
}

function axis(title, more = {}) {
  return {
    title: { text: plain(title), font: { size: 13, color: colour("quiet") }, standoff: 10 }, gridcolor: colour("grid"), linecolor: colour("line"),
    zerolinecolor: colour("line"), tickfont: { size: 12, color: colour("quiet") }, automargin: true, ...more,
  };
}

// A logarithmic axis over some values, with ticks at 1, 2 and 5 of each decade, or at decades where these would be too many.
function logarithmic(title, values) {
  const [least, most] = [Math.log10(Math.min(...values)), Math.log10(Math.max(...values))];
  const steps = most - least > (narrow() ? 1.6 : 2.6) ? [1] : [1, 2, 5];
  const decades = Array.from({ length: Math.ceil(most) - Math.floor(least) + 2 }, (_, n) => Math.floor(least) - 1 + n);
  const ticks = decades.flatMap((decade) => steps.map((step) => step * 10 ** decade));
  const pad = Math.max((most - least) * 0.06, 0.05);
  return axis(title, { type: "log", range: [least - pad, most + pad], tickmode: "array", tickvals: ticks, ticktext: ticks.map((tick) => digits(tick, 2)) });
}

function layout(more = {}) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", height: narrow() ? 330 : 400, margin: { l: 8, r: 10, t: 12, b: 8 },
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("ink") }, hovermode: "closest", dragmode: HOVERS ? "zoom" : false,
    hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { size: 13, color: colour("ink") }, align: "left", namelength: 0 },
    legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", font: { size: 12.5, color: colour("quiet") } }, ...more,
  };
}

// Half-open bars of uncertainty: distances from values to the ends of their intervals.
function interval(values, low, high, more = {}) {
  const reach = (ends) => values.map((value, n) => (ends[n] === null || value === null ? 0 : Math.abs(ends[n] - value)));
  return { type: "data", symmetric: false, array: reach(high), arrayminus: reach(low), thickness: 1.2, width: 3, color: colour("quiet"), ...more };
}

// Draws into an element, or draws it anew with what was made now. Its height stands at the element, so that a change of width keeps it.
function draw(id, make, listen = drawings.get(id)?.listen, afresh = !drawings.has(id)) {
  const here = byId(id);
  if (!here) return;
  const made = make();
  here.style.height = `${made.layout.height}px`;
  // On paper nothing answers later: the width is settled here.
  if (document.documentElement.classList.contains("printing")) made.layout.width = here.clientWidth;
  if (afresh) {
    Plotly.newPlot(here, made.data, made.layout, CONFIG);
    listen?.(here);
  } else {
    Plotly.react(here, made.data, made.layout, CONFIG);
  }
  if (!drawings.size) performance.mark("first-drawing");
  drawings.set(id, { make, listen });
  document.documentElement.dataset.drawn = String(drawings.size);
}

const redraw = (afresh = false) => drawings.forEach(({ make, listen }, id) => draw(id, make, listen, afresh));
const barHeight = (bars) => 64 + 23 * bars;

// A select's options as [value, text]; calls back when another is chosen.
function choices(id, options, chosen, changed) {
  const select = byId(id);
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value, false, String(value) === String(chosen))));
  select.onchange = () => changed(select.value);
}

function cell(kind, text, row = false) {
  const made = document.createElement(kind);
  made.textContent = text;
  if (row) made.scope = "row";
  return made;
}
