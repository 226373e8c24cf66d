"use strict";
/* Every page: theme, sorting of tables, and filters of lists. Without scripts all content is there, unsorted. */

const make = (name, attributes = {}, ...children) => {
  const svg = /^(svg|g|path|line|text|rect|a:svg|polyline|title)$/.test(name);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", name.replace(":svg", "")) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter(child => child !== null && child !== undefined));
  return element;
};

const remembered = {
  get() { try { return localStorage.getItem("advbench-theme") || "auto"; } catch { return "auto"; } },
  set(value) { try { localStorage.setItem("advbench-theme", value); } catch { /* private windows have no storage */ } },
};

const showTheme = value => {
  if (value === "auto") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.dataset.theme = value;
  const button = document.getElementById("theme");
  button.replaceChildren(make("span", { class: "word" }, "Theme: "), value);
  button.hidden = false;
};

/* The state of a page is in its address, which can be sent to a colleague. */
const address = {
  get: key => new URLSearchParams(location.hash.slice(1)).get(key),
  set(values) {
    const state = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
    for (const [key, value] of Object.entries(values)) {
      if (value) state.set(key, value);
      else state.delete(key);
    }
    const text = state.toString().replaceAll("%2C", ",").replaceAll("%3A", ":");
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  },
};

const minus = number => String(number).replaceAll("-", "−");
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

/* Sort a table by one of its columns; rows of one unit (best and last of a method) stay together, at the place of the
   first that is shown. Empty cells stay at the end in both directions; ties keep the order of the page. */
const sortBy = (table, head, direction) => {
  const index = head.cellIndex, sign = direction === "ascending" ? 1 : -1;
  const units = new Map();
  for (const row of [...table.tBodies[0].rows].sort((a, b) => a.place - b.place)) {
    const unit = row.dataset.unit ?? row;
    units.set(unit, [...(units.get(unit) || []), row]);
  }
  const worth = rows => {
    const cell = (rows.find(row => !row.hidden) || rows[0]).cells[index];
    return cell.dataset.m !== undefined ? Number(cell.dataset.m) : head.classList.contains("number") ? null : cell.textContent.trim();
  };
  const none = x => x === null || x === "";
  const order = (a, b) => {
    if (none(a) || none(b)) return none(a) - none(b);
    return sign * (typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
  };
  const sorted = [...units.values()].map(rows => ({ rows, worth: worth(rows) })).sort((a, b) => order(a.worth, b.worth));
  table.tBodies[0].append(...sorted.flatMap(one => one.rows));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", direction);
};

/* After rows were hidden or shown, another row may stand for its unit. */
const sortAgain = table => {
  const head = table.tHead.querySelector("[aria-sort]");
  if (head) sortBy(table, head, head.getAttribute("aria-sort"));
};

const makeSortable = table => {
  [...table.tBodies[0].rows].forEach((row, place) => { row.place = place; });
  for (const head of table.tHead.rows[0].cells) {
    if (!head.dataset.first) continue;
    const button = make("button", { type: "button" }, ...[...head.childNodes].filter(node => node.nodeName !== "SMALL"));
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      sortBy(table, head, before ? (before === "ascending" ? "descending" : "ascending") : head.dataset.first);
      table.dispatchEvent(new Event("sorted"));
    });
    head.prepend(button);
  }
};

const filterBoards = form => {
  const apply = () => {
    const text = form.elements.text.value.trim().toLowerCase();
    const cards = [...document.querySelectorAll("[data-board]")];
    for (const card of cards) {
      card.hidden = Boolean(
        (text && !card.dataset.text.includes(text)) ||
        ["dataset", "network", "threat"].some(key => form.elements[key].value && form.elements[key].value !== card.dataset[key]));
    }
    const seen = cards.filter(card => !card.hidden).length;
    form.querySelector("output").textContent = seen < cards.length ? `${seen} of ${plural(cards.length, "board")}` : "";
  };
  form.hidden = false;
  form.addEventListener("input", apply);
  form.addEventListener("submit", event => event.preventDefault());
};

const filterRows = tools => {
  const rows = [...document.getElementById(tools.dataset.filters).tBodies[0].rows];
  tools.hidden = false;
  tools.querySelector("input").addEventListener("input", event => {
    const text = event.target.value.trim().toLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(text);
    const seen = rows.filter(row => !row.hidden).length;
    tools.querySelector("output").textContent = text ? `${seen} of ${rows.length}` : "";
  });
};

showTheme(remembered.get());
document.getElementById("theme").addEventListener("click", () => {
  const order = ["auto", "light", "dark"], next = order[(order.indexOf(remembered.get()) + 1) % 3];
  remembered.set(next);
  showTheme(next);
});
document.querySelectorAll("table.sortable").forEach(makeSortable);
document.querySelectorAll("[data-filters]").forEach(filterRows);
const boardFilter = document.getElementById("board-filter");
if (boardFilter) filterBoards(boardFilter);
