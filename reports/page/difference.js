// Two tables against each other.
function differenceLayers() {
  const { first, second, layers } = DATA.difference;
  const ratios = layers.first_us.map((us, n) => layers.second_us[n] / us).sort((a, b) => a - b);
  const usual = ratios[Math.floor(ratios.length / 2)];
  const [least, most] = [Math.min(...layers.first_us) * 0.8, Math.max(...layers.first_us) * 1.25];
  const line = (factor, dash, name) => ({ x: [least, most], y: [least * factor, most * factor], mode: "lines", name, hoverinfo: "skip", line: { color: colour("quiet"), width: 1.3, dash } });
  const kinds = [...new Set(layers.op)];
  const traces = kinds.map((kind, k) => {
    const here = layers.op.map((_, n) => n).filter((n) => layers.op[n] === kind);
    const of = (name) => here.map((n) => layers[name][n]);
    return { x: of("first_us"), y: of("second_us"), name: plain(short(kind, 20)), type: "scatter", mode: "markers",
      marker: { color: k < 7 ? series(k) : colour("other"), symbol: SYMBOLS[k % 5], size: 7, opacity: 0.8 },
      error_x: interval(of("first_us"), of("first_low"), of("first_high"), { thickness: 0.9, width: 0 }),
      error_y: interval(of("second_us"), of("second_low"), of("second_high"), { thickness: 0.9, width: 0 }),
      customdata: here.map((n) => [plain(short(layers.name[n], 70)), digits(layers.second_us[n] / layers.first_us[n], 3)]),
      hovertemplate: "<b>%{customdata[0]}</b><br>%{x:.4~g} and %{y:.4~g} µs: %{customdata[1]} times" };
  });
  return { data: [line(1, "dot", "equal"), line(usual, "dash", `usual: ${digits(usual, 3)} times`), ...traces],
    layout: layout({ height: narrow() ? 400 : 450, xaxis: logarithmic(`${short(first, 30)} (µs)`, layers.first_us), yaxis: logarithmic(`${short(second, 30)} (µs)`, layers.second_us) }) };
}

function differenceKinds() {
  const { first, second, kinds } = DATA.difference;
  const numbers = kinds.map((_, n) => n);
  const middle = kinds.map((one) => one.middle);
  return {
    data: [{ type: "scatter", mode: "markers", y: numbers, x: middle, marker: { color: colour("c1"), size: 10 },
      error_x: interval(middle, kinds.map((one) => one.low), kinds.map((one) => one.high), { color: colour("c1"), thickness: 2.5, width: 0 }),
      customdata: kinds.map((one) => [plain(one.name), one.layers, digits(one.low, 3), digits(one.high, 3)]),
      hovertemplate: "<b>%{customdata[0]}</b>, %{customdata[1]} layers<br>%{x:.3~g} times, eight in ten from %{customdata[2]} to %{customdata[3]}" }],
    layout: layout({ height: Math.max(narrow() ? 200 : 260, barHeight(kinds.length) + 40), xaxis: logarithmic(`${short(second, 20)} / ${short(first, 20)} (times)`, [...kinds.flatMap((one) => [one.low, one.high]), 1]),
      yaxis: axis("", { autorange: "reversed", zeroline: false, tickmode: "array", tickvals: numbers, ticktext: kinds.map((one) => plain(shortened(one.name, narrow() ? 18 : 30))) }),
      shapes: [{ type: "line", x0: 1, x1: 1, yref: "paper", y0: 0, y1: 1, line: { color: colour("quiet"), width: 1.2, dash: "dot" } }] }),
  };
}

function difference() {
  draw("difference-layers", differenceLayers);
  draw("difference-kinds", differenceKinds);
}
