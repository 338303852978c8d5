// A list of any length of which only what is in sight is in the page.

class List {
  /** `draw(index)` makes a row; rows are `height` pixels high. */
  constructor(element, height, draw, onChoose) {
    this.element = element;
    this.height = height;
    this.draw = draw;
    this.length = 0;
    this.chosen = -1;
    this.top = 0;
    this.rows = h("div", { class: "rows" });
    this.space = h("div", { class: "space" });
    element.append(this.space, this.rows);
    element.addEventListener("scroll", () => this.schedule(), { passive: true });
    new ResizeObserver(() => this.schedule()).observe(element);
    element.addEventListener("click", (event) => {
      const row = event.target.closest("[data-index]");
      if (row) onChoose(Number(row.dataset.index));
    });
    element.addEventListener("keydown", (event) => {
      const page = Math.max(1, Math.floor(element.clientHeight / height) - 1);
      const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[event.key];
      if (step === undefined || this.length === 0) return;
      event.preventDefault();
      const index = Math.min(this.length - 1, Math.max(0, this.chosen + step));
      onChoose(index);
    });
  }

  /** Browsers bound how high an element may be: beyond that, a pixel of the scroll bar is several of the list. */
  get scale() {
    return Math.max(1, (this.length * this.height) / 8e6);
  }

  show(length) {
    this.length = length;
    this.space.style.height = `${(length * this.height) / this.scale}px`;
    this.element.setAttribute("aria-rowcount", String(length));
    this.schedule();
  }

  choose(index) {
    this.chosen = index;
    if (index >= 0) {
      const shown = this.element.clientHeight - this.height;
      const first = this.element.scrollTop * this.scale;
      const top = index * this.height;
      if (top < first) this.element.scrollTop = top / this.scale;
      else if (top > first + shown) this.element.scrollTop = (top - shown) / this.scale;
    }
    this.schedule();
  }

  schedule() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.render();
    });
  }

  render() {
    const offset = this.element.scrollTop;
    const first = Math.max(0, Math.min(this.length - 1, Math.floor((offset * this.scale) / this.height)));
    const visibleRows = Math.ceil(this.element.clientHeight / this.height) + 1;
    const rows = [];
    for (let index = first; index < Math.min(this.length, first + visibleRows); index += 1) {
      const row = this.draw(index);
      row.dataset.index = String(index);
      row.id = `${this.element.id}-${index}`;
      row.setAttribute("role", "row");
      row.setAttribute("aria-rowindex", String(index + 1));
      row.setAttribute("aria-selected", String(index === this.chosen));
      rows.push(row);
    }
    const shift = this.scale > 1 ? 0 : (offset % this.height);
    this.rows.style.transform = `translateY(${offset - shift}px)`;
    this.rows.replaceChildren(...rows);
    const active = byId(`${this.element.id}-${this.chosen}`);
    if (active) this.element.setAttribute("aria-activedescendant", active.id);
    else this.element.removeAttribute("aria-activedescendant");
  }
}
