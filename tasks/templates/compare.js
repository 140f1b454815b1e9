// Truth, model and baseline of a held-out head side by side, from the pictures of its figure; one slider turns all.
(() => {
  const compare = document.getElementById("compare");
  const figures = [...document.querySelectorAll("figure.novel")];
  const panels = compare.querySelector(".panels");
  const [slider, angles, heads, spin] = ["view", "angles", "head", "spin"].map((id) => document.getElementById(`compare-${id}`));
  const AMPLIFIED = 3, STEP_MS = 450, DRAG_STEPS = 1.2;
  let figure = null, mode = "rgb", timer = null, drag = null, drawn = 0;

  const rows = () => [...figure.querySelectorAll("tbody tr")].map((row) => [...row.querySelectorAll("img")]);

  // The picture of a panel at a stop, null where there is none.
  function source(panel, stop, kind) {
    const [generated, truth, generatedNormals, trueNormals] = rows();
    if (kind === "normals") return { truth: trueNormals, model: generatedNormals }[panel]?.[stop] ?? null;
    if (panel !== "baseline") return { truth, model: generated }[panel][stop];
    return figure.querySelectorAll(".inputs img")[figure.stops.baseline[stop]] ?? null;
  }

  function differ(pen, picture, truth) {
    const { width, height } = pen.canvas;
    pen.drawImage(truth, 0, 0, width, height);
    const wanted = pen.getImageData(0, 0, width, height).data;
    pen.drawImage(picture, 0, 0, width, height);
    const found = pen.getImageData(0, 0, width, height);
    for (let at = 0; at < wanted.length; at++) {
      if (at % 4 !== 3) found.data[at] = AMPLIFIED * Math.abs(found.data[at] - wanted[at]);
    }
    pen.putImageData(found, 0, 0);
  }

  function described(panel, stop, picture) {
    if (!picture) return mode === "normals" ? "no normals" : "";
    const psnr = figure.stops.psnr[panel]?.[stop];
    return psnr === undefined || psnr === null ? "" : `${psnr.toFixed(1)} dB`;
  }

  async function show() {
    const stop = Number(slider.value), turn = ++drawn;
    const shown = [...panels.children].filter((each) => !each.hidden).map((each) => {
      const panel = each.dataset.panel;
      return { each, panel, picture: source(panel, stop, mode) };
    });
    const truth = source("truth", stop, "rgb");
    await Promise.all([truth, ...shown.map(({ picture }) => picture)].filter(Boolean).map((image) => image.decode()));
    if (turn !== drawn) return;
    for (const { each, panel, picture } of shown) {
      const canvas = each.querySelector("canvas"), pen = canvas.getContext("2d", { willReadFrequently: true });
      canvas.width = truth.naturalWidth;
      canvas.height = truth.naturalHeight;
      if (picture && mode === "difference" && panel !== "truth") differ(pen, picture, truth);
      else if (picture) pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
      each.querySelector("output").textContent = described(panel, stop, picture);
    }
    angles.textContent = figure.stops.angles[stop];
    slider.setAttribute("aria-valuetext", figure.stops.angles[stop]);
    compare.dataset.stop = stop;
  }

  function turnTo(stop) {
    const count = Number(slider.max) + 1;
    slider.value = ((stop % count) + count) % count;
    show();
  }
  function choose(index) {
    figure = figures[index];
    figure.stops = JSON.parse(figure.dataset.stops);
    slider.max = figure.stops.angles.length - 1;
    compare.querySelector("[data-panel=baseline]").hidden = figure.stops.baseline.length === 0;
    compare.querySelector("input[value=normals]").closest("label").hidden = rows().length < 4;
    if (mode === "normals" && rows().length < 4) compare.querySelector("input[value=rgb]").click();
    turnTo(figure.stops.front);
  }
  function spinTo(on) {
    clearInterval(timer);
    timer = on ? setInterval(() => turnTo(Number(slider.value) + 1), STEP_MS) : null;
    spin.setAttribute("aria-pressed", String(on));
  }

  slider.addEventListener("input", () => { spinTo(false); show(); });
  spin.addEventListener("click", () => spinTo(timer === null));
  heads.addEventListener("change", () => choose(Number(heads.value)));
  for (const input of compare.querySelectorAll("input[name=compare-mode]")) {
    input.addEventListener("change", () => { mode = input.value; show(); });
  }
  panels.addEventListener("keydown", (event) => {
    const turns = { ArrowLeft: -1, ArrowRight: 1 };
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "Home") turnTo(figure.stops.front);
    else if (event.key in turns) turnTo(Number(slider.value) + turns[event.key]);
    else return;
    spinTo(false);
    event.preventDefault();
  });
  panels.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    spinTo(false);
    panels.setPointerCapture(event.pointerId);
    drag = { id: event.pointerId, x: event.clientX, stop: Number(slider.value) };
  });
  panels.addEventListener("pointermove", (event) => {
    if (!drag || event.pointerId !== drag.id) return;
    const turned = (drag.x - event.clientX) / panels.clientWidth * (Number(slider.max) + 1) * DRAG_STEPS;
    const stop = drag.stop + Math.round(turned);
    if (stop !== Number(slider.value)) turnTo(stop);
  });
  for (const ending of ["pointerup", "pointercancel"]) panels.addEventListener(ending, () => { drag = null; });

  compare.querySelector("input[value=rgb]").checked = true;
  heads.value = "0";
  compare.hidden = false;
  choose(0);
})();
