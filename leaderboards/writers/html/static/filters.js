"use strict";
/* What of a board is shown: text, family, checkpoint, division, flags, days, a box drawn in the plot; groups of columns. */

class Filters {
  /* `page` is the element of the board; `rows` are its rows; `changed` is called after every change. */
  constructor(page, rows, markers, changed) {
    this.at = name => document.getElementById(name + page.dataset.suffix);
    Object.assign(this, { table: this.at("board"), rows, changed });
    this.state = { text: "", checkpoint: "both", division: "all", flags: "", since: "", until: "", hidden: new Set(), chosen: null };
    this.heads = [...this.table.tHead.rows[0].cells];
    this.parts = [...page.querySelectorAll(".published")];
    this.quoted = [...page.querySelectorAll(".published tbody tr")];
    this.tools = this.at("tools");
    this.more = this.at("more");
    this.tools.hidden = this.more.hidden = false;
    const listen = (id, key, kind = "input") => this.at(id).addEventListener(kind, event => this.set(key, event.target.value.trim().toLowerCase()));
    listen("find", "text");
    listen("flags", "flags", "change");
    for (const day of ["since", "until"]) listen(day, day);
    for (const name of ["checkpoint", "division"]) {
      for (const input of page.querySelectorAll(`[name=${name}${page.dataset.suffix}]`)) input.addEventListener("change", () => this.set(name, input.value));
    }
    this.at("reset").addEventListener("click", () => this.reset());
    this.families(markers);
    this.suffix = page.dataset.suffix;
    this.columns();
    this.table.addEventListener("sorted", () => this.write());
    this.at("save").addEventListener("click", () => this.save());
    if (this.read()) return;
    if (window.matchMedia("(max-width: 46rem)").matches && rows.some(row => row.checkpoint === "best")) {
      this.state.checkpoint = "best";
      this.tools.querySelector("[value=best]").checked = true;
    }
  }

  set(key, value) {
    this.state[key] = value;
    this.apply();
    this.write();
  }

  /* Keys of the state that the address holds as they are; families, columns and the order are read and written apart. */
  static PLAIN = { text: "", checkpoint: "both", division: "all", flags: "", since: "", until: "" };

  /* Take the state from the address; return whether it says which checkpoint is shown. */
  read() {
    const given = key => address.get(key + this.suffix), list = key => (given(key) || "").split(",").filter(Boolean);
    for (const key of Object.keys(Filters.PLAIN)) if (given(key)) this.state[key] = given(key);
    for (const [id, key] of [["find", "text"], ["flags", "flags"], ["since", "since"], ["until", "until"]]) this.at(id).value = this.state[key];
    for (const key of ["checkpoint", "division"]) {
      const input = document.querySelector(`[name=${key}${this.suffix}][value="${CSS.escape(this.state[key])}"]`);
      if (input) input.checked = true;
      else this.state[key] = Filters.PLAIN[key];
    }
    for (const chip of this.at("families").querySelectorAll("button")) {
      if (!list("without").includes(chip.textContent)) continue;
      this.state.hidden.add(chip.textContent);
      chip.setAttribute("aria-pressed", "false");
    }
    for (const input of this.groups()) {
      if (given("columns") === null) break;
      input.checked = list("columns").includes(input.value);
      this.chosenColumns = true;
      this.showGroup(input);
    }
    const [key, direction] = (given("sort") || "").split(":");
    const head = this.heads.find(one => one.dataset.key === key && one.dataset.first);
    if (head) sortBy(this.table, head, direction === "asc" ? "ascending" : "descending");
    return Boolean(given("checkpoint"));
  }

  write() {
    const values = {}, plain = Filters.PLAIN;
    for (const key of Object.keys(plain)) values[key + this.suffix] = this.state[key] === plain[key] ? "" : this.state[key];
    values["without" + this.suffix] = [...this.state.hidden].join(",");
    const head = this.table.tHead.querySelector("[aria-sort]");
    values["sort" + this.suffix] = head ? `${head.dataset.key}:${head.getAttribute("aria-sort") === "ascending" ? "asc" : "desc"}` : "";
    const shown = this.groups().filter(input => input.checked).map(input => input.value).join(",");
    if (this.chosenColumns) values["columns" + this.suffix] = shown || "core";
    address.set(values);
  }

  groups() { return [...this.tools.querySelectorAll("[type=checkbox]")]; }

  /* Save the rows and columns that are shown, as they are shown, as CSV. */
  save() {
    const field = text => {
      const plain = text.trim().replace(/\s+/g, " ").replace(/^−(?=\d)/, "-");
      const quoted = /^[=+@\t]|^-(?!\d)/.test(plain) ? `'${plain}` : plain; /* no spreadsheet executes it */
      return /[",\n]/.test(quoted) ? `"${quoted.replaceAll('"', '""')}"` : quoted;
    };
    const lines = [...this.table.rows].filter(row => !row.hidden)
      .map(row => [...row.cells].filter(cell => !cell.hidden).map(cell => field(cell.textContent)).join(","));
    const link = make("a", { href: URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" })), download: `${this.at("save").dataset.name}.csv` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  /* Whether a row passes everything but the checkpoint and the box in the plot, which the plot itself shows otherwise. */
  passes({ family, element }) {
    const { text, division, flags, since, until, hidden } = this.state, about = element.dataset;
    const names = about.flags.split(" ").filter(Boolean);
    return !hidden.has(family) && about.text.includes(text) && (division === "all" || about.division === division) &&
      (!since || about.date >= since) && (!until || (about.date && about.date <= until)) &&
      (!flags || (flags === "none" ? !names.length : flags === "any" ? names.length > 0 : names.includes(flags)));
  }

  shows(row) {
    const { checkpoint, chosen } = this.state;
    return this.passes(row) && (checkpoint === "both" || row.checkpoint === checkpoint) && (!chosen || chosen.has(row.variant));
  }

  apply() {
    const { checkpoint, text, division, flags, since, until, hidden, chosen } = this.state, single = checkpoint !== "both";
    for (const row of this.rows) row.element.hidden = !this.shows(row);
    /* What a source does not say passes no filter. */
    const unsaid = division !== "all" || flags || since || until;
    for (const row of this.quoted) row.hidden = Boolean(unsaid) || hidden.has(row.dataset.family) || !row.dataset.text.includes(text);
    for (const part of this.parts) {
      const rows = [...part.querySelectorAll("tbody tr")];
      part.querySelector("summary span").textContent = this.count(rows.filter(row => !row.hidden).length, rows.length);
    }
    this.hide(this.heads.findIndex(head => head.dataset.key === "checkpoint"), single);
    this.table.classList.toggle("single", single);
    const variants = some => new Set(some.map(row => row.variant)).size;
    const all = variants(this.rows), seen = variants(this.rows.filter(row => this.shows(row)));
    const narrowed = text || unsaid || hidden.size || chosen;
    this.at("tally").textContent = seen < all ? `${seen} of ${plural(all, "method")} shown; ranks are those of the whole board.` : "";
    this.at("reset").hidden = !narrowed;
    this.more.querySelector("summary").textContent = `More filters${unsaid ? " (in use)" : ""}`;
    sortAgain(this.table);
    this.changed();
  }

  count(seen, all) { return seen < all ? `${seen} of ${all}` : String(all); }

  reset() {
    Object.assign(this.state, { text: "", division: "all", flags: "", since: "", until: "", chosen: null });
    this.state.hidden.clear();
    for (const id of ["find", "flags", "since", "until"]) this.at(id).value = "";
    this.more.querySelector("[value=all]").checked = true;
    for (const chip of this.at("families").querySelectorAll("button")) chip.setAttribute("aria-pressed", "true");
    this.at("find").focus({ preventScroll: true });
    this.apply();
    this.write();
  }

  families(markers) {
    const names = [...new Map(this.rows.map(row => [row.family, row.marker]))].sort((a, b) => a[1] - b[1]);
    if (names.length < 2) return;
    const root = this.at("families");
    root.append(...names.map(([family, marker]) => make("button", {
      type: "button", class: "chip", "aria-pressed": "true",
      onclick: event => {
        const hide = !this.state.hidden.has(family);
        this.state.hidden[hide ? "add" : "delete"](family);
        event.currentTarget.setAttribute("aria-pressed", String(!hide));
        this.apply();
        this.write();
      },
    }, make("svg", { class: `marker f${marker}`, viewBox: "-8 -8 16 16", "aria-hidden": "true" }, make("path", { d: markers[marker] })), family)));
    root.hidden = false;
  }

  hide(index, hide) {
    if (index < 0) return;
    this.heads[index].hidden = hide;
    for (const row of this.rows) row.element.cells[index].hidden = hide;
  }

  showGroup(input) {
    this.heads.forEach((head, index) => { if (head.dataset.group === input.value) this.hide(index, !input.checked); });
  }

  columns() {
    const open = { attacks: "(min-width: 50rem)", gap: "(min-width: 70rem)", cost: "(min-width: 110rem)", evidence: "(min-width: 130rem)" };
    for (const input of this.groups()) {
      input.addEventListener("change", () => {
        this.showGroup(input);
        this.chosenColumns = true;
        this.write();
      });
      input.checked = window.matchMedia(open[input.value]).matches;
      this.showGroup(input);
    }
  }
}
