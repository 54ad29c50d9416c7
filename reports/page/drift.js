// How fast the machine was over the time of measuring.
function drift() {
  const titles = { y: "slower than at rest (%)", x: "since the campaign began (min)" };
  draw("drift", () => ({
    data: DATA.drift.map((one, n) => ({
      x: one.minutes, y: one.slowdown, name: plain(one.name), type: "scatter", mode: "markers",
      marker: { size: 5.5, color: series(n), opacity: 0.6, symbol: SYMBOLS[n % 5] }, customdata: one.disturbed.map((share, k) => [share, one.round[k] + 1]),
      hovertemplate: "%{y:.1f} % slower than at rest<br>%{customdata[0]} % of its runs disturbed<br>round %{customdata[1]}, minute %{x:.1f}",
    })),
    layout: layout({
      height: narrow() ? 250 : 270, showlegend: DATA.drift.length > 1, xaxis: axis(titles.x, { rangemode: "tozero" }),
      yaxis: axis(titles.y, { rangemode: "tozero" }),
      shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: 6, y1: 6, line: { color: colour("c2"), width: 1.2, dash: "dash" } }],
    }),
  }));
}
