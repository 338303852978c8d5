// What the rest of the page is made with: elements, texts that show and do not act, units.

// As `is_hostile` of the recorder has them: what would act on the text around it instead of showing.
const HOSTILE =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

/** Makes every character of a text visible; `keep` is left as it is. */
function visible(text, keep = "") {
  return String(text).replace(HOSTILE, (one) =>
    keep.includes(one) ? one : `\\u{${one.codePointAt(0).toString(16)}}`);
}

/**
 * Makes an element. Strings among the children become text, never markup; attributes are strings, `on…` are listeners.
 */
function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : visible(value));
  }
  for (const child of children.flat(3)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : visible(child));
  }
  return element;
}

const byId = (id) => document.getElementById(id);

/** Writes nanoseconds from the trigger as seconds: "-1.250000". */
function seconds(ns, digits = 6) {
  const text = (Math.abs(ns) / 1e9).toFixed(digits);
  return (ns < 0 ? "-" : "+") + text;
}

function duration(ns) {
  if (ns < 1e3) return `${ns} ns`;
  if (ns < 1e6) return `${(ns / 1e3).toPrecision(3)} µs`;
  if (ns < 1e9) return `${(ns / 1e6).toPrecision(3)} ms`;
  if (ns < 60e9) return `${(ns / 1e9).toPrecision(3)} s`;
  const all = Math.round(ns / 1e9);
  const [hours, minutes, rest] = [Math.floor(all / 3600), Math.floor(all / 60) % 60, all % 60];
  return hours > 0 ? `${hours} h ${minutes} min` : `${minutes} min ${rest} s`;
}

function bytes(count) {
  let value = count;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (Math.abs(value) < 1024) return `${unit === "B" ? value : value.toPrecision(3)} ${unit}`;
    value /= 1024;
  }
  return `${value.toPrecision(4)} TiB`;
}

/** Writes a value of a series in its unit. */
function quantity(value, unit) {
  if (value === undefined || value === null) return "—";
  switch (unit) {
    case "percent": return `${value.toFixed(1)} %`;
    case "bytes": return bytes(Math.round(value));
    case "bytes_per_second": return `${bytes(Math.round(value))}/s`;
    case "per_second": return `${value.toFixed(0)}/s`;
    default: return value.toFixed(value < 10 ? 2 : 0);
  }
}

const count = (number) => number.toLocaleString("en").replaceAll(",", "\u202f");
const plural = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;

/** Makes a table; a head that ends with ":" is of numbers, one with "." of short words. Cells are strings or nodes. */
function table(caption, heads, rows) {
  const classes = heads.map((head) => ({ ":": "number", ".": "short" })[head.at(-1)]);
  const cell = (tag) => (value, column) =>
    h(tag, { class: classes[column], scope: tag === "th" ? "col" : null }, value);
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {},
      h("thead", {}, h("tr", {}, heads.map((head) => head.replace(/[:.]$/, "")).map(cell("th")))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map(cell("td")))))));
}
