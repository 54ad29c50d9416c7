// Predictions held against measurements.
let qualityNow = 0;
const judged = () => DATA.predictors[qualityNow];

function scatter() {
  const one = judged();
  const [least, most] = [Math.min(...one.measured, ...one.predicted) * 0.93, Math.max(...one.measured, ...one.predicted) * 1.07];
  const line = (factor, more) => ({ x: [least, most], y: [least * factor, most * factor], mode: "lines", hoverinfo: "skip", showlegend: false, ...more });
  return {
    data: [
      line(0.95, { line: { width: 0 } }), line(1.05, { line: { width: 0 }, fill: "tonexty", fillcolor: colour("band") }),
      line(1, { line: { color: colour("quiet"), width: 1.2, dash: "dot" } }),
      { x: one.measured, y: one.predicted, mode: "markers", type: "scatter", marker: { color: colour("c1"), size: 7, opacity: 0.85 }, showlegend: false,
        error_y: interval(one.predicted, one.lower, one.upper, { color: colour("c1"), width: 0 }),
        error_x: { type: "data", array: one.noise.map((noise) => noise ?? 0), thickness: 1, width: 0, color: colour("quiet") },
        customdata: one.names.map((name, n) => [plain(name), digits(one.lower[n]), digits(one.upper[n]), ((one.predicted[n] / one.measured[n] - 1) * 100).toFixed(1)]),
        hovertemplate: "<b>%{customdata[0]}</b><br>measured %{x:.4~g} ms<br>predicted %{y:.4~g} ms (%{customdata[1]} to %{customdata[2]})<br>off by %{customdata[3]} %" },
    ],
    layout: layout({ xaxis: axis("measured (ms)"), yaxis: axis("predicted (ms)") }),
  };
}

function errors() {
  const one = judged();
  const off = (values) => values.map((value, n) => (value / one.measured[n] - 1) * 100);
  const y = off(one.predicted);
  const floor = (one.floor ?? 0) * 100;
  return {
    data: [{ x: one.measured, y, mode: "markers", type: "scatter", marker: { color: colour("c1"), size: 7, opacity: 0.85 }, showlegend: false,
      error_y: interval(y, off(one.lower), off(one.upper), { color: colour("c1"), width: 0 }), customdata: one.names.map(plain),
      hovertemplate: "<b>%{customdata}</b><br>%{x:.4~g} ms measured<br>off by %{y:.2f} %" }],
    layout: layout({ xaxis: axis("measured (ms)"), yaxis: axis("error of the prediction (%)", { zeroline: true }),
      shapes: [{ type: "rect", xref: "paper", x0: 0, x1: 1, y0: -floor, y1: floor, fillcolor: colour("band"), line: { width: 0 }, layer: "below" }] }),
  };
}

function grouped(groups, told) {
  const numbers = groups.map((_, n) => n);
  const most = narrow() ? 20 : 34;
  return {
    data: [
      { type: "scatter", mode: "markers", y: numbers, x: groups.map((one) => one.signed), name: "mean, signed", marker: { color: colour("c1"), size: 9 },
        error_x: { type: "data", array: groups.map((one) => one.deviation ?? 0), color: colour("c1"), thickness: 1.4, width: 3 },
        customdata: groups.map((one) => [plain(one.name), told(one)]), hovertemplate: "<b>%{customdata[0]}</b><br>%{x:+.2f} % on average, %{customdata[1]}" },
      { type: "scatter", mode: "markers", y: numbers, x: groups.map((one) => one.error), name: "mean absolute", marker: { color: colour("c2"), symbol: "line-ns-open", size: 13, line: { width: 2 } },
        customdata: groups.map((one) => plain(one.name)), hovertemplate: "<b>%{customdata}</b><br>%{x:.2f} % absolute" },
    ],
    layout: layout({ height: barHeight(Math.max(groups.length, 3)) + 40, xaxis: axis("error (%)", { zeroline: true }),
      yaxis: axis("", { autorange: "reversed", zeroline: false, tickmode: "array", tickvals: numbers, ticktext: groups.map((one) => plain(shortened(one.name, most))) }) }),
  };
}

function showQuality() {
  draw("quality-scatter", scatter);
  draw("quality-error", errors);
  const share = (one) => (one.share === null ? "" : `${(one.share * 100).toFixed(0)} % of the time`);
  for (const [id, groups, title, told] of [
    ["quality-kinds", judged().kinds, judged().kinds_title, share], ["quality-choices", judged().choices, judged().choices_title, (one) => `${one.networks} networks`],
  ]) {
    byId(id).closest("figure").hidden = !groups.length;
    byId(`${id}-title`).textContent = title;
    if (groups.length) draw(id, () => grouped(groups, told));
  }
}

function quality() {
  choices("quality-predictor", DATA.predictors.map((one, n) => [n, one.name]), 0, (value) => { qualityNow = Number(value); showQuality(); });
  showQuality();
}
