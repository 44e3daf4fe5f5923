(() => {
  const read = (id) => document.getElementById(id).textContent;
  const templates = JSON.parse(read("templates"));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const canvases = [...document.querySelectorAll(".canvas")];
  const config = {
    responsive: true,
    displaylogo: false,
    modeBarButtons: [["toImage", "resetScale2d"]],
  };

  const draw = (canvas, theme) => {
    // Plotly writes into what it is given, so each drawing starts from the text.
    const figure = JSON.parse(read(`${canvas.id}-figure`));
    figure.layout.template = templates[theme];
    // On a touch screen a drag must scroll the page; a tap still shows the values.
    if (matchMedia("(pointer: coarse)").matches) figure.layout.dragmode = false;
    return Plotly.react(canvas, figure.data, figure.layout, config);
  };
  const drawAll = (theme) => canvases.forEach((canvas) => draw(canvas, theme));
  const preferred = () => (dark.matches ? "dark" : "light");

  // One figure at a time, so that the page answers while the next one is drawn.
  const drawNext = ([canvas, ...rest]) => {
    if (!canvas) return;
    draw(canvas, preferred());
    setTimeout(drawNext, 0, rest);
  };
  drawNext(canvases);

  dark.addEventListener("change", () => drawAll(preferred()));
  addEventListener("beforeprint", () => drawAll("light"));
  addEventListener("afterprint", () => drawAll(preferred()));
})();
