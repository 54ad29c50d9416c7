// Draws each section that the page has, the first at once and the others one by one, so that the page answers meanwhile.
const SECTIONS = [["drift", drift], ["spent", spent], ["predictors", quality], ["searches", fronts], ["difference", difference]];

function drawAll(left) {
  if (!left.length) {
    document.documentElement.dataset.done = "yes";
    return;
  }
  left[0]();
  setTimeout(() => drawAll(left.slice(1)), 0);
}

const present = (value) => (Array.isArray(value) ? value.length > 0 : Boolean(value));
drawAll(SECTIONS.filter(([name]) => present(DATA[name])).map(([, start]) => start));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw());
matchMedia("(max-width: 639px)").addEventListener("change", () => redraw());
// Paper is white, and narrower than most screens.
addEventListener("beforeprint", () => {
  document.documentElement.classList.add("printing");
  redraw();
});
addEventListener("afterprint", () => {
  document.documentElement.classList.remove("printing");
  redraw(true);
});
