// A network's time by layer or kernel, and all parts under the roofline.
const MOST_BARS = 40;
const spentNow = { table: 0, network: 0, level: "layer", order: "place" };

const spentTable = () => DATA.spent[spentNow.table];

// The parts of the chosen network: where, what, time and interval in us.
function spentParts() {
  const table = spentTable();
  const network = table.networks[spentNow.network];
  const rows = table[spentNow.level];
  const placed = spentNow.level === "layer" ? network.layers : network.kernels.map((row) => [-1, row]);
  const parts = placed.map(([site, row]) => ({
    place: site >= 0 ? table.sites[site] : row >= 0 ? rows.name[row] : "not in the table", what: row >= 0 ? rows.name[row] : "was not measured",
    us: row >= 0 ? rows.us[row] : null, low: row >= 0 ? rows.low[row] : null, high: row >= 0 ? rows.high[row] : null, op: row >= 0 ? rows.op[row] : "",
  }));
  const known = parts.reduce((sum, part) => sum + (part.us ?? 0), 0);
  return { network, parts, known, left: network.us[0] - known };
}

const bySize = (parts) => [...parts].sort((a, b) => (b.us ?? 0) - (a.us ?? 0));

// No more parts than can be read: the largest in their order, and the others together, with those that cost nothing.
function fewer(parts) {
  const kept = new Set(bySize(parts).filter((part) => part.us !== 0).slice(0, MOST_BARS));
  const rest = parts.filter((part) => !kept.has(part));
  const sum = rest.reduce((total, part) => total + (part.us ?? 0), 0);
  const others = { place: `${rest.length} others`, what: "together", us: sum, low: null, high: null, op: "", rest: true };
  return [...parts.filter((part) => kept.has(part)), ...(rest.length ? [others] : [])];
}

function spentShown(parts, left) {
  const shown = fewer(spentNow.order === "time" ? bySize(parts) : parts);
  if (left > 0) shown.push({ place: "between kernels", what: "the runtime's own work", us: left, low: null, high: null, op: "", rest: true });
  return shown;
}

function bars(parts, xTitle) {
  const most = narrow() ? 17 : 40;
  const numbers = parts.map((_, n) => n);
  return {
    data: [{
      type: "bar", orientation: "h", y: numbers, x: parts.map((part) => part.us),
      marker: { color: parts.map((part) => colour(part.rest ? "other" : "c1")), opacity: 0.92 },
      error_x: interval(parts.map((part) => part.us), parts.map((part) => part.low), parts.map((part) => part.high)),
      customdata: parts.map((part) => [plain(part.place), plain(part.what), part.low === null ? "" : `<br>90 % interval ${digits(part.low)} to ${digits(part.high)} µs`]),
      hovertemplate: "<b>%{customdata[0]}</b><br>%{customdata[1]}<br>%{x:.4~g} µs%{customdata[2]}",
    }],
    layout: layout({
      height: barHeight(parts.length), bargap: 0.28, showlegend: false, xaxis: axis(xTitle, { rangemode: "tozero" }),
      yaxis: axis("", { autorange: "reversed", zeroline: false, tickmode: "array", tickvals: numbers, ticktext: parts.map((part) => plain(shortened(part.place, most))), showgrid: false }),
    }),
  };
}

function spentSum({ network, parts, known }) {
  const noun = { layer: "layers", kernel: "kernels" }[spentNow.level];
  const ms = network.us.map((us) => (us === null ? null : us / 1000));
  const range = ms[1] === null ? "" : ` (90 % interval ${digits(ms[1])} to ${digits(ms[2])} ms)`;
  byId("spent-sum").textContent = parts.length
    ? `${digits(ms[0])} ms end to end${range}, ${network.role}; its ${parts.length} ${noun} sum to ${((known / network.us[0]) * 100).toFixed(1)} % of that.`
    : `${digits(ms[0])} ms end to end${range}, ${network.role}; it was timed as a whole, and has no ${noun} of its own.`;
}

function spentList(shown, total) {
  byId("spent-list").tBodies[0].replaceChildren(...shown.map((part) => {
    const row = document.createElement("tr");
    const range = part.low === null ? "–" : `${digits(part.low)} to ${digits(part.high)}`;
    row.append(cell("th", part.place === part.what ? part.place : `${part.place}: ${part.what}`, true), cell("td", digits(part.us)), cell("td", range),
      cell("td", part.us === null ? "–" : `${((part.us / total) * 100).toFixed(1)} %`));
    return row;
  }));
}

function showSpent() {
  const all = spentParts();
  const shown = spentShown(all.parts, all.parts.length ? all.left : 0);
  spentSum(all);
  spentList(shown, all.network.us[0]);
  draw("spent-bars", () => bars(shown, "time (µs)"));
}

// Sorts of parts by the time that they take, the seven largest with a colour each.
function families(rows) {
  const spent = new Map();
  rows.op.forEach((op, n) => spent.set(op, (spent.get(op) ?? 0) + rows.us[n] * rows.times[n]));
  return [...spent.keys()].sort((a, b) => spent.get(b) - spent.get(a));
}

function roofline() {
  const table = spentTable();
  const rows = table[spentNow.level];
  const usable = rows.us.map((us, n) => n).filter((n) => rows.us[n] > 0 && rows.macs[n] > 0 && rows.bytes[n] > 0);
  const total = rows.us.reduce((sum, us, n) => sum + us * rows.times[n], 0);
  const kinds = families(rows);
  const rate = (n, us) => (us > 0 ? (2 * rows.macs[n]) / us / 1000 : null);
  const traces = kinds.map((kind, k) => {
    const here = usable.filter((n) => rows.op[n] === kind);
    const y = here.map((n) => rate(n, rows.us[n]));
    return {
      x: here.map((n) => (2 * rows.macs[n]) / rows.bytes[n]), y, name: plain(short(kind, 22)), type: "scatter", mode: "markers",
      marker: { color: k < 7 ? series(k) : colour("other"), symbol: SYMBOLS[k % 5], opacity: 0.75, line: { width: 0.6, color: colour("card") },
        size: here.map((n) => 5 + 26 * Math.sqrt((rows.us[n] * rows.times[n]) / total)) },
      error_y: interval(y, here.map((n) => rate(n, rows.high[n])), here.map((n) => rate(n, rows.low[n])), { thickness: 0.8, width: 0 }),
      customdata: here.map((n) => [plain(short(rows.name[n], 70)), digits(rows.us[n]), ((rows.us[n] * rows.times[n] * 100) / total).toFixed(1)]),
      hovertemplate: "<b>%{customdata[0]}</b><br>%{customdata[1]} µs, %{customdata[2]} % of all time<br>%{y:.3~g} GFLOP/s at %{x:.3~g} FLOP/B",
    };
  }).filter((trace) => trace.x.length);
  const { flops_per_s: flops, bytes_per_s: bytes } = table.ceilings;
  if (flops && bytes && usable.length) {
    const [least, most] = [Math.min(...traces.flatMap((trace) => trace.x)) / 2, Math.max(...traces.flatMap((trace) => trace.x)) * 2];
    const x = [least, flops / bytes, most].filter((value) => value >= least && value <= most);
    traces.push({ x, y: x.map((value) => Math.min(flops, value * bytes)), mode: "lines", line: { color: colour("ink"), width: 1.5, dash: "dot" }, hoverinfo: "skip",
      name: `measured ceilings: ${digits(flops, 3)} GFLOP/s, ${digits(bytes, 3)} GB/s` });
  }
  return { data: traces, layout: layout({ height: narrow() ? 380 : 440, xaxis: logarithmic("operations a byte (FLOP/B)", traces.flatMap((trace) => trace.x)),
    yaxis: logarithmic("rate (GFLOP/s)", traces.flatMap((trace) => trace.y))  }) };
}

// Which level a table can show at all, and a network of middling time that shows it.
function spentChoices() {
  const table = spentTable();
  const has = (level) => table.networks.some((network) => network[`${level}s`].length);
  const levels = [["layer", "layers"], ["kernel", "kernels"]].filter(([level]) => has(level));
  if (!has(spentNow.level)) spentNow.level = levels[0][0];
  const order = table.networks.map((_, n) => n).sort((a, b) => table.networks[a].us[0] - table.networks[b].us[0]);
  const showing = order.filter((n) => table.networks[n][`${spentNow.level}s`].length);
  if (spentNow.network < 0) spentNow.network = showing[Math.floor(showing.length / 2)];
  choices("spent-network", order.map((n) => [n, `${digits(table.networks[n].us[0] / 1000)} ms: ${table.networks[n].name} (${table.networks[n].role})`]), spentNow.network,
    (value) => { spentNow.network = Number(value); showSpent(); });
  choices("spent-level", levels, spentNow.level, (value) => { spentNow.level = value; showSpent(); draw("roofline", roofline); });
}

function spent() {
  spentNow.network = -1;
  choices("spent-table", DATA.spent.map((one, n) => [n, one.name]), 0, (value) => {
    Object.assign(spentNow, { table: Number(value), network: -1 });
    spentChoices();
    showSpent();
    draw("roofline", roofline);
  });
  byId("spent-order").onchange = (event) => { spentNow.order = event.target.value; showSpent(); };
  spentChoices();
  showSpent();
  draw("roofline", roofline);
}
