"use strict";
for (const drawing of document.querySelectorAll("svg[data-points]")) {
  const points = JSON.parse(drawing.dataset.points), read = drawing.closest("figure").querySelector("output");
  const { width } = drawing.viewBox.baseVal;
  drawing.addEventListener("pointermove", (event) => {
    const box = drawing.getBoundingClientRect(), at = (event.clientX - box.left) / box.width * width;
    const [x, y, step, mean] = points.reduce((a, b) => Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a);
    drawing.classList.add("pointed");
    drawing.querySelector(".mark").setAttribute("transform", `translate(${x} 0)`);
    drawing.querySelector("circle").setAttribute("transform", `translate(${x} ${y})`);
    read.textContent = `step ${step.toLocaleString("en")}: ${mean.toPrecision(3)}`;
  });
  drawing.addEventListener("pointerleave", () => {
    drawing.classList.remove("pointed");
    read.textContent = "";
  });
}
addEventListener("beforeprint", () => { for (const part of document.querySelectorAll("details")) part.open = true; });

(() => {
  const element = (id) => document.getElementById(id);
  const stored = element("orbit-data");
  if (!stored) return;
  const orbit = JSON.parse(stored.textContent);
  const canvas = element("orbit");
  const context = canvas.getContext("2d");
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const azimuthStep = 360 / new Set(orbit.azimuth).size;
  const elevations = [...new Set(orbit.elevation)].sort((a, b) => a - b);
  const [lowest, highest] = [elevations[0], elevations[elevations.length - 1]];
  const FADE_MS = 90, FRICTION_MS = 220, SPIN_DEG_PER_S = 50, DRAG_TURN_DEG = 260, FASTEST_DEG_PER_MS = 0.5;

  let azimuth = orbit.azimuth[orbit.front], elevation = orbit.elevation[orbit.front];
  let head = 0, mode = "rgb", sheets = null, chosen = 0;
  let shown = null, before = null, fade = 1;
  let drag = null, speed = { azimuth: 0, elevation: 0 }, spinning = false, frame = 0, clock = 0;

  const wrapped = (degrees) => ((degrees + 180) % 360 + 360) % 360 - 180;
  const within = (degrees) => Math.min(highest, Math.max(lowest, degrees));
  const braked = (speed) => Math.min(FASTEST_DEG_PER_MS, Math.max(-FASTEST_DEG_PER_MS, speed));
  const cell = () => Object.assign(document.createElement("canvas"), { width: orbit.cell, height: orbit.cell });

  const signed = (degrees) => {
    const rounded = Math.round(degrees * 10) / 10 || 0;
    return `${rounded > 0 ? "+" : ""}${rounded}°`.replace("-", "−");
  };

  function nearestView() {
    let best = 0, least = Infinity;
    for (let view = 0; view < orbit.azimuth.length; view++) {
      const distance = Math.hypot(wrapped(orbit.azimuth[view] - azimuth), orbit.elevation[view] - elevation);
      if (distance < least) [best, least] = [view, distance];
    }
    return best;
  }

  function picture(view) {
    const made = cell(), pen = made.getContext("2d"), side = orbit.cell;
    const place = [view % orbit.columns * side, Math.floor(view / orbit.columns) * side, side, side, 0, 0, side, side];
    pen.drawImage(sheets.rgb, ...place);
    if (mode === "normals") {
      pen.globalCompositeOperation = "source-in";
      pen.drawImage(sheets.normals, ...place);
    } else if (mode === "mask") {
      pen.globalCompositeOperation = "source-in";
      pen.fillStyle = getComputedStyle(canvas).color;
      pen.fillRect(0, 0, side, side);
    }
    return made;
  }

  function paint() {
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    context.globalCompositeOperation = "lighter";
    for (const [image, weight] of [[before, 1 - fade], [shown, fade]]) {
      if (!image || weight <= 0) continue;
      context.globalAlpha = weight;
      context.drawImage(image, 0, 0, canvas.width, canvas.height);
    }
    context.globalAlpha = 1;
  }

  function describe() {
    const [turn, height] = [wrapped(orbit.azimuth[chosen]), orbit.elevation[chosen]];
    const words = `azimuth ${signed(turn)}, elevation ${signed(height)}`;
    element("orbit-angles").textContent = words;
    canvas.setAttribute("aria-label", `Head ${orbit.heads[head].id}, ${mode}, ${words}`);
    canvas.dataset.view = chosen;
  }

  function show(instantly) {
    if (!sheets) return;
    const view = nearestView();
    if (view !== chosen || instantly || !shown) {
      before = instantly || still.matches ? null : shown;
      chosen = view;
      shown = picture(view);
      fade = before ? 0 : 1;
      describe();
    }
    element("orbit-azimuth").value = wrapped(azimuth);
    element("orbit-elevation").value = elevation;
    wake();
  }

  function tick(now) {
    const passed = Math.min(now - clock, 50);
    clock = now;
    frame = 0;
    if (spinning && !drag) azimuth += SPIN_DEG_PER_S * passed / 1000;
    const decay = Math.exp(-passed / FRICTION_MS);
    if (!drag && !spinning) {
      azimuth += speed.azimuth * passed;
      elevation = within(elevation + speed.elevation * passed);
    }
    speed = { azimuth: speed.azimuth * decay, elevation: speed.elevation * decay };
    fade = Math.min(1, fade + passed / FADE_MS);
    const moving = spinning || Math.hypot(speed.azimuth, speed.elevation) > 0.005;
    if (moving) show(false);
    paint();
    if (moving || fade < 1) wake();
    else canvas.dataset.moving = "false";
  }

  function wake() {
    if (frame) return;
    if (canvas.dataset.moving !== "true") clock = performance.now();
    canvas.dataset.moving = "true";
    frame = requestAnimationFrame(tick);
  }

  async function load(index) {
    head = index;
    const names = ["rgb", "normals"];
    const images = names.map((name) => Object.assign(new Image(), { src: orbit.heads[index][name] }));
    await Promise.all(images.map((image) => image.decode()));
    if (head !== index) return;
    sheets = Object.fromEntries(names.map((name, number) => [name, images[number]]));
    element("orbit-head").textContent = orbit.heads[index].id;
    show(true);
    describe();
  }

  function stop() {
    spinning = false;
    speed = { azimuth: 0, elevation: 0 };
    element("orbit-spin").setAttribute("aria-pressed", "false");
  }

  function resize() {
    const side = Math.round(canvas.clientWidth * Math.min(devicePixelRatio || 1, 3));
    if (side && side !== canvas.width) canvas.width = canvas.height = side;
    paint();
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    stop();
    canvas.setPointerCapture(event.pointerId);
    drag = { id: event.pointerId, x: event.clientX, y: event.clientY, time: event.timeStamp };
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!drag || event.pointerId !== drag.id) return;
    const scale = DRAG_TURN_DEG / canvas.clientWidth, passed = Math.max(event.timeStamp - drag.time, 1);
    const turn = { azimuth: (drag.x - event.clientX) * scale, elevation: (event.clientY - drag.y) * scale / 2 };
    azimuth += turn.azimuth;
    elevation = within(elevation + turn.elevation);
    speed = { azimuth: braked(turn.azimuth / passed), elevation: braked(turn.elevation / passed) };
    drag = { id: drag.id, x: event.clientX, y: event.clientY, time: event.timeStamp };
    show(false);
  });
  for (const ending of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(ending, (event) => {
      if (!drag || event.pointerId !== drag.id) return;
      const resting = event.timeStamp - drag.time > 80 || still.matches;
      drag = null;
      if (resting) speed = { azimuth: 0, elevation: 0 };
      wake();
    });
  }
  canvas.addEventListener("keydown", (event) => {
    const level = elevations.indexOf(orbit.elevation[chosen]);
    const turns = {
      ArrowLeft: () => { azimuth = orbit.azimuth[chosen] - azimuthStep; },
      ArrowRight: () => { azimuth = orbit.azimuth[chosen] + azimuthStep; },
      ArrowUp: () => { elevation = elevations[Math.min(level + 1, elevations.length - 1)]; },
      ArrowDown: () => { elevation = elevations[Math.max(level - 1, 0)]; },
      Home: () => { azimuth = orbit.azimuth[orbit.front]; elevation = orbit.elevation[orbit.front]; },
    };
    if (!turns[event.key] || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    stop();
    turns[event.key]();
    show(false);
  });
  element("orbit-azimuth").addEventListener("input", (event) => { stop(); azimuth = Number(event.target.value); show(false); });
  element("orbit-elevation").addEventListener("input", (event) => { stop(); elevation = Number(event.target.value); show(false); });
  element("orbit-spin").addEventListener("click", () => {
    const start = !spinning;
    stop();
    spinning = start;
    element("orbit-spin").setAttribute("aria-pressed", String(start));
    wake();
  });
  for (const input of document.querySelectorAll("input[name=orbit-mode]")) {
    input.addEventListener("change", () => { mode = input.value; show(true); });
  }
  for (const input of document.querySelectorAll("input[name=orbit-head]")) {
    input.addEventListener("change", () => load(Number(input.value)));
  }
  for (const link of document.querySelectorAll("a[data-head]")) {
    link.addEventListener("click", () => {
      document.querySelector(`input[name=orbit-head][value="${link.dataset.head}"]`).checked = true;
      load(Number(link.dataset.head));
    });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => show(true));
  new ResizeObserver(resize).observe(canvas);
  document.querySelector("input[name=orbit-mode][value=rgb]").checked = true;
  document.querySelector("input[name=orbit-head]").checked = true;
  load(0);
})();
