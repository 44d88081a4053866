"""The page's own scripts: they draw the figures, and make the tables of numbers sortable and searchable."""

from __future__ import annotations

from string import Template

from devprof.report.theme import PANEL_MARGIN, PANEL_WIDTH

__all__ = ["DRAW_FIGURES", "WORK_TABLES"]

# A figure of panels has no container to follow: it is laid out for the width there is, and again when that changes.
DRAW_FIGURES = Template(
    """
(function () {
  function fitted(spec, width) {
    if (!spec.facet) return spec;
    const columns = Math.max(1, Math.min(spec.columns, Math.floor(width / $panel)));
    const inner = Object.assign({}, spec.spec, {width: Math.floor(width / columns) - $margin});
    return Object.assign({}, spec, {columns: columns, spec: inner});
  }
  function draw(holder, spec) {
    const width = holder.clientWidth;
    vegaEmbed(holder, fitted(spec, width), {
      renderer: "svg",
      actions: {export: true, source: false, compiled: false, editor: false},
      downloadFileName: holder.dataset.name,
    }).then(function () { holder.dataset.drawn = "yes"; }, function (error) {
      holder.classList.add("failed");
      holder.textContent = "This figure could not be drawn: " + error.message;
    });
    return width;
  }
  for (const holder of document.querySelectorAll(".chart[data-spec]")) {
    const spec = JSON.parse(document.getElementById(holder.dataset.spec).textContent);
    let drawn = draw(holder, spec), timer;
    if (spec.facet) window.addEventListener("resize", function () {
      clearTimeout(timer);
      timer = setTimeout(function () { if (holder.clientWidth !== drawn) drawn = draw(holder, spec); }, 150);
    });
  }
})();
"""
).substitute(panel=PANEL_WIDTH, margin=PANEL_MARGIN)

# Cells are texts for people: a number is sorted by its first quantity in SI; what is missing comes last either way.
WORK_TABLES = r"""
(function () {
  const UNITS = {ns: 1e-9, "µs": 1e-6, ms: 1e-3, s: 1, min: 60, h: 3600, B: 1, KiB: 1024, MiB: 1048576, GiB: 1073741824};
  const QUANTITY = /^([+-]?[\d,]*\.?\d+(?:e[+-]?\d+)?)\s*(ns|µs|ms|min|KiB|MiB|GiB|[shB])?/;
  function amount(text) {
    const match = QUANTITY.exec(text);
    return match ? Number(match[1].replace(/,/g, "")) * (UNITS[match[2]] || 1) : null;
  }
  function sort(table, heading, down) {
    const numeric = heading.classList.contains("number"), column = heading.cellIndex, body = table.tBodies[0];
    const rows = Array.from(body.rows).map(function (row) {
      const text = row.cells[column].textContent;
      return {row: row, missing: text === "–", key: numeric ? amount(text) : text.toLowerCase()};
    });
    rows.sort(function (a, b) {
      if (a.missing || b.missing) return a.missing - b.missing;
      const order = numeric ? a.key - b.key : a.key.localeCompare(b.key, undefined, {numeric: true});
      return down ? -order : order;
    });
    for (const one of rows) body.append(one.row);
    for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  }
  function search(table, details) {
    const rows = Array.from(table.tBodies[0].rows), tools = document.createElement("p");
    const input = document.createElement("input"), count = document.createElement("span");
    input.type = "search";
    input.placeholder = "Search";
    input.setAttribute("aria-label", "Search these numbers");
    count.setAttribute("role", "status");
    input.addEventListener("input", function () {
      const words = input.value.toLowerCase().split(/\s+/);
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every(function (word) { return text.includes(word); });
      }
      count.textContent = rows.filter(function (row) { return !row.hidden; }).length + " of " + rows.length + " rows";
    });
    tools.className = "tools";
    tools.append(input, count);
    details.querySelector(".scroll").before(tools);
  }
  for (const details of document.querySelectorAll("figure > details")) {
    const table = details.querySelector("table");
    for (const heading of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.textContent = heading.textContent;
      button.addEventListener("click", function () {
        sort(table, heading, heading.getAttribute("aria-sort") === "ascending");
      });
      heading.replaceChildren(button);
    }
    if (table.tBodies[0].rows.length > 10) search(table, details);
  }
})();
"""
