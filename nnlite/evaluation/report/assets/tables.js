"use strict";
// Tables of the page's packed data: sorted by a click on a heading, narrowed by a choice or a part of a case's name.

Report.ROWS = 15; // shown until all are asked for

Report.DataTable = class {
  constructor(place, { columns, rows }) {
    Object.assign(this, { place, columns, rows, sorted: null, falling: false, all: false });
    this.narrowed = new Map(); // column -> the only value shown
    this.wanted = "";
    this.body = Report.element("tbody");
    this.count = Report.element("span", { class: "count", role: "status" });
    this.more = Report.element("button", { type: "button", class: "quiet" });
    this.more.addEventListener("click", () => { this.all = !this.all; this.show(); });
    this.headings = columns.map((column, index) => this.heading(column, index));
    const table = Report.element("table", { class: "data" },
      Report.element("caption", { class: "hidden" }, place.dataset.caption),
      Report.element("thead", {}, Report.element("tr", {}, ...this.headings)), this.body);
    place.replaceChildren(
      Report.element("div", { class: "controls" }, this.search(), ...this.choices(), this.count),
      Report.element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": place.dataset.caption }, table),
      this.more);
    this.show();
  }

  heading(column, index) {
    const button = Report.element("button", { type: "button", title: column.about || undefined }, column.title);
    button.addEventListener("click", () => this.sort(index));
    return Report.element("th", { scope: "col", class: column.numeric ? "number" : undefined, "aria-sort": "none" }, button);
  }

  search() {
    const input = Report.element("input", { type: "search", placeholder: "part of a name" });
    input.addEventListener("input", () => { this.wanted = input.value.toLowerCase(); this.show(); });
    return Report.element("label", {}, "case ", input);
  }

  choices() {
    return this.columns.flatMap((column, index) => {
      const values = [...new Set(this.rows.map((row) => row[index]))];
      if (!column.filter || values.length < 2) return [];
      const select = Report.element("select", {}, Report.element("option", { value: "" }, "all"),
        ...values.map((value, number) => Report.element("option", { value: String(number + 1) }, value || "–")));
      select.addEventListener("change", () => {
        if (select.value) this.narrowed.set(index, values[Number(select.value) - 1]);
        else this.narrowed.delete(index);
        this.show();
      });
      return [Report.element("label", {}, `${column.title} `, select)];
    });
  }

  // First the worst: a first click sorts upwards, the next one downwards.
  sort(index) {
    this.falling = this.sorted === index && !this.falling;
    this.sorted = index;
    const collator = new Intl.Collator("en", { numeric: true });
    const sign = this.falling ? -1 : 1;
    this.rows.sort((one, other) => {
      const [a, b] = [one[index], other[index]];
      if (a === null || b === null) return (a === null) - (b === null); // what is not defined comes last, always
      return sign * (typeof a === "number" ? a - b : collator.compare(a, b));
    });
    this.headings.forEach((heading, place) => {
      heading.setAttribute("aria-sort", place !== index ? "none" : this.falling ? "descending" : "ascending");
    });
    this.show();
  }

  show() {
    const kept = this.rows.filter((row) => String(row[0]).toLowerCase().includes(this.wanted)
      && [...this.narrowed].every(([index, value]) => row[index] === value));
    const shown = this.all ? kept : kept.slice(0, Report.ROWS);
    this.body.replaceChildren(...shown.map((row) => Report.element("tr", {}, ...row.map((value, index) => this.cell(value, index)))));
    this.count.textContent = `${kept.length} of ${this.rows.length} rows`;
    this.more.hidden = kept.length <= Report.ROWS;
    this.more.textContent = this.all ? `show ${Report.ROWS}` : `show all ${kept.length}`;
  }

  cell(value, index) {
    const { numeric, digits } = this.columns[index];
    if (index === 0) return Report.element("th", { scope: "row" }, value);
    return Report.element("td", { class: numeric ? "number" : undefined },
      numeric ? Report.number(value, digits) : value || "–");
  }
};

for (const place of document.querySelectorAll("[data-table]")) {
  Report.inflateJson(document.getElementById(place.dataset.table).textContent)
    .then((content) => new Report.DataTable(place, content));
}
