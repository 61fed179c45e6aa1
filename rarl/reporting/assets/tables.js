// Tables. One that is wider than its place is scrolled by keys; one with data-filters="Column,Column" is filtered by what
// these hold and by free text, and sorted by each of its columns.
(() => {
  "use strict";
  const collator = new Intl.Collator("en", { numeric: true });

  // What a cell is sorted by: numbers, then words, then what holds nothing.
  const key = (cell) => {
    const text = cell.textContent.trim();
    const number = parseFloat(text.replace("−", "-").replaceAll(",", ""));
    return { text, number, rank: "none" in cell.dataset ? 2 : Number.isNaN(number) ? 1 : 0 };
  };

  const filtered = (table) => {
    const [body] = table.tBodies, rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
    const controls = document.createElement("div"), says = document.createElement("output");
    const box = Object.assign(document.createElement("input"), { type: "search" });
    const labelled = (text, element) => {
      const label = document.createElement("label");
      label.append(text, " ", element);
      controls.append(label);
    };
    const lists = table.dataset.filters.split(",").map((name) => {
      const list = document.createElement("select"), i = heads.findIndex((head) => head.textContent === name);
      const found = new Set(rows.map((row) => row.cells[i].textContent));
      list.append(new Option("all", ""), ...[...found].sort(collator.compare).map((text) => new Option(text)));
      labelled(name, list);
      return { i, list };
    });
    labelled("Text", box);
    controls.className = "table-live";
    controls.append(says);
    (table.closest(".md-typeset__scrollwrap") ?? table).before(controls);

    const show = () => {
      const sought = box.value.trim().toLowerCase();
      for (const row of rows) {
        row.hidden = !row.textContent.toLowerCase().includes(sought)
          || lists.some(({ i, list }) => list.value && list.value !== row.cells[i].textContent);
      }
      says.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} shown`;
    };
    controls.addEventListener("input", show);
    show();

    heads.forEach((head, i) => {
      const button = Object.assign(document.createElement("button"), { type: "button" });
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const order = head.ariaSort === "ascending" ? "descending" : "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.ariaSort = order;
        const keys = new Map(rows.map((row) => [row, key(row.cells[i])])), sign = order === "ascending" ? 1 : -1;
        body.append(...rows.toSorted((one, two) => {
          const a = keys.get(one), b = keys.get(two);
          return a.rank - b.rank || sign * (a.rank ? collator.compare(a.text, b.text) : a.number - b.number);
        }));
      });
    });
  };

  // Later than the theme, which puts tables into what scrolls.
  addEventListener("load", () => {
    document.querySelectorAll("table[data-filters]").forEach(filtered);
    const sized = new ResizeObserver((entries) => {
      for (const { target } of entries) target.tabIndex = target.scrollWidth > target.clientWidth ? 0 : -1;
    });
    for (const wrap of document.querySelectorAll(".md-typeset__scrollwrap")) sized.observe(wrap);
  });
})();
