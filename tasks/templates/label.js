"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const element = (id) => document.getElementById(id);
  const heads = data.heads, marks = new Map(heads.map(({ id, mark }) => [id, mark]));
  const WORDS = { keep: "keep", drop: "drop", passed: "passed", none: "" };
  const NO_SERVER = "no connection to the server; start 'spinmeround screen label' again", RETRY_MS = 2000;

  // the page goes on where the labels end
  let at = Math.max(0, heads.findIndex(({ mark }) => mark === "none"));
  if (heads.length && heads.every(({ mark }) => mark !== "none")) at = heads.length;
  const done = [];

  // marks that are not saved yet, in the order in which they were made
  let unsaved = [], saving = null, timer = 0;

  const count = (mark) => [...marks.values()].filter((each) => each === mark).length;

  function draw() {
    const head = heads[at];
    element("head").hidden = !head;
    element("none").hidden = Boolean(head);
    const passed = count("passed");
    element("progress").textContent = `${count("keep")} kept, ${count("drop")} dropped, ${passed} passed of ${heads.length} heads` + (data.earlier ? `; ${data.earlier} labelled in earlier rounds` : "");
    if (!head) return;
    for (const id of ["front", "back"]) element(id).style.backgroundImage = `url("${head.strip}")`;
    element("views").ariaLabel = `Previews of ${head.id}, once around from the front`;
    element("name").textContent = `${at + 1} of ${heads.length}: ${head.id}`;
    const mark = marks.get(head.id);
    element("mark").textContent = WORDS[mark];
    element("mark").className = `mark ${mark}`;
    for (const next of heads.slice(at + 1, at + 4)) new Image().src = next.strip;
  }

  function set(id, mark) {
    marks.set(id, mark);
    unsaved.push({ id, label: mark });
    status("saving");
    save();
  }

  function label(mark) {
    const head = heads[at];
    if (!head) return;
    done.push({ at, mark: marks.get(head.id) });
    if (marks.get(head.id) !== mark) set(head.id, mark);
    at += 1;
    draw();
  }

  // a head that has a mark keeps it when it is passed
  function pass() {
    const head = heads[at];
    if (head) label(marks.get(head.id) === "none" ? "passed" : marks.get(head.id));
  }

  function back() { if (at > 0) { at -= 1; draw(); } }

  function undo() {
    const last = done.pop();
    if (!last) return;
    at = last.at;
    if (marks.get(heads[at].id) !== last.mark) set(heads[at].id, last.mark);
    draw();
  }

  function status(text, bad = false) {
    element("saved").textContent = text;
    element("saved").classList.toggle("bad", bad);
  }
  async function request(path, body) {
    const response = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    const found = await response.json();
    if (!response.ok) throw new Error(found.error);
    return found;
  }
  function save() {
    clearTimeout(timer);
    saving ||= flush().finally(() => { saving = null; });
    return saving;
  }
  async function flush() {
    while (unsaved.length) {
      try {
        await request("labels", unsaved[0]);
        unsaved = unsaved.slice(1);
      } catch (error) {
        status(`${unsaved.length} not saved yet: ${error instanceof TypeError ? NO_SERVER : error.message}`, true);
        timer = setTimeout(save, RETRY_MS);
        return false;
      }
    }
    status(`saved ${new Date().toLocaleTimeString()}`);
    return true;
  }

  async function finish() {
    if (!await save()) return;
    try {
      const found = await request("done", {});
      for (const [id, mark] of marks) if (mark === "passed") marks.set(id, "keep");
      done.length = 0;
      draw();
      element("finished-summary").textContent = `${found.labelled} heads are labelled: ${found.keep} kept (${found.passed} of them passed without a mark), ${found.drop} dropped. ${found.random} of them were drawn at random.`;
      element("finished").showModal();
    } catch (error) { status(error instanceof TypeError ? NO_SERVER : error.message, true); }
  }

  const KEYS = { k: () => label("keep"), d: () => label("drop"), ArrowRight: pass, ArrowLeft: back, u: undo };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || element("finished").open || !KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key]();
  });
  for (const button of document.querySelectorAll("[data-key]")) button.addEventListener("click", () => { button.blur(); KEYS[button.dataset.key](); });
  element("finish").addEventListener("click", () => { element("finish").blur(); finish(); });
  addEventListener("beforeunload", (event) => { if (unsaved.length) event.preventDefault(); });
  draw();
})();
