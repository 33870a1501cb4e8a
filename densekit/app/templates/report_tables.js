"use strict";
// Tables: sorted by a column, filtered by text. And the section that is being read.
(() => {
  const valueOf = (row, place) => {
    const cell = row.cells[place];
    return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
  };

  function compare(place, numeric, sign) {
    return (a, b) => {
      if (!numeric) return sign * a.cells[place].textContent.localeCompare(b.cells[place].textContent, undefined, { numeric: true });
      const [x, y] = [valueOf(a, place), valueOf(b, place)];
      if (x === null || y === null) return (x === null) - (y === null); // without a value: last either way
      return sign * (x - y);
    };
  }

  function sort(table, header) {
    const headers = [...header.parentElement.cells];
    const numeric = header.classList.contains("number");
    const before = header.getAttribute("aria-sort");
    const order = before === "none" ? (numeric ? "descending" : "ascending") : before === "descending" ? "ascending" : "descending";
    for (const other of headers) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", order);
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort(compare(headers.indexOf(header), numeric, order === "ascending" ? 1 : -1)));
  }

  for (const block of document.querySelectorAll("[data-table]")) {
    const table = block.querySelector("table");
    for (const header of table.tHead.rows[0].cells) header.firstChild.addEventListener("click", () => sort(table, header));
    const filter = block.querySelector("input");
    if (filter) filter.addEventListener("input", () => {
      const wanted = filter.value.trim().toLowerCase();
      for (const row of table.tBodies[0].rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
    });
  }

  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const visible = new Set();
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) visible[isIntersecting ? "add" : "delete"](target.id);
    const first = [...links.keys()].find((id) => visible.has(id));
    if (first) for (const [id, link] of links) link.classList.toggle("here", id === first);
  }, { rootMargin: "-64px 0px -60% 0px" });
  for (const section of document.querySelectorAll("section")) seen.observe(section);
})();
