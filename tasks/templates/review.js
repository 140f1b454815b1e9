"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const element = (id) => document.getElementById(id);
  const label = (name) => name.replace("one_sided", "one-sided").replaceAll("_", " ");
  const byId = new Map(data.heads.map((head) => [head.id, head]));
  const { name, fingerprint } = data.file.generator;
  const storagePrefix = `spinmeround-review ${JSON.stringify([data.run, data.storage_key, name, fingerprint])} `;
  const AGAINST = "by you, against the screen";
  const LEFT = { keep: "kept", drop: "dropped", none: "cleared" };
  const NO_SERVER = "no connection to the server; start 'spinmeround review' again";
  const RETRY_MS = 2000, REFRESH_MS = 5000, OVERSCAN = 6;

  // decisions: those in the file; pending: those made here and not saved yet, with the time of the decision that
  // the person saw before
  let decisions = data.file.decisions, pending = remembered();
  let shown = [], current = "", filter = "all", descending = true, height = 160;
  const done = [], rows = new Map();

  // one item per decision: other tabs, and pages with other heads of this run, keep theirs
  function remembered() {
    const waits = ([id, mine]) => mine && (data.served || !decisions[id] || Date.parse(mine.time) > Date.parse(decisions[id].time));
    return Object.fromEntries(data.heads.map(({ id }) => [id, recall(id)]).filter(waits));
  }
  function recall(id) {
    try { return JSON.parse(localStorage.getItem(storagePrefix + id)); } catch { return null; }
  }
  function remember(id) {
    try { localStorage.setItem(storagePrefix + id, JSON.stringify(pending[id])); } catch { /* local storage is disabled */ }
  }
  function forget(id, sent) {
    if (recall(id)?.time === sent.time) localStorage.removeItem(storagePrefix + id);
  }

  const entry = (id) => pending[id] || decisions[id] || { decision: "none", note: "" };
  const decisionOf = (id) => entry(id).decision;
  const keeps = (head) => (decisionOf(head.id) === "none" ? head.keep : decisionOf(head.id) === "keep");
  const overridden = (head) => decisionOf(head.id) !== "none" && keeps(head) !== head.keep;
  const FILTERS = {
    all: () => true,
    kept: keeps,
    dropped: (head) => !keeps(head),
    decided: (head) => decisionOf(head.id) !== "none",
    undecided: (head) => decisionOf(head.id) === "none",
    overridden,
  };

  function count(name) { return data.heads.reduce((sum, head) => sum + (FILTERS[name](head) ? 1 : 0), 0); }

  function updateCounts() {
    element("progress").textContent = `${data.heads.length} heads: ${count("kept")} kept, ${count("dropped")} dropped, ${count("decided")} decided by you`;
    for (const button of element("filters").children) {
      button.setAttribute("aria-pressed", String(button.dataset.filter === filter));
      button.lastChild.textContent = count(button.dataset.filter);
    }
  }

  function choose() {
    const reason = element("reason").value, sort = element("sort").value, part = element("search").value.trim();
    const score = data.scores.findIndex((each) => each.name === sort);
    shown = data.heads.filter((head) => FILTERS[filter](head) && (!reason || head.reasons.includes(reason)) && head.id.includes(part));
    if (score >= 0) {
      const last = descending ? -Infinity : Infinity, key = (head) => head.scores[score] ?? last;
      shown.sort((a, b) => (descending ? key(b) - key(a) : key(a) - key(b)) || 0);
    } else if (descending === false) shown.reverse();
    element("order").textContent = score < 0 ? (descending ? "first to last" : "last to first") : (descending ? "largest first" : "smallest first");
    element("none").hidden = shown.length > 0;
    current = shown.length ? shown[0].id : "";
    clear();
    scrollTo(0, 0);
    draw();
    updateCounts();
  }

  const index = () => shown.findIndex((head) => head.id === current);
  const top = (at) => at * height;

  function clear() {
    for (const row of rows.values()) row.remove();
    rows.clear();
    element("list").style.height = `${shown.length * height}px`;
  }

  function draw() {
    const list = element("list"), from = scrollY - list.offsetTop;
    const first = Math.max(0, Math.floor(from / height) - OVERSCAN);
    const last = Math.min(shown.length, Math.ceil((from + innerHeight) / height) + OVERSCAN);
    const wanted = new Set(shown.slice(first, last).map((head) => head.id));
    for (const [id, row] of rows) if (!wanted.has(id) && !row.contains(document.activeElement)) { row.remove(); rows.delete(id); }
    for (let at = first; at < last; at++) {
      const head = shown[at];
      if (!rows.has(head.id)) {
        const row = make(head);
        row.style.top = `${top(at)}px`;
        row.style.height = `${height}px`;
        row.setAttribute("aria-setsize", shown.length);
        row.setAttribute("aria-posinset", at + 1);
        rows.set(head.id, row);
        list.append(row);
        paint(head);
      }
    }
  }

  function make(head) {
    const row = node("article", "row");
    row.setAttribute("role", "listitem");
    row.dataset.id = head.id;
    const strip = Object.assign(new Image(data.strip_size[0], data.strip_size[1]), { src: head.strip, decoding: "async", alt: `Previews of ${head.id}, once around from the front` });
    const about = node("div", "about"), title = node("p", "id", head.id);
    title.append(node("span", "verdict"), node("span", "by"));
    const buttons = node("div", "buttons");
    for (const [name, key, choice] of [["Keep", "y", "keep"], ["Drop", "n", "drop"], ["Clear", "c", "none"]]) {
      const button = node("button", "", `${name} `);
      button.type = "button";
      button.dataset.choice = choice;
      button.append(node("kbd", "", key));
      button.addEventListener("click", () => { move(head.id); decide(head.id, choice); });
      buttons.append(button);
    }
    const note = node("input", "note");
    Object.assign(note, { placeholder: "note", maxLength: 2000, ariaLabel: `Note on ${head.id}` });
    note.addEventListener("change", () => decide(head.id, decisionOf(head.id), note.value));
    note.addEventListener("focus", () => move(head.id));
    about.append(title, node("p", "reasons"), buttons, note);
    const scores = node("dl", "scores");
    data.scores.forEach((score, at) => {
      const line = node("div", head.reasons.includes(score.name) ? "failing" : "");
      if (score.name === element("sort").value) line.classList.add("sorted");
      const value = node("dd", "", number(head.scores[at])), weight = head.evidence[at];
      value.append(node("i", "", limit(score.limit)));
      if (weight !== null && Math.abs(weight) >= 0.05) value.append(node("b", "", ` ${weight > 0 ? "+" : ""}${weight.toFixed(1)}`));
      const map = head.maps[score.name];
      if (map) {
        line.classList.add("mapped");
        line.addEventListener("mouseenter", () => { strip.src = map; });
        line.addEventListener("mouseleave", () => { strip.src = head.strip; });
      }
      line.title = `${label(score.name)} ${number(head.scores[at])}${limit(score.limit)}\n${score.description}${weight === null ? "" : `\nEvidence: ${weight.toFixed(2)} log-odds`}${map ? "\nThe pictures show where it lies." : ""}`;
      line.append(node("dt", "", label(score.name)), value);
      scores.append(line);
    });
    row.append(strip, about, scores);
    row.addEventListener("click", () => move(head.id));
    return row;
  }

  function paint(head) {
    const row = rows.get(head.id);
    if (!row) return;
    const mine = decisionOf(head.id), keep = keeps(head);
    row.classList.toggle("drop", !keep);
    row.setAttribute("aria-current", String(head.id === current));
    row.querySelector(".verdict").textContent = keep ? "keep" : "drop";
    row.querySelector(".by").textContent = mine === "none" ? "by the screen" : overridden(head) ? AGAINST : "by you, same as the screen";
    row.querySelector(".reasons").textContent = head.reasons.length ? `screen: ${head.reasons.map(label).join(", ")}` : "";
    for (const button of row.querySelectorAll("button")) {
      const own = button.dataset.choice === mine;
      if (button.dataset.choice === "none") button.hidden = mine === "none";
      else button.setAttribute("aria-pressed", String(own));
    }
    const note = row.querySelector(".note");
    if (note !== document.activeElement) note.value = entry(head.id).note;
  }

  function move(id) {
    const before = byId.get(current);
    current = id;
    if (before) paint(before);
    if (byId.has(id)) paint(byId.get(id));
  }

  function step(by) {
    const at = index() + by;
    if (at < 0 || at >= shown.length) return;
    document.activeElement?.blur?.();
    move(shown[at].id);
    const list = element("list"), header = document.querySelector("header").offsetHeight;
    const above = list.offsetTop + top(at) - header - 8, below = list.offsetTop + top(at + 1) - innerHeight + 8;
    if (scrollY > above) scrollTo(0, above);
    else if (scrollY < below) scrollTo(0, below);
    draw();
  }

  function decide(id, decision, note = entry(id).note, undoable = true) {
    const before = entry(id);
    if (before.decision === decision && before.note === note) return;
    if (undoable) done.push({ id, decision: before.decision, note: before.note });
    // newer than the decision that it replaces, even if that has a time in the future
    const time = new Date(Math.max(Date.now(), Date.parse(before.time || 0) + 1)).toISOString();
    pending[id] = { decision, note, time, seen: pending[id] ? pending[id].seen : decisions[id]?.time ?? null };
    remember(id);
    paint(byId.get(id));
    updateCounts();
    status("saving");
    save();
  }

  function undo() {
    const last = done.pop();
    if (!last) return;
    decide(last.id, last.decision, last.note, false);
    if (!shown.some((head) => head.id === last.id)) { filter = "all"; element("reason").value = ""; element("search").value = ""; choose(); }
    step(shown.findIndex((head) => head.id === last.id) - index());
    move(last.id);
  }

  let saving = null;
  function status(text, bad = false) {
    element("saved").textContent = text;
    element("saved").classList.toggle("bad", bad);
  }
  async function request(path, body) {
    const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
    const response = await fetch(path, options);
    const found = await response.json();
    if (!response.ok) throw new Error(found.error);
    return found;
  }
  function save() {
    if (!data.served) {
      const kept = Object.keys(pending).length;
      status(kept ? `${kept} unsaved in this browser; download them` : "");
      return Promise.resolve(true);
    }
    saving ||= flush().finally(() => { saving = null; });
    return saving;
  }
  async function flush() {
    let wrote = false;
    const refused = new Set();
    for (;;) {
      const id = Object.keys(pending)[0];
      if (id === undefined) { if (wrote) conclude([...refused]); return !refused.size; }
      const sent = pending[id];
      try {
        const { decision, taken } = await request("decisions", { id, decision: sent.decision, note: sent.note, seen: sent.seen });
        decisions[id] = decision;
        wrote = true;
        forget(id, sent);
        if (pending[id] === sent) delete pending[id];
        else if (taken) { pending[id].seen = decision.time; remember(id); }
        if (!taken) { refused.add(id); paint(byId.get(id)); updateCounts(); }
      } catch (error) {
        const why = error instanceof TypeError ? NO_SERVER : error.message;
        status(`${Object.keys(pending).length} not saved yet: ${why}`, true);
        setTimeout(save, RETRY_MS);
        return false;
      }
    }
  }
  function conclude(refused) {
    if (!refused.length) { status(`saved ${new Date().toLocaleTimeString()}`); return; }
    const named = refused.slice(0, 3).map((id) => `${id} (${LEFT[decisionOf(id)]})`).join(", ") + (refused.length > 3 ? ", ..." : "");
    status(`${refused.length} not saved, because newer decisions exist: ${named}; decide again to replace them`, true);
  }
  async function refresh() {
    if (!data.served || document.hidden || saving) return;
    try {
      const found = await request("decisions");
      const changed = data.heads.filter((head) => JSON.stringify(found.decisions[head.id]) !== JSON.stringify(decisions[head.id]));
      decisions = found.decisions;
      changed.forEach(paint);
      if (changed.length) updateCounts();
      if (Object.keys(pending).length) save();
    } catch (error) {
      status(error instanceof TypeError ? NO_SERVER : error.message, true);
    }
  }
  function download() {
    const mine = Object.entries(pending).map(([id, { decision, note, time }]) => [id, { decision, note, time }]);
    const file = { ...data.file, decisions: { ...decisions, ...Object.fromEntries(mine) } };
    const link = node("a", "");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(file, null, 1) + "\n"], { type: "application/json" }));
    link.download = "decisions.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    status("downloaded");
  }
  async function finish() {
    document.activeElement?.blur?.();
    if (!data.served) { download(); return; }
    if (!await save()) return;
    try {
      await request("reviewed", { digest: data.digest });
      element("finished-summary").textContent = `You decided on ${count("decided")} of ${data.heads.length} heads: ${count("kept")} are kept, ${count("dropped")} are dropped.`;
      element("finished").showModal();
    } catch (error) { status(error.message, true); }
  }

  function node(tag, kind, text = "") {
    const made = document.createElement(tag);
    if (kind) made.className = kind;
    if (text) made.append(text);
    return made;
  }
  function number(value) {
    if (value === null || value === undefined) return "none";
    return value === 0 ? "0" : String(Number(value.toPrecision(3)));
  }
  function limit([least, most]) {
    if (least !== null && most !== null) return ` (${number(least)} to ${number(most)})`;
    return most !== null ? ` (≤ ${number(most)})` : least !== null ? ` (≥ ${number(least)})` : "";
  }
  function option(select, value, text) { select.append(Object.assign(node("option", "", text), { value })); }

  function measure() {
    const probe = make(data.heads[0]);
    probe.style.visibility = "hidden";
    // all rows have the height of the fullest possible row
    probe.querySelector(".verdict").textContent = "drop";
    probe.querySelector(".by").textContent = AGAINST;
    probe.querySelector(".reasons").textContent = "screen: all reasons";
    element("list").append(probe);
    height = probe.offsetHeight;
    probe.remove();
  }

  for (const name of Object.keys(FILTERS)) {
    const button = node("button", "", `${name} `);
    Object.assign(button, { type: "button" });
    button.dataset.filter = name;
    button.append(node("span", ""));
    button.addEventListener("click", () => { filter = name; choose(); });
    element("filters").append(button);
  }
  option(element("reason"), "", "any");
  for (const reason of [...new Set(data.heads.flatMap((head) => head.reasons))]) {
    option(element("reason"), reason, `${label(reason)} (${data.heads.filter((head) => head.reasons.includes(reason)).length})`);
  }
  option(element("sort"), "", "head");
  for (const score of data.scores) option(element("sort"), score.name, label(score.name));
  for (const id of ["reason", "sort"]) element(id).addEventListener("change", () => { choose(); element(id).blur(); });
  element("search").addEventListener("input", choose);
  element("order").addEventListener("click", () => { descending = !descending; choose(); });
  element("finish").addEventListener("click", finish);

  const KEYS = {
    ArrowDown: () => step(1), j: () => step(1), ArrowUp: () => step(-1), k: () => step(-1),
    Home: () => step(-index()), End: () => step(shown.length - 1 - index()),
    y: () => { if (current) { decide(current, "keep"); step(1); } },
    n: () => { if (current) { decide(current, "drop"); step(1); } },
    c: () => { if (current) decide(current, "none"); },
    u: undo,
    e: () => rows.get(current)?.querySelector(".note").focus(),
  };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || element("finished").open) return;
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (typing) {
      if (event.key === "Escape" || (event.key === "Enter" && event.target.tagName === "INPUT")) event.target.blur();
      return;
    }
    if (!KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key]();
  });
  let drawing = 0;
  addEventListener("scroll", () => { drawing ||= requestAnimationFrame(() => { drawing = 0; draw(); }); }, { passive: true });
  addEventListener("resize", () => { if (data.heads.length) { measure(); clear(); draw(); } });
  addEventListener("beforeunload", (event) => { if (data.served && Object.keys(pending).length) event.preventDefault(); });
  addEventListener("focus", refresh);
  setInterval(refresh, REFRESH_MS);

  addEventListener("storage", (event) => {
    if (data.served || !event.key?.startsWith(storagePrefix)) return;
    pending = { ...pending, ...remembered() };
    data.heads.forEach(paint);
    updateCounts();
    save();
  });

  if (data.heads.length) measure();
  choose();
  save();
})();
