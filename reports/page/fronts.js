// Every search's evaluations and fronts over each other, the list of the fronts' networks, and the one that was chosen.
const frontsNow = { x: "", y: "", search: 0, row: 0 };
const measureOf = (search, name) => search.measures.find((one) => one.name === name);
const named = (measure) => labelOf(measure.name, measure.unit);
const anyOf = (name) => DATA.searches.map((search) => measureOf(search, name)).find(Boolean);
const titleOf = (measure) => named(measure) + (measure.maximise === null ? "" : measure.maximise ? ", higher is better" : ", lower is better");
const searchSymbol = (number) => SYMBOLS[number % SYMBOLS.length];

// "stage1.block1.kernel" and its like, gathered: stage1 -> "depth 2, kernel 3 5"; what has no such name stands for itself.
function gathered(config) {
  const groups = new Map();
  for (const [name, value] of Object.entries(config)) {
    const parts = name.split(".");
    const [group, last] = parts.length > 1 ? [parts[0], parts.at(-1)] : [words(name), ""];
    if (!groups.has(group)) groups.set(group, new Map());
    const inside = groups.get(group);
    inside.set(last, [...(inside.get(last) ?? []), value]);
  }
  return [...groups].map(([group, inside]) => [group, [...inside].map(([name, values]) => `${words(name)} ${values.join(" ")}`.trim()).join(", ")]);
}

function hoverText(search, evaluation) {
  const network = search.networks.find((one) => one.evaluation === evaluation);
  const lines = network ? gathered(network.config).slice(0, 7).map(([group, text]) => `${plain(group)}: ${plain(short(text, 64))}`) : [];
  return lines.length ? `<br>${lines.join("<br>")}` : "";
}

// The lists of a drawing for some evaluations of a search.
function points(search, number, rows, more) {
  const [x, y] = [measureOf(search, frontsNow.x), measureOf(search, frontsNow.y)];
  const told = (measure, row) => `${plain(named(measure))}: ${digits(measure.values[row], 5)}`;
  return {
    x: rows.map((row) => x.values[row]), y: rows.map((row) => y.values[row]), type: "scatter",
    customdata: rows.map((row) => [number, row, told(x, row), told(y, row), hoverText(search, row)]),
    hovertemplate: `<b>${plain(search.name)}, evaluation %{customdata[1]}</b><br>%{customdata[2]}<br>%{customdata[3]}%{customdata[4]}`, ...more,
  };
}

const bounds = (measure, rows) => (measure.lower === null ? undefined
  : interval(rows.map((row) => measure.values[row]), rows.map((row) => measure.lower[row]), rows.map((row) => measure.upper[row]), { thickness: 1, width: 0 }));

function frontsDrawing() {
  const traces = [];
  DATA.searches.forEach((search, number) => {
    if (!measureOf(search, frontsNow.x) || !measureOf(search, frontsNow.y)) return;
    const [x, y] = [measureOf(search, frontsNow.x), measureOf(search, frontsNow.y)];
    const others = search.feasible.map((_, row) => row).filter((row) => !search.front.includes(row));
    const goals = search.measures.filter((one) => one.maximise !== null).length;
    const front = [...search.front].sort((a, b) => x.values[a] - x.values[b]);
    const tint = series(number);
    traces.push(points(search, number, others, { mode: "markers", name: plain(`${search.name}: evaluated`),
      marker: { size: 5.5, color: tint, opacity: 0.32, symbol: others.map((row) => searchSymbol(number) + (search.feasible[row] ? "" : "-open")) } }));
    traces.push(points(search, number, front, { mode: goals === 2 ? "lines+markers" : "markers", name: plain(`${search.name}: front`),
      line: { color: tint, width: 1.6 }, marker: { size: 10, color: tint, symbol: searchSymbol(number), line: { color: colour("card"), width: 1 } },
      error_x: bounds(x, front), error_y: bounds(y, front) }));
    const timed = front.filter((row) => String(row) in search.measured);
    const along = x.unit === "ms" ? "x" : y.unit === "ms" ? "y" : "";
    if (timed.length && along) {
      traces.push(points(search, number, timed, { mode: "markers", name: plain(`${search.name}: measured on ${search.measured_on}`),
        [along]: timed.map((row) => search.measured[String(row)]), marker: { size: 10, color: tint, symbol: "x-thin-open", line: { width: 2 } } }));
    }
  });
  const chosen = DATA.searches[frontsNow.search];
  if (measureOf(chosen, frontsNow.x) && measureOf(chosen, frontsNow.y)) {
    traces.push(points(chosen, frontsNow.search, [frontsNow.row], { mode: "markers", showlegend: false, hoverinfo: "skip", hovertemplate: null,
      marker: { size: 19, color: "rgba(0,0,0,0)", symbol: "circle-open", line: { color: colour("chosen"), width: 2 } } }));
  }
  return { data: traces, layout: layout({ height: narrow() ? 380 : 460, xaxis: axis(titleOf(anyOf(frontsNow.x))), yaxis: axis(titleOf(anyOf(frontsNow.y))) }) };
}

function chosenLayers(network) {
  const timed = network.layers.some((layer) => layer[2] !== null);
  const parts = network.layers.map(([place, what, us, low, high, macs]) => (timed ? { place, what, us, low, high } : { place, what, us: macs / 1e6, low: null, high: null }));
  const made = bars(fewer(parts), timed ? "time (µs)" : "MACs (millions)");
  if (!timed) made.data[0].hovertemplate = "<b>%{customdata[0]}</b><br>%{customdata[1]}<br>%{x:.4~g} M MACs";
  return made;
}

function choose(search, row, focus = false) {
  Object.assign(frontsNow, { search, row });
  const one = DATA.searches[search];
  const network = one.networks.find((found) => found.evaluation === row);
  for (const line of byId("fronts-list").tBodies[0].rows) {
    const here = line.dataset.search === String(search) && line.dataset.row === String(row);
    line.setAttribute("aria-selected", String(here));
    line.tabIndex = here ? 0 : -1;
    if (here && focus) line.focus();
  }
  const told = one.measures.map((measure) => `${named(measure)} ${digits(measure.values[row])}`).slice(0, 4).join(", ");
  byId("fronts-chosen").textContent = `${one.name}, evaluation ${row}: ${told}`;
  byId("fronts-genes").replaceChildren(...(network ? gathered(network.config) : []).map(([group, text]) => {
    const block = document.createElement("div");
    block.append(cell("dt", group), cell("dd", text));
    return block;
  }));
  const layers = network?.layers.length > 0;
  byId("fronts-layers").closest("figure").hidden = !layers;
  byId("fronts-from").textContent = !network ? "" : one.layers_from ? `Its layers as measured in ${one.layers_from}, with 90 % intervals.`
    : "Its layers by their exact multiply-accumulates: no table of this space was given.";
  draw("fronts-plot", frontsDrawing);
  if (layers) draw("fronts-layers", () => chosenLayers(network));
}

function frontsList() {
  const list = byId("fronts-list");
  const names = [...new Set(DATA.searches.flatMap((search) => search.measures.filter((one) => one.maximise !== null).map((one) => one.name)))].slice(0, 4);
  const head = document.createElement("tr");
  head.append(...["Network", ...names.map((name) => named(anyOf(name)))].map((text) => { const made = cell("th", text); made.scope = "col"; return made; }));
  list.tHead.replaceChildren(head);
  const across = (search) => measureOf(search, frontsNow.x) ?? search.measures[0];
  const inOrder = (search) => [...search.networks].sort((a, b) => across(search).values[a.evaluation] - across(search).values[b.evaluation]);
  const rows = DATA.searches.flatMap((search, number) => inOrder(search).map(({ evaluation }) => {
    const line = document.createElement("tr");
    Object.assign(line.dataset, { search: number, row: evaluation });
    const mark = document.createElement("span");
    mark.className = `mark ${["", "second", "third"][number % 3]}`;
    mark.style.background = `var(--c${(number % 7) + 1})`;
    const name = cell("th", DATA.searches.length > 1 ? `${short(search.name, 16)} ${evaluation}` : evaluation, true);
    name.prepend(mark);
    line.append(name, ...names.map((measure) => cell("td", digits(measureOf(search, measure)?.values[evaluation]))));
    line.onclick = () => choose(number, evaluation);
    return line;
  }));
  list.tBodies[0].replaceChildren(...rows);
  list.tBodies[0].onkeydown = (event) => {
    const at = rows.indexOf(event.target.closest("tr"));
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (rows[to]) {
      rows.forEach((row) => { row.tabIndex = row === rows[to] ? 0 : -1; });
      rows[to].focus();
      event.preventDefault();
    } else if ((event.key === "Enter" || event.key === " ") && rows[at]) {
      choose(Number(rows[at].dataset.search), Number(rows[at].dataset.row), true);
      event.preventDefault();
    }
  };
  return rows;
}

function fronts() {
  const names = [...new Set(DATA.searches.flatMap((search) => search.measures.map((one) => one.name)))];
  const goals = [...new Set(DATA.searches.flatMap((search) => search.measures.filter((one) => one.maximise !== null).map((one) => one.name)))];
  const cheap = (name) => DATA.searches.some((search) => measureOf(search, name)?.maximise === false);
  frontsNow.x = goals.find(cheap) ?? goals[0];
  frontsNow.y = goals.find((name) => name !== frontsNow.x) ?? names.find((name) => name !== frontsNow.x) ?? frontsNow.x;
  for (const way of ["x", "y"]) {
    choices(`fronts-${way}`, names.map((name) => [name, named(anyOf(name))]), frontsNow[way], (value) => { frontsNow[way] = value; draw("fronts-plot", frontsDrawing); });
  }
  const rows = frontsList();
  const first = rows[Math.floor((DATA.searches[0].networks.length - 1) / 2)] ?? rows[0];
  draw("fronts-plot", frontsDrawing, (plot) => plot.on("plotly_click", ({ points: [point] }) => point.customdata && choose(point.customdata[0], point.customdata[1])));
  if (first) choose(Number(first.dataset.search), Number(first.dataset.row));
}
