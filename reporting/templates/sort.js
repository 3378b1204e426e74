for (const table of document.querySelectorAll("table.sortable")) {
  for (const button of table.querySelectorAll("th button")) {
    button.addEventListener("click", () => {
      const head = button.parentElement, column = head.cellIndex, body = table.tBodies[0];
      const value = (row) => row.cells[column].dataset.value ?? "";
      const isText = head.classList.contains("text");
      const before = head.getAttribute("aria-sort");
      const sign = (before ? before === "descending" : isText) ? 1 : -1;
      for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === "" || y === "") return (x === "") - (y === "");  // rows without a value stay last
        const difference = x - y;  // options are texts, and often numbers
        return sign * (Number.isNaN(difference) ? x.localeCompare(y, "en", { numeric: true }) : difference);
      });
      body.append(...rows);
    });
  }
}
