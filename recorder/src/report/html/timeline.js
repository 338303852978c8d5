// The window on one axis: what failed, what came and went, what was said, what the host was like, what was not seen.

const LANES = [
  { name: "failures", label: "Failures", height: 76 },
  { name: "processes", label: "Processes: started, ended", height: 58 },
  { name: "messages", label: "Kernel log and notes", height: 26 },
];
const CHARTS = [
  { label: "CPU", unit: "percent", series: [["CPU busy", "--blue"], ["CPU waiting for I/O", "--orange"], ["CPU taken by the hypervisor", "--red"]] },
  { label: "Memory available", unit: "bytes", series: [["memory available", "--teal"]] },
  { label: "Pressure: CPU, memory, I/O", unit: "percent", series: [["CPU pressure, some", "--blue"], ["memory pressure, some", "--teal"], ["I/O pressure, some", "--orange"]] },
  { label: "Disks", unit: "bytes_per_second", series: [["disks, read and written", "--violet"]] },
  { label: "Network", unit: "bytes_per_second", series: [["network, received and sent", "--pink"]] },
];
const CHART_HEIGHT = 46;
const AXIS_HEIGHT = 24;

class Timeline {
  constructor(canvas, tip, page) {
    this.canvas = canvas;
    this.tip = tip;
    this.page = page;
    this.matches = null;
    const has = (chart) => chart.series.some(([name]) => page.series.has(name));
    this.charts = CHARTS.filter(has);
    this.height = AXIS_HEIGHT + LANES.reduce((sum, lane) => sum + lane.height, 0) + this.charts.length * CHART_HEIGHT;
    canvas.style.height = `${this.height}px`;
    new ResizeObserver(() => this.schedule()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.schedule());
    this.listen();
  }

  schedule() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      const began = performance.now();
      this.draw();
      this.page.drawn(performance.now() - began);
    });
  }

  get width() {
    return this.canvas.clientWidth;
  }

  x(ns) {
    const { from, to } = this.page.view;
    return ((ns - from) / (to - from)) * this.width;
  }

  ns(x) {
    const { from, to } = this.page.view;
    return from + (x / this.width) * (to - from);
  }

  color(name) {
    return this.style.getPropertyValue(name).trim();
  }

  draw() {
    const { canvas, page, width } = this;
    const ratio = devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(this.height * ratio);
    this.style = getComputedStyle(canvas);
    const context = canvas.getContext("2d");
    this.context = context;
    context.scale(ratio, ratio);
    context.font = `11px ${this.style.fontFamily}`;
    context.textBaseline = "middle";
    this.axis();
    let top = AXIS_HEIGHT;
    this.tops = {};
    for (const lane of LANES) {
      this.tops[lane.name] = top;
      this.rule(top, lane.label);
      this.unseen(lane.name === "failures" ? "failure" : lane.name === "processes" ? "lifecycle" : "sample", top, lane.height);
      top += lane.height;
    }
    const { first, last } = page.range();
    this.marks(first, last);
    for (const chart of this.charts) {
      this.rule(top, chart.label);
      this.unseen("sample", top, CHART_HEIGHT);
      this.chart(chart, top);
      top += CHART_HEIGHT;
    }
    this.line(0, "--red", [4, 3]);
    if (page.chosen >= 0) this.line(page.events.time[page.chosen], "--text", []);
    if (this.brush) {
      const [a, b] = this.brush;
      context.globalAlpha = 0.18;
      context.fillStyle = this.color("--blue");
      context.fillRect(Math.min(a, b), 0, Math.abs(b - a), this.height);
      context.globalAlpha = 1;
    }
  }

  rule(top, label) {
    const { context } = this;
    context.fillStyle = this.color("--line");
    context.fillRect(0, top, this.width, 1);
    context.fillStyle = this.color("--muted");
    context.textAlign = "left";
    context.fillText(label, 6, top + 10);
  }

  line(ns, color, dash) {
    const at = this.x(ns);
    if (at < 0 || at > this.width) return;
    const { context } = this;
    context.strokeStyle = this.color(color);
    context.setLineDash(dash);
    context.beginPath();
    context.moveTo(at, AXIS_HEIGHT - 6);
    context.lineTo(at, this.height);
    context.stroke();
    context.setLineDash([]);
  }

  axis() {
    const { from, to } = this.page.view;
    const { context } = this;
    const wish = (to - from) / Math.max(2, this.width / 110);
    const power = 10 ** Math.floor(Math.log10(wish));
    const step = [1, 2, 5, 10].map((times) => times * power).find((one) => one >= wish);
    const digits = Math.max(0, Math.min(9, 9 - Math.floor(Math.log10(step))));
    context.fillStyle = this.color("--muted");
    context.textAlign = "center";
    for (let tick = Math.ceil(from / step) * step; tick <= to; tick += step) {
      const at = this.x(tick);
      context.fillRect(at, AXIS_HEIGHT - 5, 1, 5);
      const text = Math.abs(tick) < step / 2 ? "trigger" : `${seconds(tick, digits)} s`;
      if (at > 24 && at < this.width - 30) context.fillText(text, at, 9);
    }
  }

  /** Hatches what a lane did not record, and where records were lost. */
  unseen(lane, top, height) {
    const { context } = this;
    for (const gap of this.page.gaps) {
      if (gap.lane !== lane) continue;
      const [from, to] = [Math.max(0, this.x(gap.from)), Math.min(this.width, this.x(gap.to))];
      if (to < 0 || from > this.width || to < from) continue;
      context.save();
      context.beginPath();
      context.rect(from, top + 1, Math.max(2, to - from), height - 1);
      context.clip();
      context.strokeStyle = this.color(gap.isLoss ? "--amber" : "--hatch");
      context.beginPath();
      for (let at = Math.floor((from - height) / 7) * 7; at < Math.max(to, from + 2); at += 7) {
        context.moveTo(at, top + height);
        context.lineTo(at + height, top);
      }
      context.stroke();
      context.restore();
    }
  }

  marks(first, last) {
    const { context, page, width } = this;
    const { events } = page;
    const bins = Math.max(1, Math.floor(width / 3));
    const [started, ended] = [new Uint32Array(bins), new Uint32Array(bins)];
    const scale = bins / (page.view.to - page.view.from);
    const messages = new Map();
    const failures = [];
    const lanes = events.types.map((type) => ({ type, ...look(type) }));
    for (let at = first; at < last; at += 1) {
      const kind = lanes[events.type[at]];
      if (kind.lane === "processes") {
        if (page.isHidden(at)) continue;
        const bin = Math.min(bins - 1, Math.floor((events.time[at] - page.view.from) * scale));
        if (kind.type === "process.exec") started[bin] += 1;
        else ended[bin] += 1;
      } else if (kind.lane === "failures") {
        if (!page.isHidden(at)) failures.push(at);
      } else if (kind.lane === "messages" && !page.isHidden(at)) {
        messages.set(Math.round(this.x(events.time[at])), kind.color);
      }
    }
    const middle = this.tops.processes + 36;
    const highest = Math.max(started.reduce((a, b) => Math.max(a, b), 1), ended.reduce((a, b) => Math.max(a, b), 1));
    for (let bin = 0; bin < bins; bin += 1) {
      const bar = (number, color, sign) => {
        if (number === 0) return;
        const size = Math.max(1.5, (18 * number) / highest);
        context.fillStyle = this.color(color);
        context.fillRect((bin * width) / bins, sign > 0 ? middle - size : middle + 1, Math.max(1, width / bins - 1), size);
      };
      bar(started[bin], "--blue", 1);
      bar(ended[bin], "--teal", -1);
    }
    context.fillStyle = this.color("--muted");
    context.textAlign = "right";
    if (highest > 1) context.fillText(`${count(highest)} at most`, width - 6, this.tops.processes + 10);
    for (const [at, color] of messages) {
      context.fillStyle = this.color(color);
      context.fillRect(at, this.tops.messages + 15, 1.5, 9);
    }
    this.failures(failures);
  }

  failures(list) {
    const { context, page } = this;
    const { events } = page;
    const y = this.tops.failures + 60;
    this.places = [];
    // A thousand marks on one pixel are one mark: the last, with its number.
    const cells = new Map();
    for (const at of list) {
      const cell = Math.round(this.x(events.time[at]) / 4);
      const there = cells.get(cell);
      const isTrigger = at === page.trigger;
      if (there) {
        there.number += 1;
        if (isTrigger || there.at !== page.trigger) there.at = at;
      } else cells.set(cell, { at, number: 1 });
    }
    context.lineWidth = 1.2;
    let arcs = 0;
    for (const { at } of cells.values()) {
      const behind = events.cause[at] ? events.find(events.cause[at]) : -1;
      if (behind >= 0 && arcs < 200) {
        arcs += 1;
        const [a, b] = [this.x(events.time[behind]), this.x(events.time[at])];
        context.strokeStyle = this.color("--muted");
        context.beginPath();
        context.moveTo(a, y);
        context.quadraticCurveTo((a + b) / 2, y - 40, b, y);
        context.stroke();
      }
    }
    // A label where none is yet, the trigger's first.
    const labels = [];
    const label = (at) => {
      const x = this.x(events.time[at]);
      const isRight = x > this.width / 2;
      const room = (isRight ? x : this.width - x) - 13;
      let text = visible(events.text[at]);
      let length = Math.min(text.length, 64);
      const cut = () => (length < text.length ? `${text.slice(0, length)}…` : text);
      while (length > 8 && context.measureText(cut()).width > room) length -= 1;
      text = cut();
      const size = context.measureText(text).width;
      if (size > room) return;
      const [from, to] = isRight ? [x - 11 - size, x - 11] : [x + 11, x + 11 + size];
      const row = [0, 1].find((row) => labels.every((other) => other.row !== row || other.to < from || other.from > to));
      if (row === undefined) return;
      labels.push({ from, to, row });
      context.fillStyle = this.color("--text");
      context.textAlign = "left";
      context.fillText(text, from, y - 15 - 13 * row);
    };
    const alone = [...cells.values()].filter(({ number }) => number === 1).map(({ at }) => at);
    alone.sort((a, b) => Number(b === page.trigger) - Number(a === page.trigger));
    alone.slice(0, 12).forEach(label);
    for (const { at, number } of cells.values()) {
      const kind = look(events.typeOf(at));
      const x = this.x(events.time[at]);
      const size = at === page.trigger ? 7 : 5;
      context.fillStyle = this.color(kind.color ?? "--red");
      context.beginPath();
      if (kind.shape === "square") context.rect(x - size, y - size, 2 * size, 2 * size);
      else if (kind.shape === "diamond") this.polygon([[x, y - size - 2], [x + size + 2, y], [x, y + size + 2], [x - size - 2, y]]);
      else if (kind.shape === "triangle") this.polygon([[x, y - size], [x + size, y + size], [x - size, y + size]]);
      else context.arc(x, y, size, 0, 7);
      context.fill();
      this.places.push({ x, y, at });
      if (number > 1) {
        context.fillStyle = this.color("--text");
        context.textAlign = "center";
        context.fillText(count(number), x, y + 13);
      }
    }
    context.lineWidth = 1;
    // Exits have their reasons above them.
    this.causesOfExits();
  }

  causesOfExits() {
    const { context, page } = this;
    const { events } = page;
    const { first, last } = page.range();
    if (last - first > 20000) return;
    context.strokeStyle = this.color("--muted");
    let arcs = 0;
    for (let at = first; at < last && arcs < 100; at += 1) {
      if (events.cause[at] === 0 || look(events.typeOf(at)).lane !== "processes") continue;
      const behind = events.find(events.cause[at]);
      if (behind < 0) continue;
      arcs += 1;
      context.beginPath();
      context.moveTo(this.x(events.time[behind]), this.tops.failures + 66);
      context.lineTo(this.x(events.time[at]), this.tops.processes + 36);
      context.stroke();
    }
  }

  polygon(points) {
    const { context } = this;
    points.forEach(([x, y], index) => (index === 0 ? context.moveTo(x, y) : context.lineTo(x, y)));
    context.closePath();
  }

  chart(chart, top) {
    const { context, page, width } = this;
    let highest = chart.unit === "percent" ? 100 : 0;
    for (const [name] of chart.series) highest = Math.max(highest, page.series.get(name)?.highest ?? 0);
    if (highest === 0) highest = 1;
    const bottom = top + CHART_HEIGHT - 3;
    const y = (value) => bottom - (value / highest) * (CHART_HEIGHT - 20);
    chart.series.forEach(([name, color], index) => {
      const series = page.series.get(name);
      if (!series) return;
      context.strokeStyle = this.color(color);
      context.lineWidth = 1.5;
      context.beginPath();
      series.points.forEach(([at, value], point) => {
        if (point === 0) context.moveTo(this.x(at), y(value));
        else context.lineTo(this.x(at), y(value));
      });
      context.stroke();
      if (index === 0 && series.points.length > 1) {
        context.lineTo(this.x(series.points.at(-1)[0]), bottom);
        context.lineTo(this.x(series.points[0][0]), bottom);
        context.globalAlpha = 0.12;
        context.fillStyle = this.color(color);
        context.fill();
        context.globalAlpha = 1;
      }
      context.lineWidth = 1;
    });
    context.fillStyle = this.color("--muted");
    context.textAlign = "right";
    context.fillText(quantity(highest, chart.unit), width - 6, top + 10);
  }

  // What a hand does: drag to look closer, wheel to zoom, click for the nearest failure; keys do the same.
  listen() {
    const { canvas, page } = this;
    const position = (event) => event.clientX - canvas.getBoundingClientRect().left;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      this.brush = [position(event), position(event)];
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      this.point(position(event), event.clientY - canvas.getBoundingClientRect().top);
      if (!this.brush) return;
      this.brush[1] = position(event);
      this.schedule();
    });
    canvas.addEventListener("pointerleave", () => (this.tip.textContent = ""));
    canvas.addEventListener("pointercancel", () => {
      this.brush = null;
      this.schedule();
    });
    canvas.addEventListener("pointerup", (event) => {
      if (!this.brush) return;
      const [a, b] = this.brush;
      this.brush = null;
      if (Math.abs(a - b) > 4) page.zoom(this.ns(Math.min(a, b)), this.ns(Math.max(a, b)));
      else page.choose(this.nearest(b, event.clientY - canvas.getBoundingClientRect().top));
      this.schedule();
    });
    canvas.addEventListener("dblclick", () => page.zoomAll());
    canvas.addEventListener("wheel", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) {
        event.preventDefault();
        this.zoomBy(event.deltaY > 0 ? 1.25 : 0.8, this.ns(position(event)));
      }
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const { from, to } = page.view;
      const span = to - from;
      const actions = {
        "+": () => this.zoomBy(0.6), "=": () => this.zoomBy(0.6), "-": () => this.zoomBy(1.7),
        0: () => page.zoomAll(),
        ArrowLeft: () => page.zoom(from - span / 5, to - span / 5),
        ArrowRight: () => page.zoom(from + span / 5, to + span / 5),
        n: () => page.step(1), p: () => page.step(-1),
      };
      const action = actions[event.key];
      if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      action();
    });
  }

  zoomBy(factor, around) {
    const { from, to } = this.page.view;
    const center = around ?? (this.page.chosen >= 0 ? this.page.events.time[this.page.chosen] : (from + to) / 2);
    const inside = Math.min(to, Math.max(from, center));
    this.page.zoom(inside - (inside - from) * factor, inside + (to - inside) * factor);
  }

  /** Returns the failure under the pointer, else the event that is nearest in time. */
  nearest(x, y) {
    const near = (this.places ?? [])
      .map((place) => ({ ...place, distance: Math.hypot(place.x - x, place.y - y) }))
      .sort((a, b) => a.distance - b.distance)[0];
    if (near && near.distance < 14) return near.at;
    const { events } = this.page;
    const ns = this.ns(x);
    const after = events.at(ns);
    if (after === 0) return events.count > 0 ? 0 : -1;
    if (after >= events.count) return events.count - 1;
    return ns - events.time[after - 1] < events.time[after] - ns ? after - 1 : after;
  }

  point(x, y) {
    const near = (this.places ?? []).find((place) => Math.hypot(place.x - x, place.y - y) < 12);
    const ns = this.ns(x);
    const values = this.charts.flatMap((chart) => chart.series.map(([name]) => {
      const series = this.page.series.get(name);
      const at = series?.points.findLast(([time]) => time <= ns);
      return at ? `${name} ${quantity(at[1], series.unit)}` : null;
    })).filter(Boolean).slice(0, 6);
    const what = near ? this.page.events.text[near.at] : values.join(" · ");
    this.tip.textContent = visible(`${seconds(ns, 3)} s  ${what}`);
  }
}
