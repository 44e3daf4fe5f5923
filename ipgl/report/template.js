(() => {
  const read = (id) => document.getElementById(id).textContent;
  const templates = JSON.parse(read("templates"));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const canvases = [...document.querySelectorAll(".canvas")];
  const keys = [...document.querySelectorAll(".keys [data-method]")];
  const hidden = new Set();
  const near = new Set();
  const config = {
    responsive: true,
    displaylogo: false,
    modeBarButtons: [["toImage", "resetScale2d"]],
  };
  let theme = dark.matches ? "dark" : "light";
  let ready = false;

  const draw = (canvas) => {
    const wanted = JSON.stringify([theme, [...hidden]]);
    if (!ready || canvas.dataset.drawn === wanted) return;
    canvas.dataset.drawn = wanted;
    // Plotly writes into what it is given, so each drawing starts from the text.
    const figure = JSON.parse(read(`${canvas.id}-figure`));
    figure.layout.template = templates[theme];
    // On a touch screen a drag must scroll the page; a tap still shows the values.
    if (matchMedia("(pointer: coarse)").matches) figure.layout.dragmode = false;
    if (canvas.closest(".drawn")) {
      for (const trace of figure.data) trace.visible = !hidden.has(trace.legendgroup);
    }
    Plotly.react(canvas, figure.data, figure.layout, config);
  };
  // One figure at a time, so that the page answers while the next one is drawn.
  const drawRest = ([canvas, ...rest]) => {
    if (!canvas) return;
    if (!canvas.closest("details:not([open])")) draw(canvas);
    setTimeout(drawRest, 0, rest);
  };
  const drawNear = () => near.forEach((canvas) => draw(canvas));

  // Figures on or near the screen come first, then the others, and those in closed blocks when they are opened. After
  // a change of theme or methods a figure is drawn again only once it is near.
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        near[isIntersecting ? "add" : "delete"](target);
        if (isIntersecting) draw(target);
      }
    },
    { rootMargin: "400px" },
  );
  canvases.forEach((canvas) => observer.observe(canvas));

  document.querySelector(".keys").addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (!button) return;
    const { show } = button.dataset;
    for (const key of keys) {
      const pressed = key.getAttribute("aria-pressed") === "true";
      const next = show ? show === "all" : key === button ? !pressed : pressed;
      key.setAttribute("aria-pressed", next);
      hidden[next ? "delete" : "add"](key.dataset.method);
    }
    drawNear();
  });

  const use = (next) => {
    theme = next;
    drawNear();
  };
  dark.addEventListener("change", () => use(dark.matches ? "dark" : "light"));
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details.insight").forEach((details) => (details.open = true));
    theme = "light";
    canvases.forEach(draw);
  });
  addEventListener("afterprint", () => use(dark.matches ? "dark" : "light"));

  const inflate = async () => {
    const letters = atob(read("plotly"));
    const packed = new Uint8Array(letters.length);
    // `Uint8Array.from` with a function takes twenty times as long for these two million letters.
    for (let place = 0; place < letters.length; place += 1) packed[place] = letters.charCodeAt(place);
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    ready = true;
    drawNear();
    setTimeout(drawRest, 0, canvases);
  };
  const refuse = (reason) => {
    const place = document.getElementById("undrawn");
    place.textContent = `The figures cannot be drawn: ${reason} The table below each holds the same numbers.`;
    place.hidden = false;
  };
  if (typeof DecompressionStream === "undefined") refuse("this browser is too old to unpack the drawing library.");
  else inflate().catch((error) => refuse(`${error.message}.`));
})();
