"use strict";
/* A board: provenance of cells, plot, comparison of two methods. The table itself holds the numbers. */

const setUpBoard = page => {
  /* Boards on one page tell their identifiers apart by a suffix. */
  const suffix = page.dataset.suffix, at = name => document.getElementById(name + suffix);
  const table = at("board");
  if (!table) return;
  const data = JSON.parse(at("data").textContent);
  const heads = [...table.tHead.rows[0].cells];
  const place = Object.fromEntries(heads.map((head, index) => [head.dataset.key, index]));
  const column = Object.fromEntries(data.columns.map(one => [one.key, one]));
  const rows = [...table.tBodies[0].rows].map(element => ({
    element, ...data.rows[Number(element.dataset.row)], checkpoint: element.dataset.checkpoint,
    family: element.dataset.family, marker: Number(element.dataset.marker), page: element.querySelector("th a")?.getAttribute("href"),
  }));
  /* A selection of a board may lack any column, and either checkpoint. */
  const cellOf = (row, key) => row.element.cells[place[key]];
  const mean = (row, key) => { const m = cellOf(row, key)?.dataset.m; return m === undefined ? null : Number(m); };
  const textOf = (row, key) => (cellOf(row, key)?.textContent ?? "").trim().replace(/\s+/g, " ");
  const one = (variant, checkpoint) => rows.find(row => row.variant === variant && row.checkpoint === checkpoint);
  const first = rows.filter((row, index) => index === rows.findIndex(other => other.variant === row.variant));
  const firstOf = variant => first.find(row => row.variant === variant);

  /* Provenance ---------------------------------------------------------------------------------------------------- */

  const dialog = at("provenance");
  const explain = (row, key) => {
    const cell = cellOf(row, key), about = column[key], values = (cell.dataset.v || "").split(" ").filter(Boolean);
    const perSeed = values.length === row.runs.length;
    const filed = row.runs.every(run => data.runs[run].file);
    const head = ["Seed", ...(perSeed ? ["Value"] : []), "Run", ...(filed ? ["Epoch", "Weights, sha256", "Record file"] : [])];
    const lines = row.runs.map((run, index) => {
      const known = data.runs[run];
      const cells = [known.seed, perSeed ? make("td", { class: "number" }, minus(values[index])) : null, filed ? make("a", { href: known.page }, run) : run];
      if (filed) {
        const parts = known.file.split("/"), address = "../" + parts.map(encodeURIComponent).join("/");
        cells.push(known.epochs[row.checkpoint] ?? "–", make("code", {}, known.weights[row.checkpoint] || "–"), make("a", { href: address }, parts.slice(-2).join("/")));
      }
      return make("tr", {}, ...cells.filter(cell => cell !== null).map(cell => cell.tagName === "TD" ? cell : make("td", {}, cell)));
    });
    dialog.replaceChildren(...[
      make("button", { type: "button", class: "quiet close", "aria-label": "Close", onclick: () => dialog.close() }, "✕"),
      make("h2", { id: "provenance-title" + suffix }, `${row.label}, ${row.checkpoint}: ${about.label}`),
      make("p", { class: "value" }, textOf(row, key) || "–", about.unit ? ` ${about.unit}` : ""),
      cell.title ? make("p", { class: "notice" }, cell.title) : null,
      make("p", { class: "soft" }, about.meaning),
      make("div", { class: "frame", tabindex: "0", role: "region", "aria-label": "Runs" },
        make("table", { class: "plain" }, make("thead", {}, make("tr", {}, ...head.map(text => make("th", { scope: "col" }, text)))), make("tbody", {}, ...lines))),
      ...row.runs.flatMap(run => (data.runs[run].corrected || []).map(said => make("p", { class: "soft" }, `Corrected, seed ${data.runs[run].seed}, ${said} `, make("a", { href: "#corrections" + suffix, onclick: () => dialog.close() }, "All corrections")))),
      row.notes.length ? make("p", { class: "soft" }, `On this row: ${row.notes.join("; ")}.`) : null,
      make("p", { class: "soft" }, row.paper),
    ].filter(Boolean));
    dialog.showModal();
  };

  const setUpProvenance = () => {
    page.querySelector(".hint").hidden = false;
    dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });
    table.tBodies[0].addEventListener("click", event => {
      const cell = event.target.closest("td.number");
      if (cell) explain(rows.find(row => row.element === cell.parentNode), heads[cell.cellIndex].dataset.key);
    });
    /* One stop of the tabulator for the whole table; arrows move between numbers, Enter opens. */
    const cells = () => [...table.tBodies[0].rows].filter(row => !row.hidden).map(row => [...row.querySelectorAll("td.number")].filter(cell => !cell.hidden));
    for (const cell of table.querySelectorAll("td.number")) cell.tabIndex = -1;
    const first = table.querySelector("td.number");
    if (first) first.tabIndex = 0;
    table.tBodies[0].addEventListener("focusin", event => {
      const cell = event.target.closest("td.number");
      if (!cell) return;
      for (const other of table.querySelectorAll("td[tabindex='0']")) other.tabIndex = -1;
      cell.tabIndex = 0;
    });
    table.tBodies[0].addEventListener("keydown", event => {
      const cell = event.target.closest("td.number");
      if (!cell || cell !== event.target) return;
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); cell.click(); return; }
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (!step) return;
      event.preventDefault();
      const grid = cells(), line = grid.findIndex(some => some.includes(cell)), index = grid[line].indexOf(cell);
      const next = grid[line + step[0]]?.[index + step[1]];
      if (next) next.focus();
    });
    for (const row of rows) {
      const share = mean(row, "autoattack");
      if (share !== null) cellOf(row, "autoattack").style.setProperty("--share", `${share}%`);
    }
  };

  /* Plot ---------------------------------------------------------------------------------------------------------- */

  const spreadOf = (row, key) => (cellOf(row, key).dataset.e || "0 0").split(" ").map(Number);
  const points = (x, y) => {
    const { state } = filters, checkpoint = state.checkpoint === "last" || !rows.some(row => row.checkpoint === "best") ? "last" : "best";
    const usable = row => row && mean(row, x) !== null && mean(row, y) !== null;
    return rows.filter(row => row.checkpoint === checkpoint && filters.passes(row) && usable(row)).map(row => {
      const other = state.checkpoint === "both" ? one(row.variant, "last") : null;
      const shares = ["clean", "autoattack", "pgd20", "pgd100", "cw", "worst", "nrr"];
      const moved = usable(other) && (shares.includes(x) || shares.includes(y));
      return {
        variant: row.variant, label: row.label, page: row.page, marker: row.marker, sound: row.sound, robust: row.robust, checkpoint,
        rank: mean(row, "rank") ?? 999, rankText: textOf(one(row.variant, "best") || row, "rank") || "–",
        x: mean(row, x), y: mean(row, y), spread: { x: spreadOf(row, x), y: spreadOf(row, y) },
        to: moved ? { x: mean(other, x), y: mean(other, y) } : null,
        xName: column[x].label, yName: column[y].label, xText: textOf(row, x), yText: textOf(row, y),
        faint: state.chosen && !state.chosen.has(row.variant),
      };
    });
  };

  /* Comparison ---------------------------------------------------------------------------------------------------- */

  const fixed = value => minus((value > 0 ? "+" : "") + (Number(value.toFixed(data.decimals)) === 0 ? 0 : value).toFixed(data.decimals));

  const verdict = (a, b) => {
    const found = data.comparisons.find(pair => (pair[0] === a && pair[1] === b) || (pair[0] === b && pair[1] === a));
    const [left, right] = [firstOf(a), firstOf(b)];
    if (a === b) return "Choose two different methods.";
    if (!found) {
      const why = [left, right].filter(row => mean(row, "rank") === null).map(row => `${row.label}: ${cellOf(row, "rank")?.title || "not ranked"}`);
      return `No test was made, because it is made between ranked rows. ${why.join("; ")}.`;
    }
    const sign = found[0] === a ? 1 : -1;
    const says = found[6] ? `${(found[0] === a ? left : right).label} is significantly ahead` : `${left.label} and ${right.label} are not told apart`;
    return `${says} in AutoAttack on best: difference ${fixed(sign * found[2])} points, standard error ${found[3].toFixed(data.decimals)}, ` +
      `one-sided p ${found[4].toPrecision(2)}, ${found[5].toPrecision(2)} adjusted for all claims of the board.`;
  };

  const setUpComparison = () => {
    const root = at("comparison");
    if (first.length < 2) {
      root.append(make("p", { class: "soft" }, "There is one method on this board; a second one can be compared with it."));
      root.hidden = false;
      return;
    }
    const pick = (label, chosen) => make("select", { "aria-label": label }, ...first.map(row => make("option", { value: row.variant, selected: row.variant === chosen }, row.label)));
    const wanted = address.get("compare" + suffix)?.split(",") || [];
    const named = name => first.find(row => row.name === name)?.variant;
    const left = pick("First method", named(wanted[0]) ?? first[0].variant), right = pick("Second method", named(wanted[1]) ?? first[1].variant);
    const out = make("div", { "aria-live": "polite" });
    const numeric = data.columns.filter(about => ["accuracy", "points", "amount"].includes(about.kind));
    const show = () => {
      const [a, b] = [Number(left.value), Number(right.value)];
      const lines = [];
      for (const about of numeric) {
        for (const checkpoint of about.kind === "accuracy" ? ["best", "last"] : ["best"]) {
          const pair = [one(a, checkpoint), one(b, checkpoint)];
          if (pair.some(row => !row) || pair.every(row => mean(row, about.key) === null)) continue;
          const [x, y] = pair.map(row => mean(row, about.key));
          const both = x !== null && y !== null, points = about.kind !== "amount";
          const delta = both ? x - y : 0;
          const bar = both && points ? make("span", { class: "delta", "aria-hidden": "true" }, make("b", {})) : null;
          if (bar) {
            const width = Math.min(100, Math.abs(delta) * 5);
            bar.firstChild.style.cssText = delta < 0 ? `right:100%;width:${width}%` : `left:0;width:${width}%`;
          }
          lines.push(make("tr", {}, make("th", { scope: "row" }, about.label, make("small", {}, about.kind === "accuracy" ? ` ${checkpoint}` : ` ${about.unit}`)), ...pair.map(row => make("td", { class: "number" }, textOf(row, about.key) || "–")),
            make("td", { class: "number" }, !both ? "–" : points ? fixed(delta) : y ? `× ${(x / y).toPrecision(3)}` : "–"), make("td", {}, bar)));
        }
      }
      const heading = ["", firstOf(a).label, firstOf(b).label, "Difference", ""];
      out.replaceChildren(make("p", { class: "verdict" }, verdict(a, b)),
        make("div", { class: "frame versus", tabindex: "0", role: "region", "aria-label": "Comparison" }, make("table", { class: "plain" },
          make("thead", {}, make("tr", {}, ...heading.map(text => text ? make("th", { scope: "col", class: "number" }, text) : make("td", {})))),
          make("tbody", {}, ...lines))),
        make("p", { class: "soft" }, "Only AutoAttack on best is tested; the other differences are of means, without a test. Amounts are compared by their ratio."));
    };
    const changed = () => {
      address.set({ ["compare" + suffix]: [left, right].map(select => firstOf(Number(select.value)).name).join(",") });
      show();
    };
    const swap = make("button", { type: "button", class: "quiet", onclick: () => { [left.value, right.value] = [right.value, left.value]; changed(); } }, "⇄ swap");
    for (const select of [left, right]) select.addEventListener("change", changed);
    root.append(make("div", { class: "tools" }, make("label", {}, "First ", left), swap, make("label", {}, "Second ", right)), out);
    root.hidden = false;
    show();
    if (wanted.length) at("compare").scrollIntoView();
  };

  makeSortable(table);
  let plot = null;
  const filters = new Filters(page, rows, data.markers, () => {
    if (!plot) return;
    plot.clear.hidden = !filters.state.chosen;
    plot.draw();
  });
  setUpProvenance();
  if (at("plot")) {
    plot = new Plot(at("plot"), {
      columns: data.columns, markers: data.markers, points, select: variants => {
        /* The table above grows or shrinks: keep the plot where the reader looks at it. */
        const where = () => at("plot").getBoundingClientRect().top, before = where();
        filters.set("chosen", variants);
        window.scrollBy({ top: where() - before, behavior: "instant" });
      },
    });
  }
  setUpComparison();
  filters.apply();
};

document.querySelectorAll(".board-page").forEach(setUpBoard);
