"use strict";
/* The trade-off plot of a board: any two columns against each other, with intervals, Pareto front, hover and brush. */

class Plot {
  /* `board` answers: columns, points(x, y), and select(variants or null). */
  constructor(root, board) {
    this.root = root;
    this.board = board;
    const option = (column, chosen) => make("option", { value: column.key, selected: column.key === chosen }, column.label);
    const choices = board.columns.filter(column => ["accuracy", "points", "amount"].includes(column.kind));
    const axis = (label, chosen) => make("select", { "aria-label": label }, ...choices.map(column => option(column, chosen)));
    this.x = axis("Horizontal axis", "clean");
    this.y = axis("Vertical axis", choices.some(column => column.key === "autoattack") ? "autoattack" : choices[1].key);
    this.whole = make("input", { type: "checkbox" });
    this.clear = make("button", { type: "button", class: "quiet", hidden: true }, "Clear selection");
    this.canvas = make("svg", { class: "canvas", role: "group" });
    this.tip = make("div", { class: "tip", role: "status", hidden: true });
    this.frame = make("div", { class: "plot-frame" }, this.canvas, this.tip);
    root.append(
      make("div", { class: "tools" },
        make("label", {}, "Horizontal ", this.x), make("label", {}, "Vertical ", this.y),
        make("label", {}, this.whole, " whole range"), this.clear),
      this.frame,
      make("p", { class: "soft" }, "Hover or focus a point for its numbers, select it for the method's card, drag a box to narrow the table. " +
        "Bars: ± sd over seeds, or Wilson 95 % of a single seed. Grey line: no other sound method is better in both. Hollow: in doubt. Dashed: best to last."));
    root.hidden = false;
    for (const input of [this.x, this.y, this.whole]) input.addEventListener("change", () => this.draw());
    this.clear.addEventListener("click", () => board.select(null));
    this.canvas.addEventListener("pointerdown", event => this.brush(event));
    new ResizeObserver(() => { if (Math.abs(this.frame.clientWidth - this.width) > 2) this.draw(); }).observe(this.frame);
    document.addEventListener("keydown", event => { if (event.key === "Escape") this.hide(); });
    this.draw();
  }

  column(select) { return this.board.columns.find(column => column.key === select.value); }

  draw() {
    const [horizontal, vertical] = [this.column(this.x), this.column(this.y)];
    this.hide();
    this.width = this.frame.clientWidth || 640;
    const inner = this.width - 14;
    this.size = { w: inner, h: Math.round(Math.min(520, Math.max(300, inner * 0.52))), left: 52, right: 14, top: 16, bottom: 46 };
    this.canvas.setAttribute("viewBox", `0 0 ${this.size.w} ${this.size.h}`);
    this.canvas.setAttribute("aria-label", `${vertical.label} against ${horizontal.label}`);
    const all = this.board.points(horizontal.key, vertical.key);
    const robust = all.filter(point => point.robust).map(point => point.y);
    const floor = robust.length && vertical.kind === "accuracy" ? Math.min(...robust) / 2 : -Infinity;
    const below = this.whole.checked ? [] : all.filter(point => !point.robust && point.y < floor);
    this.points = all.filter(point => !below.includes(point));
    if (!this.points.length) {
      this.canvas.replaceChildren(make("text", { class: "title", x: 20, y: 30 }, all.length ? "Only methods without robustness are shown; tick “whole range”." : "No method that is shown has both columns."));
      return;
    }
    this.scale = { x: this.range("x", horizontal), y: this.range("y", vertical, below.length ? 0.08 : 0) };
    const parts = [...this.axes(horizontal, vertical), this.front(horizontal, vertical)];
    for (const point of this.points) parts.push(this.mark(point));
    const taken = [];
    if (below.length) {
      const names = below.map(point => `${point.label} (${minus(point.x.toFixed(1))}, ${minus(point.y.toFixed(1))})`).join("; ");
      const [x, y] = [this.size.left + 6, this.size.h - this.size.bottom - 8];
      taken.push([x, y - 12, this.size.w, y + 4]);
      parts.push(make("text", { class: "label", x, y }, `↓ below: ${names}`));
    }
    parts.push(...this.labels(taken));
    this.canvas.replaceChildren(...parts.filter(Boolean));
  }

  /* `margin` is the share of the range that is kept free at its lower end. */
  range(which, column, margin = 0) {
    const values = this.points.flatMap(point => [point[which] - point.spread[which][0], point[which] + point.spread[which][1], ...(point.to ? [point.to[which]] : [])]);
    let [low, high] = [Math.min(...values), Math.max(...values)];
    const room = (high - low) * 0.09 || Math.max(Math.abs(high) * 0.1, 0.5);
    [low, high] = [low - room - margin * (high - low), high + room];
    if (column.kind === "accuracy") [low, high] = [Math.max(low, -1.5), Math.min(high, 101.5)];
    if (column.kind === "amount") low = Math.max(low, 0);
    const { w, h, left, right, top, bottom } = this.size;
    const [from, to] = which === "x" ? [left, w - right] : [h - bottom, top];
    const place = value => from + (value - low) / (high - low) * (to - from);
    return { low, high, place };
  }

  ticks({ low, high }, about) {
    const rough = (high - low) / about, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map(times => times * power).find(one => one >= rough);
    const found = [];
    for (let k = Math.ceil(low / step); k * step <= high; k++) found.push(Number((k * step).toPrecision(12)));
    return found;
  }

  axes(horizontal, vertical) {
    const { w, h, left, right, top, bottom } = this.size, parts = [];
    for (const value of this.ticks(this.scale.x, w / 90)) {
      const x = this.scale.x.place(value);
      parts.push(make("line", { class: "grid", x1: x, x2: x, y1: top, y2: h - bottom }), make("text", { x, y: h - bottom + 17, "text-anchor": "middle" }, minus(value)));
    }
    for (const value of this.ticks(this.scale.y, h / 60)) {
      const y = this.scale.y.place(value);
      parts.push(make("line", { class: "grid", x1: left, x2: w - right, y1: y, y2: y }), make("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, minus(value)));
    }
    const name = column => column.label + (column.unit ? ` (${column.unit})` : "");
    parts.push(
      make("line", { class: "axis", x1: left, x2: w - right, y1: h - bottom, y2: h - bottom }),
      make("line", { class: "axis", x1: left, x2: left, y1: top, y2: h - bottom }),
      make("text", { class: "title", x: (left + w - right) / 2, y: h - 8, "text-anchor": "middle" }, name(horizontal)),
      make("text", { class: "title", transform: `translate(14 ${(top + h - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, name(vertical)));
    return parts;
  }

  front(horizontal, vertical) {
    const sign = column => ["amount", "points"].includes(column.kind) ? -1 : 1;
    const [sx, sy] = [sign(horizontal), sign(vertical)];
    const sound = this.points.filter(point => point.sound).sort((a, b) => sx * (b.x - a.x) || sy * (b.y - a.y));
    const front = [];
    for (const point of sound) if (!front.length || sy * point.y > sy * front[front.length - 1].y) front.push(point);
    if (!front.length) return null;
    const { w, h, left, right, top, bottom } = this.size, at = point => [this.scale.x.place(point.x), this.scale.y.place(point.y)];
    const [endX, endY] = [sx > 0 ? left : w - right, sy > 0 ? h - bottom : top];
    let d = `M${at(front[0])[0]} ${endY}`;
    front.forEach((point, index) => { const [x, y] = at(point); d += `V${y}`; d += `H${index + 1 < front.length ? at(front[index + 1])[0] : endX}`; });
    return make("path", { class: "front", d });
  }

  mark(point) {
    const [x, y] = [this.scale.x.place(point.x), this.scale.y.place(point.y)];
    point.at = [x, y];
    const whisker = (x1, x2, y1, y2) => make("line", { class: "whisker", x1, x2, y1, y2 });
    const { x: [left, right], y: [below, above] } = point.spread;
    const parts = [];
    if (left || right) parts.push(whisker(this.scale.x.place(point.x - left), this.scale.x.place(point.x + right), y, y));
    if (below || above) parts.push(whisker(x, x, this.scale.y.place(point.y - below), this.scale.y.place(point.y + above)));
    if (point.to) {
      const [tx, ty] = [this.scale.x.place(point.to.x), this.scale.y.place(point.to.y)];
      parts.push(make("path", { class: "move", d: `M${x} ${y}L${tx} ${ty}` }), make("path", { class: "dot", d: "M-2.5 0a2.5 2.5 0 1 0 5 0a2.5 2.5 0 1 0-5 0", transform: `translate(${tx} ${ty})` }));
    }
    const link = make("a:svg", {
      href: point.page, class: `f${point.marker}${point.sound ? "" : " hollow"}${point.faint ? " faint" : ""}`, "data-variant": point.variant,
      "aria-label": `${point.label}, ${point.checkpoint}: ${point.xName} ${point.xText}, ${point.yName} ${point.yText}`,
      onpointerenter: () => this.show(point), onpointerleave: () => this.hide(), onfocus: () => this.show(point), onblur: () => this.hide(),
      ondragstart: event => event.preventDefault(),
    }, ...parts, make("path", { class: "dot", d: this.board.markers[point.marker], transform: `translate(${x} ${y})` }),
    make("path", { class: "hit", d: "M-13 0a13 13 0 1 0 26 0a13 13 0 1 0-26 0", transform: `translate(${x} ${y})` }));
    return link;
  }

  /* Put each name beside its point where it covers nothing; a name without room is left to the hover. */
  labels(occupied) {
    const taken = [...occupied, ...this.points.map(({ at: [x, y] }) => [x - 8, y - 8, x + 8, y + 8])], parts = [];
    const { w, h, left, right, top, bottom } = this.size;
    for (const point of [...this.points].sort((a, b) => a.rank - b.rank)) {
      const [x, y] = point.at, width = point.label.length * 6.7 + 2;
      for (const [dx, dy, anchor] of [[11, 4, "start"], [-11, 4, "end"], [0, -12, "middle"], [0, 21, "middle"], [10, -9, "start"], [10, 17, "start"], [-10, -9, "end"], [-10, 17, "end"]]) {
        const from = anchor === "start" ? x + dx : anchor === "end" ? x + dx - width : x + dx - width / 2;
        const box = [from, y + dy - 11, from + width, y + dy + 3];
        if (box[0] < left || box[2] > w - right || box[1] < top || box[3] > h - bottom) continue;
        if (taken.some(other => box[0] < other[2] && box[2] > other[0] && box[1] < other[3] && box[3] > other[1])) continue;
        taken.push(box);
        parts.push(make("text", { class: `label${point.faint ? " faint" : ""}`, x: x + dx, y: y + dy, "text-anchor": anchor }, point.label));
        break;
      }
    }
    return parts;
  }

  show(point) {
    const line = (name, text) => make("tr", {}, make("td", {}, name), make("td", {}, text));
    this.tip.replaceChildren(make("strong", {}, point.label), make("table", {}, make("tbody", {}, line("checkpoint", point.checkpoint), line(point.xName, point.xText), line(point.yName, point.yText), line("rank", point.rankText))));
    this.tip.hidden = false;
    const factor = this.canvas.clientWidth / this.size.w || 1;
    const [x, y] = point.at.map(value => value * factor), wide = this.tip.offsetWidth, high = this.tip.offsetHeight;
    this.tip.style.left = `${Math.max(4, x + 18 + wide > this.frame.clientWidth ? x - wide - 8 : x + 20)}px`;
    this.tip.style.top = `${Math.max(4, Math.min(y - high / 2, this.frame.clientHeight - high - 4))}px`;
  }

  hide() { this.tip.hidden = true; }

  brush(event) {
    if (event.button !== 0 || event.target.closest("a") || !this.scale) return;
    const bounds = this.canvas.getBoundingClientRect(), factor = this.size.w / bounds.width;
    const where = one => [(one.clientX - bounds.left) * factor, (one.clientY - bounds.top) * factor];
    const [x0, y0] = where(event), box = make("rect", { class: "brush" });
    let area = null;
    const move = one => {
      const [x, y] = where(one);
      area = [Math.min(x, x0), Math.min(y, y0), Math.max(x, x0), Math.max(y, y0)];
      for (const [key, value] of Object.entries({ x: area[0], y: area[1], width: area[2] - area[0], height: area[3] - area[1] })) box.setAttribute(key, value);
      if (!box.parentNode) this.canvas.append(box);
    };
    const stop = finished => {
      this.canvas.removeEventListener("pointermove", move);
      this.canvas.removeEventListener("pointerup", up);
      this.canvas.removeEventListener("pointercancel", cancel);
      box.remove();
      if (!finished) return;
      const small = !area || (area[2] - area[0] < 5 && area[3] - area[1] < 5);
      const inside = small ? [] : this.points.filter(({ at: [x, y] }) => x >= area[0] && x <= area[2] && y >= area[1] && y <= area[3]);
      this.board.select(inside.length ? new Set(inside.map(point => point.variant)) : null);
    };
    const up = () => stop(true), cancel = () => stop(false);
    this.canvas.setPointerCapture(event.pointerId);
    this.canvas.addEventListener("pointermove", move);
    this.canvas.addEventListener("pointerup", up);
    this.canvas.addEventListener("pointercancel", cancel);
  }
}
