// The page: what is in view, which event is chosen, which are hidden; all of it stands in the address.

const ROW_HEIGHT = 26;

class Page {
  constructor(meta, report, files) {
    this.meta = meta;
    this.report = report;
    this.files = files;
    this.series = new Map((report.series ?? []).map((series) => [series.name, series]));
    this.events = new Events(meta.events);
    this.hidden = new Set();
    this.query = "";
    this.chosen = -1;
    this.rows = [];
    this.frames = { drawn: 0, slowest: 0, total: 0 };
    const boot = report.incident?.trigger?.boot_ns;
    this.boot = boot === undefined ? null : boot;
  }

  async load(progress) {
    const blocks = [...document.querySelectorAll("script.events")];
    for (const [number, block] of blocks.entries()) {
      await this.events.take(block);
      progress(number + 1, blocks.length);
    }
    this.trigger = this.meta.trigger ? this.events.find(this.meta.trigger) : -1;
    this.gaps = this.unseen();
    const times = [0];
    for (const series of this.series.values()) times.push(...series.points.map(([at]) => at));
    if (this.events.count > 0) times.push(this.events.time[0], this.events.time[this.events.count - 1]);
    const [first, to] = [times.reduce((a, b) => Math.min(a, b)), times.reduce((a, b) => Math.max(a, b))];
    // What was not recorded is shown, but an hour of it would leave no room for what was.
    const unseen = this.gaps.reduce((least, gap) => Math.min(least, gap.from), first);
    const from = Math.max(unseen, first - (to - first) / 4);
    const margin = Math.max(1e6, (to - from) * 0.02);
    this.all = { from: from - margin, to: to + margin };
    this.view = { ...this.all };
  }

  /** Returns the spans of which the dump has not everything. */
  unseen() {
    const gaps = this.meta.losses.map(([from, to, lane, words]) => ({ from, to, lane, words, isLoss: true }));
    const coverage = this.meta.coverage;
    if (!coverage || this.boot === null) return gaps;
    const start = coverage.window_start_boot_ns - this.boot;
    for (const lane of coverage.lanes) {
      for (const shortfall of lane.shortfalls ?? []) {
        if (shortfall.until_boot_ns === undefined) continue;
        gaps.push({ from: start, to: shortfall.until_boot_ns - this.boot, lane: lane.lane, isLoss: false });
      }
    }
    return gaps.filter((gap) => gap.to > gap.from);
  }

  isHidden(at) {
    return this.hidden.has(this.events.type[at]) || (this.matches !== null && this.matches[at] === 0);
  }

  /** Returns the positions of the events in view. */
  range() {
    return { first: this.events.at(this.view.from), last: this.events.at(this.view.to) };
  }

  zoom(from, to) {
    const least = 1e3;
    const span = Math.max(least, Math.min(to - from, this.all.to - this.all.from));
    const start = Math.max(this.all.from, Math.min((from + to) / 2 - span / 2, this.all.to - span));
    this.view = { from: start, to: start + span };
    this.refresh();
  }

  zoomAll() {
    this.view = { ...this.all };
    this.refresh();
  }

  /** Goes to the next failure, or the one before. */
  step(direction) {
    const { events } = this;
    let at = this.chosen < 0 ? this.trigger - direction : this.chosen;
    do at += direction;
    while (at >= 0 && at < events.count && look(events.typeOf(at)).lane !== "failures");
    if (at >= 0 && at < events.count) this.choose(at, true);
  }

  search(query) {
    this.query = query;
    this.matches = null;
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    if (words.length > 0) {
      const { events } = this;
      this.matches = new Uint8Array(events.count);
      for (let at = 0; at < events.count; at += 1) {
        const text = `${events.text[at]} ${events.typeOf(at)} ${events.name[at] ?? ""} ${events.pid[at]}`.toLowerCase();
        this.matches[at] = words.every((word) => text.includes(word)) ? 1 : 0;
      }
    }
    this.refresh();
  }

  /** Shows what is in view after anything about that has changed. */
  refresh() {
    const { first, last } = this.range();
    const rows = [];
    for (let at = first; at < last; at += 1) if (!this.isHidden(at)) rows.push(at);
    this.rows = rows;
    this.list.show(rows.length);
    this.list.choose(rows.indexOf(this.chosen));
    byId("shown").textContent = `${count(rows.length)} of ${count(this.events.count)} events`;
    byId("span").textContent = `${seconds(this.view.from, 3)} s to ${seconds(this.view.to, 3)} s`;
    this.timeline.schedule();
    this.tree.refresh();
    this.remember();
  }

  async choose(at, bring = false) {
    this.chosen = at;
    if (at < 0) return;
    if (this.isHidden(at)) {
      this.hidden.delete(this.events.type[at]);
      byId("search").value = "";
      this.matches = null;
      this.query = "";
      this.types();
    }
    const time = this.events.time[at];
    if (time < this.view.from || time >= this.view.to) this.zoomAll();
    else this.refresh();
    this.list.choose(this.rows.indexOf(at));
    if (bring) byId("events").scrollIntoView({ block: "nearest" });
    await this.detail(at);
  }

  async detail(at) {
    const { events } = this;
    const body = await events.body(at);
    if (this.chosen !== at) return;
    const wall = (BigInt(this.meta.origin_unix_ns) + BigInt(Math.round(events.time[at])));
    const date = new Date(Number(wall / 1000000n)).toISOString().slice(0, 19);
    const links = (positions) => positions.map((other) => [" ", eventLink(this, events.order[other])]);
    const behind = events.cause[at] ? events.find(events.cause[at]) : -1;
    const after = events.consequences(at);
    byId("detail").replaceChildren(
      h("h3", {}, `#${events.order[at]} ${events.typeOf(at)}`),
      h("p", {}, events.text[at]),
      h("p", { class: "muted" }, `${date}.${String(wall % 1000000000n).padStart(9, "0")} UTC, ${seconds(events.time[at], 9)} s from the trigger`),
      behind >= 0 && h("p", {}, "Behind it:", links([behind]), ` ${events.text[behind]}`),
      after.length > 0 && h("p", {}, "It is behind:", links(after)),
      h("pre", { tabindex: "0" }, preformatted(JSON.stringify(body, null, 2))));
  }

  /** Writes the address, so that a link says what is seen. */
  remember() {
    const parts = new URLSearchParams();
    if (this.chosen >= 0) parts.set("event", String(this.events.order[this.chosen]));
    if (this.query) parts.set("q", this.query);
    if (this.hidden.size > 0) parts.set("hide", [...this.hidden].map((type) => this.events.types[type]).join(","));
    const { from, to } = this.view;
    if (from !== this.all.from || to !== this.all.to) parts.set("range", `${(from / 1e9).toFixed(6)},${(to / 1e9).toFixed(6)}`);
    const hash = parts.toString();
    if (hash !== location.hash.slice(1)) history.replaceState(null, "", `#${hash}`);
  }

  /** Follows the address. */
  follow() {
    const parts = new URLSearchParams(location.hash.slice(1));
    const hide = (parts.get("hide") ?? "").split(",").map((type) => this.events.types.indexOf(type));
    this.hidden = new Set(hide.filter((type) => type >= 0));
    const [from, to] = (parts.get("range") ?? "").split(",").map((text) => Number.parseFloat(text) * 1e9);
    this.view = from < to ? { from, to } : { ...this.all };
    byId("search").value = parts.get("q") ?? "";
    const at = parts.has("event") ? this.events.find(Number(parts.get("event"))) : this.trigger;
    this.search(parts.get("q") ?? "");
    this.types();
    if (at >= 0) this.choose(at, parts.has("event"));
  }

  types() {
    const counts = new Map();
    for (let at = 0; at < this.events.count; at += 1) {
      counts.set(this.events.type[at], (counts.get(this.events.type[at]) ?? 0) + 1);
    }
    byId("types").replaceChildren(...this.events.types.map((type, index) => {
      const box = h("input", { type: "checkbox" });
      box.checked = !this.hidden.has(index);
      box.addEventListener("change", () => {
        if (box.checked) this.hidden.delete(index);
        else this.hidden.add(index);
        this.refresh();
      });
      return h("label", {}, box, ` ${type} `, h("span", { class: "muted" }, count(counts.get(index) ?? 0)));
    }));
  }

  drawn(ms) {
    this.frames.drawn += 1;
    this.frames.total += ms;
    this.frames.slowest = Math.max(this.frames.slowest, ms);
  }
}

/** The processes of the window as a tree, each with its life as a bar over the timeline's view. */
class Tree {
  constructor(page, element) {
    this.page = page;
    this.roots = processes(page.events, page.boot);
    this.onlyFailed = true;
    this.list = new List(element, ROW_HEIGHT, (index) => this.row(this.rows[index]), (index) => {
      this.list.choose(index);
      page.choose(this.rows[index].one.event);
    });
    this.rows = [];
  }

  /** Appends a process and its descendants; tells whether any of them is to be shown. */
  collect(one, depth, rows) {
    const at = rows.length;
    rows.push({ one, depth });
    let isShown = !this.onlyFailed || one.failed;
    for (const child of one.children) isShown = this.collect(child, Math.min(depth + 1, 12), rows) || isShown;
    const { from, to } = this.page.view;
    if (!this.onlyFailed && (one.from > to || (one.to !== null && one.to < from)) && rows.length === at + 1) isShown = false;
    if (!isShown) rows.length = at;
    return isShown;
  }

  refresh() {
    this.rows = [];
    for (const root of this.roots) this.collect(root, 0, this.rows);
    this.list.show(this.rows.length);
    byId("tree-count").textContent = `${count(this.rows.length)} ${this.rows.length === 1 ? "process" : "processes"}`;
  }

  row({ one, depth }) {
    const { from, to } = this.page.view;
    const share = (ns) => Math.min(100, Math.max(0, (100 * (ns - from)) / (to - from)));
    const bar = h("i", { class: one.failed ? "life failed" : one.to === null ? "life alive" : "life" });
    bar.style.left = `${share(one.from)}%`;
    bar.style.width = `${Math.max(0.2, share(one.to ?? to) - share(one.from))}%`;
    const name = h("span", { class: "name" }, `${one.name || "?"}[${one.pid}]`);
    name.style.paddingLeft = `${depth * 14}px`;
    return h("div", { class: "row process", title: this.page.events.text[one.event] },
      name, h("span", { class: "lives" }, bar), h("span", { class: "end" }, this.page.events.text[one.event]));
  }
}

function eventRow(page, at) {
  const { events } = page;
  const kind = look(events.typeOf(at));
  const isFailure = kind.lane === "failures" || events.failed[at] !== 0;
  return h("div", { class: `row event${isFailure ? " failure" : ""}${at === page.trigger ? " trigger" : ""}` },
    h("span", { class: "order", role: "gridcell" }, String(events.order[at])),
    h("span", { class: "time", role: "gridcell" }, seconds(events.time[at])),
    h("span", { class: "type", role: "gridcell" }, events.typeOf(at)),
    h("span", { class: "text", role: "gridcell" }, events.text[at], events.cause[at] ? ` ← #${events.cause[at]}` : null));
}

async function main() {
  const app = byId("app");
  if (typeof DecompressionStream === "undefined") {
    app.append(h("p", {}, "This browser cannot unpack the events: any since 2023 can."));
    return;
  }
  const read = (id) => JSON.parse(byId(id).textContent);
  const files = await unpack(byId("files").textContent);
  const page = new Page(read("meta"), read("report"), files);
  globalThis.recorder = page;
  const { report } = page;
  const progress = h("progress", { "aria-label": "Reading the events" });
  app.append(progress);
  await page.load((done, all) => {
    progress.max = all;
    progress.value = done;
  });
  page.matches = null;
  progress.remove();

  const canvas = h("canvas", { id: "canvas", tabindex: "0", role: "application", "aria-describedby": "keys",
    "aria-label": "Timeline of the window. What mattered is listed below as a table." });
  const tip = h("p", { id: "tip", class: "muted", "aria-hidden": "true" });
  const button = (label, words, action) => h("button", { type: "button", title: words, "aria-label": words, onclick: action }, label);
  const list = h("div", { id: "list", class: "list", role: "grid", tabindex: "0", "aria-label": "Events" });
  const treeList = h("div", { id: "tree", class: "list", role: "treegrid", tabindex: "0", "aria-label": "Processes" });
  const search = h("input", { id: "search", type: "search", placeholder: "Search: words, process, pid, type", "aria-label": "Search the events" });
  let pause = 0;
  search.addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(() => page.search(search.value), 150);
  });
  const onlyFailed = h("input", { type: "checkbox", id: "only-failed" });
  onlyFailed.checked = true;
  onlyFailed.addEventListener("change", () => {
    page.tree.onlyFailed = onlyFailed.checked;
    page.tree.refresh();
  });

  const crashes = h("div", { id: "crashes-place" });
  app.append(
    section("timeline", "Timeline",
      h("div", { class: "tools" },
        h("span", { id: "span", "aria-live": "polite" }),
        button("−", "Zoom out", () => page.timeline.zoomBy(1.7)),
        button("+", "Zoom in", () => page.timeline.zoomBy(0.6)),
        button("All", "Show the whole window", () => page.zoomAll()),
        button("◀", "Failure before", () => page.step(-1)),
        button("▶", "Next failure", () => page.step(1))),
      canvas, tip,
      h("p", { id: "keys", class: "muted" }, "Drag to look closer; all below follows. Keys: + − to zoom, ← → to move, 0 for all, n and p for the next failure and the one before. Hatched: not recorded; amber: lost.")),
    ...[momentsSection(page), causeSection(report), factsSection(report), deathsSection(page)].filter(Boolean),
    crashes,
    section("processes", "Processes",
      h("div", { class: "tools" }, h("label", {}, onlyFailed, " only what failed, and its parents"), h("span", { id: "tree-count", class: "muted" })),
      treeList),
    ...[hostSection(report), accountingSection(report), evidenceSection(report, files), recordingSection(report)].filter(Boolean),
    section("events", "Events",
      h("div", { class: "tools" }, search, h("span", { id: "shown", "aria-live": "polite" })),
      h("details", { id: "filter" }, h("summary", {}, "Types"), h("div", { id: "types" })),
      h("div", { class: "split" }, list, h("div", { id: "detail", "aria-live": "polite" }))));

  page.list = new List(list, ROW_HEIGHT, (index) => eventRow(page, page.rows[index]), (index) => page.choose(page.rows[index]));
  page.tree = new Tree(page, treeList);
  page.timeline = new Timeline(canvas, tip, page);
  page.follow();
  document.querySelector("#moments .is-trigger")?.scrollIntoView({ block: "center" });
  scrollTo(0, 0);
  addEventListener("hashchange", () => page.follow());
  const view = await crashSection(page);
  if (view) crashes.replaceWith(view);
  document.documentElement.dataset.ready = "yes";
}

main().catch((error) => {
  byId("app").append(h("p", { role: "alert" }, `This page could not be shown: ${error.message}`));
  throw error;
});
