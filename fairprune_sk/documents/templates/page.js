// A button in each heading sorts its table. The page says all it has to say without this.
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.querySelectorAll("thead th")];
  const body = table.tBodies[table.tBodies.length - 1];
  if (body.rows.length < 2) continue;
  const first = [...body.rows];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent || "name";
    button.title = "Sort by " + button.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const next = { none: "descending", descending: "ascending", ascending: "none" };
      const order = next[head.getAttribute("aria-sort") || "none"];
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (order !== "none") head.setAttribute("aria-sort", order);
      const value = (row) => row.cells[column].dataset.value;
      const compare = (a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x !== undefined && y !== undefined) return x - y;
        if (x !== undefined || y !== undefined) return x === undefined ? -1 : 1;
        return a.cells[column].textContent.localeCompare(b.cells[column].textContent);
      };
      const sign = order === "ascending" ? 1 : -1;
      const rows = order === "none" ? first : [...first].sort((a, b) => sign * compare(a, b));
      body.append(...rows);
    });
  });
}
