// The events: small columns of all of them, unpacked once; their bodies, unpacked where they are looked at.

const KINDS = {
  "signal.fatal": { lane: "failures", shape: "circle", color: "--red" },
  "oom.kill": { lane: "failures", shape: "diamond", color: "--orange" },
  "io.error": { lane: "failures", shape: "square", color: "--violet" },
  "fs.writeback_error": { lane: "failures", shape: "square", color: "--pink" },
  "fs.error": { lane: "failures", shape: "square", color: "--pink" },
  "task.hung": { lane: "failures", shape: "triangle", color: "--brown" },
  "hw.memory_failure": { lane: "failures", shape: "diamond", color: "--brown" },
  "hw.machine_check": { lane: "failures", shape: "diamond", color: "--brown" },
  "process.exec": { lane: "processes" },
  "process.exit": { lane: "processes" },
  "kernel.log": { lane: "messages", color: "--muted" },
  "recorder.loss": { lane: "messages", color: "--amber" },
};

/** Returns how a type is drawn; a type that this page does not know is a message, but for the kernel's own failures. */
function look(type) {
  if (KINDS[type]) return KINDS[type];
  if (/^(hw|kernel|fs)\./.test(type)) return { lane: "failures", shape: "triangle", color: "--brown" };
  if (type.startsWith("sample.")) return { lane: "host" };
  return { lane: "messages", color: "--blue" };
}

/** Unpacks a block of the page: base64 of deflated JSON. */
async function unpack(base64) {
  const raw = atob(base64.trim());
  const packed = new Uint8Array(raw.length);
  for (let at = 0; at < raw.length; at += 1) packed[at] = raw.charCodeAt(at);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return JSON.parse(await new Response(stream).text());
}

class Events {
  constructor(total) {
    this.count = 0;
    this.time = new Float64Array(total);
    this.type = new Uint8Array(total);
    this.order = new Uint32Array(total);
    this.cause = new Uint32Array(total);
    this.pid = new Uint32Array(total);
    this.parent = new Uint32Array(total);
    this.start = new Float64Array(total);
    this.failed = new Uint8Array(total);
    this.name = new Array(total);
    this.text = new Array(total);
    this.types = [];
    this.blocks = [];
    this.bodies = new Map();
  }

  /** Takes in the next block of events; its bodies stay packed. */
  async take(block) {
    const columns = await unpack(block.textContent);
    block.textContent = "";
    const first = this.count;
    const types = columns.types.map((type) => {
      const known = this.types.indexOf(type);
      return known >= 0 ? known : this.types.push(type) - 1;
    });
    let [time, order] = [0, 0];
    for (let row = 0; row < columns.type.length; row += 1) {
      const at = first + row;
      time += columns.time[row];
      order += columns.order[row];
      this.time[at] = time;
      this.order[at] = order;
      this.type[at] = types[columns.type[row]];
      this.cause[at] = columns.cause[row];
      this.pid[at] = columns.pid[row];
      this.parent[at] = columns.parent[row];
      this.start[at] = columns.start[row];
      this.failed[at] = columns.failed[row];
      this.name[at] = columns.names[columns.name[row]];
      this.text[at] = columns.text[row];
    }
    this.count = first + columns.type.length;
    this.blocks.push({ first, bodies: block.nextElementSibling });
  }

  typeOf(at) {
    return this.types[this.type[at]];
  }

  /** Returns the position of an event by its order in the dump; -1 if it is not here. */
  find(order) {
    let [low, high] = [0, this.count];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.order[middle] < order) low = middle + 1;
      else high = middle;
    }
    return low < this.count && this.order[low] === order ? low : -1;
  }

  /** Returns the first position whose time is not before `ns`. Events are in the order of time. */
  at(ns) {
    let [low, high] = [0, this.count];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.time[middle] < ns) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Returns the body of an event, as the dump has it. */
  async body(at) {
    let number = this.blocks.length - 1;
    while (this.blocks[number].first > at) number -= 1;
    const block = this.blocks[number];
    if (!this.bodies.has(number)) {
      if (this.bodies.size >= 4) this.bodies.delete(this.bodies.keys().next().value);
      this.bodies.set(number, unpack(block.bodies.textContent));
    }
    return (await this.bodies.get(number))[at - block.first];
  }

  /** Returns the events that have this one behind them. */
  consequences(at) {
    const found = [];
    const order = this.order[at];
    for (let other = 0; other < this.count && found.length < 64; other += 1) {
      if (this.cause[other] === order) found.push(other);
    }
    return found;
  }
}

/** Returns the processes of which the dump saw a start or an end, with their families. */
function processes(events, triggerBoot) {
  const all = new Map();
  const last = new Map();
  for (let at = 0; at < events.count; at += 1) {
    if (events.pid[at] === 0 || events.start[at] === 0) continue;
    const type = events.typeOf(at);
    const [isExec, isExit] = [type === "process.exec", type === "process.exit"];
    const isFailure = look(type).lane === "failures";
    if (!isExec && !isExit && !isFailure) continue;
    const key = `${events.pid[at]} ${events.start[at]}`;
    let one = all.get(key);
    if (!one) {
      const from = triggerBoot === null ? events.time[at] : events.start[at] - triggerBoot;
      one = { pid: events.pid[at], parent: 0, name: "", from, to: null, event: at, failed: false, children: [] };
      all.set(key, one);
    }
    one.parent = events.parent[at] || one.parent;
    // Its last name; the last thread of a process may have one of its own.
    if (!isExit || !one.name) one.name = events.name[at] ?? one.name;
    if (isExit) one.to = events.time[at];
    if (isExit || isFailure || one.to === null) one.event = isFailure || !one.failed ? at : one.event;
    one.failed ||= isFailure || events.failed[at] !== 0;
  }
  // A parent is who had the number when the child began.
  for (const one of all.values()) {
    const same = last.get(one.pid);
    if (same) same.push(one);
    else last.set(one.pid, [one]);
  }
  const roots = [];
  for (const one of all.values()) {
    const parent = (last.get(one.parent) ?? []).find((other) =>
      other !== one && other.from <= one.from && (other.to === null || other.to >= one.from));
    (parent ? parent.children : roots).push(one);
  }
  return roots;
}
