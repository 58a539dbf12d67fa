"use strict";
{
  const all = (query, at = document) => [...at.querySelectorAll(query)];
  const one = (query, at = document) => at.querySelector(query);
  const dialog = one("dialog");
  let parsed; // the details, once something is opened
  const details = () => (parsed ??= JSON.parse(one("#details").textContent));

  /** An element with text and children. Text is never read as HTML. */
  const make = (tag, text = "", ...children) => {
    const found = document.createElement(tag);
    found.textContent = text;
    found.append(...children);
    return found;
  };

  // --- the runs behind an entry

  const shown = (value) => {
    if (value === null || value === undefined) return "none";
    if (typeof value === "number") return Number.isInteger(value) ? String(value) : String(+value.toPrecision(6));
    if (Array.isArray(value)) return value.join(" ");
    if (typeof value === "object") return Object.entries(value).map(([k, v]) => `${k} ${shown(v)}`).join(", ");
    return String(value);
  };

  const command = (text) => {
    const line = make("div", "", make("code", text));
    const copy = make("button", "copy");
    copy.type = "button";
    copy.onclick = async () => {
      getSelection().selectAllChildren(line.firstChild);
      try {
        await navigator.clipboard.writeText(text);
        copy.textContent = "copied";
      } catch {
        copy.textContent = "selected";
      }
    };
    line.className = "command";
    line.append(copy);
    return line;
  };

  const values = (keys, numbers) => {
    const found = make("dd");
    found.className = "values";
    keys.forEach((key, i) => {
      const line = make("div", `${key} ${shown(numbers[i])}`);
      line.title = String(numbers[i]);
      found.append(line);
    });
    return found;
  };

  const machine = (origin) => {
    if (!origin) return "not stated: computed before version 0.2.0, and read from the cache";
    const cpu = origin.cpu
      ? `CPU ${origin.cpu.name}, kernels ${origin.cpu.capability}, ${shown(origin.cpu.instruction_sets)}; ${shown(origin.cpu.libraries)}`
      : "kind of CPU not stated (before version 0.2.0)";
    const cuda = origin.cuda ? `, CUDA ${origin.cuda}` : "";
    return `${origin.device_name}${cuda}; ${cpu}; ${origin.threads} thread(s), ${origin.processes} process(es), host ${origin.host}; ${shown(origin.determinism)}`;
  };

  /** Pairs (stages, origin) of a run, the stages of one origin together. */
  const byOrigin = (stages) => {
    const found = new Map();
    for (const [name, cached, origin] of stages)
      found.set(origin, [...(found.get(origin) ?? []), cached ? `${name} (from the cache)` : name]);
    return [...found].map(([origin, names]) => [names.join(", "), origin === null ? null : details().shared[origin]]);
  };

  const run = (position, open) => {
    const { runs, shared } = details();
    const [id, home, line, keys, numbers, found, findings, stages, rest, finished] = runs[position];
    const [repeat, record, log] = shared[home].map((text) => text.replaceAll("{}", id).replace("#", line));
    const named = Object.fromEntries(shared[keys].map((key, i) => [key, numbers[i]]));
    const list = make("dl");
    const row = (name, value) => list.append(make("dt", name), value instanceof Node ? value : make("dd", value));
    row("repeat it", make("dd", "", command(repeat)));
    for (const [names, origin] of byOrigin(shared[stages])) {
      row("stages", names);
      if (origin) {
        row("commit", `${origin.git_sha ?? "none: outside a checkout"}${origin.git_dirty ? ", with changes that were not committed" : ""}`);
        row("versions", shown(origin.versions));
      }
      row("hardware", machine(origin));
    }
    row("numbers", values(shared[keys], numbers));
    row("findings", findings.length ? values(shared[found], findings) : "none");
    row("status", `${shared[rest].status}, finished ${finished ?? "at an unknown time"}; precision ${shared[rest].precision}; numerics ${shown(shared[rest].numerics)}; data ${String(shared[rest].dataset_checksum).slice(0, 16)}`);
    row("record", record);
    row("log", log);
    const accuracy = named.accuracy === undefined ? "" : `, accuracy ${shown(named.accuracy)}`;
    const block = make("details", "", make("summary", `seed ${named.seed}${accuracy}: ${id}`), list);
    block.open = open;
    return block;
  };

  const group = (title, positions, open) =>
    positions?.length ? [make("h3", `${title} (${positions.length})`), ...positions.map((each) => run(each, open && positions.length === 1))] : [];

  const entry = ([, runs, diverged, others, todo, paper]) => [
    ...(paper === undefined || paper === null ? [] : [make("h3", "The paper's line"), make("p", details().texts[paper])]),
    ...group("Runs whose numbers are shown", runs, true),
    ...group("Diverged runs, left out of the numbers", diverged),
    ...group("Runs of candidates that were not chosen", others),
    ...(todo?.length ? [make("h3", `Missing runs (${todo.length})`), ...todo.map(command)] : []),
    ...(runs?.length || diverged?.length || others?.length || todo?.length ? [] : [make("p", "No run: the entry is read from the configuration.")]),
  ];

  const open = (title, content) => {
    const close = make("button", "close");
    const heading = make("h2", title);
    heading.id = "which";
    close.type = "button";
    close.autofocus = true;
    close.onclick = () => dialog.close();
    dialog.replaceChildren(make("header", "", heading, close), ...content);
    dialog.showModal();
    dialog.scrollTop = 0;
  };
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

  const openCell = (cell) => {
    const lead = details().pages[cell.closest("article").id][cell.dataset.cell];
    open(lead[0], [make("p", cell.textContent), ...entry(lead)]);
  };

  const openFigure = (article) => {
    const points = details().pages[article.id].map((lead) => {
      const block = make("details", "", make("summary", lead[0]));
      block.addEventListener("toggle", () => block.childElementCount === 1 && block.append(...entry(lead)));
      return block;
    });
    open(one("h3", article).textContent, [make("h3", `Points of its series (${points.length})`), ...points]);
  };

  // --- tables: sorting, and one stop of the tab key for each

  const number = (text) => {
    const found = text.match(/(?<=^[^\w-]{0,2})-?\d[\d,]*(?:\.\d+)?/);
    const power = text.match(/× 10\^(-?\d+)/);
    return found ? parseFloat(found[0].replaceAll(",", "")) * 10 ** (power ? +power[1] : 0) : NaN;
  };
  const compare = (a, b) => {
    const [x, y] = [number(a), number(b)];
    if (isNaN(x) && isNaN(y)) return a.localeCompare(b, undefined, { numeric: true });
    return isNaN(x) ? Infinity : isNaN(y) ? -Infinity : x - y;
  };

  const sort = (table, column, way) => {
    const body = table.tBodies[0];
    body.original ??= [...body.rows];
    const sections = [[]]; // each begins with the head of its panel
    for (const row of body.original) {
      if (row.className === "panel") sections.push([row], []);
      else sections.at(-1).push(row);
    }
    const text = (row) => row.cells[column]?.textContent ?? "";
    const order = (a, b) => {
      const found = compare(text(a), text(b)); // infinite: one has no number, and comes last
      return way === "descending" && Number.isFinite(found) ? -found : found;
    };
    body.append(...sections.flatMap((rows) => (way ? [...rows].sort(order) : rows)));
  };

  const sortable = (table) => {
    all("th", table.tHead.rows[table.tHead.rows.length - 1]).forEach((head, column) => {
      const button = make("button", head.textContent);
      button.type = "button";
      button.title = "sort";
      head.replaceChildren(button);
      button.onclick = () => {
        const way = { ascending: "descending", descending: "" }[head.getAttribute("aria-sort")] ?? "ascending";
        all("th[aria-sort]", table).forEach((other) => other.removeAttribute("aria-sort"));
        if (way) head.setAttribute("aria-sort", way);
        sort(table, column, way);
      };
    });
  };

  const arrows = (table) => {
    const stops = () => all("tr", table).map((row) => all("th > button, td[data-cell]", row)).filter((row) => row.length);
    table.setAttribute("role", "grid");
    table.parentElement.removeAttribute("tabindex");
    all("th > button, td[data-cell]", table).forEach((each) => (each.tabIndex = -1));
    const first = one("td[data-cell]", table);
    first.tabIndex = 0;
    let current = first;
    table.addEventListener("focusin", ({ target }) => {
      if (!target.matches("th > button, td[data-cell]")) return;
      current.tabIndex = -1;
      current = target;
      current.tabIndex = 0;
    });
    table.addEventListener("keydown", (event) => {
      const rows = stops().filter((row) => row[0].offsetParent);
      const y = rows.findIndex((row) => row.includes(current));
      if (y < 0) return;
      const place = (row, cell) => cell.closest("th, td").cellIndex;
      const same = (row) => row && (row.find((each) => place(row, each) >= place(rows[y], current)) ?? row.at(-1));
      const x = rows[y].indexOf(current);
      const to = {
        ArrowRight: rows[y][x + 1], ArrowLeft: rows[y][x - 1], Home: rows[y][0], End: rows[y].at(-1),
        ArrowDown: same(rows[y + 1]), ArrowUp: same(rows[y - 1]),
      }[event.key];
      if (to) {
        to.focus();
        event.preventDefault();
      } else if ((event.key === "Enter" || event.key === " ") && current.dataset.cell) {
        event.preventDefault();
        openCell(current);
      }
    });
    table.addEventListener("click", (event) => {
      const cell = event.target.closest("td[data-cell]");
      if (cell && getSelection().isCollapsed) openCell(cell);
    });
  };

  for (const table of all("article table, .index table")) {
    sortable(table);
    if (one("td[data-cell]", table)) arrows(table);
  }
  for (const button of all("button.points")) {
    button.hidden = false;
    button.onclick = () => openFigure(button.closest("article"));
  }

  // --- search

  const field = one("#search");
  const count = one("#count");
  const pages = all("article").map((article) => {
    const rows = all(".wide > table > tbody > tr:not(.panel)", article).filter((row) => !row.closest(".claims"));
    const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
    const within = (query) => all(query, article).map((each) => each.textContent).join(" ").toLowerCase();
    return { article, rows, texts, head: within(".name, h3"), whole: article.textContent.toLowerCase() };
  });
  const lines = all(".index tbody tr").map((row) => [row, row.textContent.toLowerCase()]);

  const search = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    const has = (text) => words.every((word) => text.includes(word));
    let visible = 0;
    for (const { article, rows, texts, head, whole } of pages) {
      const kept = rows.filter((row) => has(`${texts.get(row)} ${head}`));
      rows.forEach((row) => (row.hidden = kept.length && !kept.includes(row)));
      article.hidden = !(kept.length || has(whole));
      visible += !article.hidden;
    }
    lines.forEach(([row, text]) => (row.hidden = !has(text) && !pages.some(({ article }) => !article.hidden && decodeURIComponent(one("a", row)?.hash ?? "") === `#${article.id}`)));
    const ids = words.length && field.value.length > 3 ? details().runs.flatMap(([id], i) => (has(id.toLowerCase()) ? [i] : [])) : [];
    const list = one("#runs");
    list.hidden = !ids.length;
    list.replaceChildren(make("p", `${ids.length} runs${ids.length > 20 ? ", the first 20" : ""}:`), ...(ids.length ? ids.slice(0, 20).map((i) => run(i, false)) : []));
    count.textContent = words.length ? `${visible} of ${pages.length} pages` : "";
  };
  field.addEventListener("input", search);
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      field.value = "";
      search();
    }
  });
  one(".bar").hidden = false;
}
