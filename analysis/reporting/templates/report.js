"use strict";
// Sorting, filters, downloads and the connection map. Text is always set as text, never as HTML.

const create = (name, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
};
const draw = (name, attributes = {}, text = null) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  return element;
};

// Downloads

function save(name, blob) {
  const link = create("a", { href: URL.createObjectURL(blob), download: name.replace(/[^\w.+-]+/g, "-") });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const valueOf = (cell) => cell.querySelector("data")?.value ?? cell.textContent.trim();
const shown = (cell) => (cell.querySelector("button") ?? cell).textContent.trim();
const rowsOf = (table) => [...table.rows].filter((row) => !row.hidden).map((row) => [...row.cells]);

const harmless = /^[\d.\s%toex+–-]*$/; // numbers and intervals; a spreadsheet may run other text with such a start

const formats = {
  CSV: (table) => rowsOf(table).map((row, i) => row.map((cell) => {
    const own = i ? valueOf(cell) : shown(cell);
    const text = /^[=+@\t\r-]/.test(own) && !harmless.test(own) ? `'${own}` : own;
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }).join(",")).join("\n") + "\n",
  Markdown: (table) => {
    const rows = rowsOf(table).map((row) => `| ${row.map((cell) => shown(cell).replace(/[\\|]/g, "\\$&")).join(" | ")} |`);
    const rule = `|${[...table.rows[0].cells].map((cell) => (cell.classList.contains("left") ? " --- |" : " ---: |")).join("")}`;
    return [rows[0], rule, ...rows.slice(1)].join("\n") + "\n";
  },
  LaTeX: (table) => {
    const marks = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "−": "$-$", "±": "$\\pm$",
      "×": "$\\times$", "–": "--", "λ": "$\\lambda$", "₀": "$_0$", "²": "$^2$" };
    const escape = (text) => text.replace(/[\\~^−±×–λ₀²]|[&%$#_{}]/g, (mark) => marks[mark] ?? `\\${mark}`);
    const rows = rowsOf(table).map((row) => `${row.map((cell) => escape(shown(cell))).join(" & ")} \\\\`);
    const columns = [...table.rows[0].cells].map((cell) => (cell.classList.contains("left") ? "l" : "r")).join("");
    return [`\\begin{tabular}{${columns}}`, "\\toprule", rows[0], "\\midrule", ...rows.slice(1), "\\bottomrule", "\\end{tabular}", ""].join("\n");
  },
};
const endings = { CSV: "csv", Markdown: "md", LaTeX: "tex" };

function exportButtons(table) {
  return Object.entries(formats).map(([name, format]) => create("button", {
    type: "button", textContent: name, ariaLabel: `Download ${table.dataset.name} as ${name}`,
    onclick: () => save(`${table.dataset.name}.${endings[name]}`, new Blob([format(table)], { type: "text/plain" })),
  }));
}

function svgOf(image) {
  const svg = decodeURIComponent(image.src.slice(image.src.indexOf(",") + 1));
  return svg.replace(/<style id='dark'>.*?<\/style>/, "");
}

async function pngOf(svg, scale = 3) {
  const image = new Image();
  image.src = `data:image/svg+xml,${encodeURIComponent(svg)}`;
  await image.decode();
  const canvas = create("canvas", { width: image.naturalWidth * scale, height: image.naturalHeight * scale });
  const context = canvas.getContext("2d");
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

for (const figure of document.querySelectorAll("figure")) {
  const name = figure.dataset.name, image = figure.querySelector("img"), table = figure.querySelector(".data table");
  const button = (kind, make) => create("button", {
    type: "button", textContent: kind, ariaLabel: `Download ${name} as ${kind}`, onclick: make });
  figure.querySelector("figcaption").before(create("div", { className: "tools" },
    button("SVG", () => save(`${name}.svg`, new Blob([svgOf(image)], { type: "image/svg+xml" }))),
    button("PNG", async () => save(`${name}.png`, await pngOf(svgOf(image)))),
    button("CSV", () => save(`${name}.csv`, new Blob([formats.CSV(table)], { type: "text/csv" })))));
}

// Tables

function sortBy(table, place) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const rising = heads[place].ariaSort !== "ascending";
  heads.forEach((head, i) => (i === place ? head.setAttribute("aria-sort", rising ? "ascending" : "descending") : head.removeAttribute("aria-sort")));
  const key = (row) => {
    const text = valueOf(row.cells[place]);
    if (text === "" || text === "–") return null;
    const number = /^[+-]?[\d.]+( to |\/)/.test(text) ? parseFloat(text) : Number(text); // intervals by their lower end
    return Number.isNaN(number) ? text : number;
  };
  const order = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
  const rows = [...body.rows].map((row) => [key(row), row]);
  rows.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : rising ? order(a, b) : order(b, a)));
  body.append(...rows.map(([, row]) => row));
}

function filterBox(table) {
  const rows = [...table.tBodies[0].rows], output = create("output");
  const box = create("input", { type: "search", placeholder: "filter rows", ariaLabel: `Filter ${table.dataset.name}` });
  box.oninput = () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    output.textContent = words.length ? `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows` : "";
  };
  return [box, output];
}

for (const table of document.querySelectorAll("table")) {
  [...table.tHead.rows[0].cells].forEach((head, place) => {
    const button = create("button", { type: "button", textContent: head.textContent, onclick: () => sortBy(table, place) });
    head.replaceChildren(button);
  });
  const filter = table.tBodies[0].rows.length > 6 ? filterBox(table) : [];
  table.closest(".scroll").before(create("div", { className: "tools" }, ...filter, ...exportButtons(table)));
}

// The connection map

const VIRIDIS = ["#440154", "#481a6c", "#472f7d", "#414487", "#39568c", "#31688e", "#2a788e", "#23888e", "#1f988b", "#22a884",
  "#35b779", "#54c568", "#7ad151", "#a5db36", "#d2e21b", "#fde725"];
const heat = (share) => VIRIDIS[Math.max(0, Math.min(15, Math.floor(16 * share)))];

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

/** Unpack a run's connections: `targets` with `sources`, and counts by stage. */
async function load(map, layouts) {
  const died = new Uint8Array(await unpack(map.died)), weights = new Float32Array(await unpack(map.weights));
  let at = 0, pairs = 0;
  const targets = layouts[map.targets].map((target) => {
    const inputs = target.sources.at(-1)[2], own = died.subarray(at, at + target.groups * inputs);
    at += own.length;
    const first = pairs;
    pairs += target.sources.length;
    return { ...target, inputs, died: own, first };
  });
  const lives = (stage, when) => when === 255 || (stage !== "end" && when > Number(stage));
  const pair = (target, place, stage) => {
    const [source, first, last] = target.sources[place];
    let alive = 0;
    for (let group = 0; group < target.groups; group++)
      for (let input = first; input < last; input++) alive += lives(stage, target.died[group * target.inputs + input]);
    const total = target.groups * (last - first);
    return { source, alive, total, share: alive / total, weight: weights[map.stages.indexOf(stage) * pairs + target.first + place] };
  };
  return { ...map, targets, lives, pair, heaviest: weights.reduce((a, b) => Math.max(a, b), 0) || 1 };
}

const stageName = (stage) => (stage === "end" ? "at the end" : `in stage ${stage}`);

/** Make a board of cells that the pointer and the arrow keys move over; `describe(x, y)` returns the text of a cell. */
function board(label, describe) {
  const svg = draw("svg", { "aria-hidden": "true" });
  const element = create("div", { className: "board", tabIndex: 0, ariaLabel: label }, svg);
  element.setAttribute("role", "application");
  const readout = create("output", { className: "readout" });
  const state = { cells: new Map(), at: null };
  const go = (key) => {
    const cell = state.cells.get(key);
    if (!cell) return false;
    state.at = key;
    svg.querySelector(".cursor")?.remove();
    const box = ["x", "y", "width", "height"].map((name) => [name, cell.getAttribute(name)]);
    svg.append(draw("rect", { class: "cursor", ...Object.fromEntries(box) }));
    readout.textContent = describe(...key.split(",").map(Number));
    return true;
  };
  svg.addEventListener("pointermove", (event) => event.target.dataset.key && go(event.target.dataset.key));
  element.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!move) return;
    event.preventDefault();
    if (!state.at) return void go(state.cells.keys().next().value);
    const [x, y] = state.at.split(",").map(Number);
    go(`${x + move[0]},${y + move[1]}`);
  });
  return { svg, element, readout, state, again: () => (state.at && go(state.at)) || (readout.textContent = ""),
    add(key, cell) { cell.dataset.key = key; state.cells.set(key, cell); svg.append(cell); } };
}

function interactive(container, { maps, targets: layouts }) {
  const name = container.closest("figure").dataset.name;
  const control = (text, element) => create("label", {}, `${text} `, element);
  const run = create("select", {}, ...maps.map((map, i) => new Option(map.run, i)));
  const value = create("select", {}, new Option("share alive", "alive"), new Option("mean |W|", "weight"));
  const layer = create("select");
  const slider = create("input", { type: "range", min: 0 });
  const stage = create("output");
  let map = null;

  const network = board("Connections between layers; arrow keys move, Enter shows the target layer below", (x, y) => {
    const target = map.targets[x], found = map.pair(target, y, map.stages[slider.value]);
    return `Layer ${target.label} reads ${found.source} ${stageName(map.stages[slider.value])}: ${found.alive} of ${found.total} connections alive (${(100 * found.share).toFixed(0)} %), mean |W| ${found.weight.toFixed(4)}`;
  });
  const mask = board("One layer in full: groups down, input channels across; arrow keys move", (x, y) => {
    const target = map.targets[layer.value], when = target.died[y * target.inputs + x];
    const [source, first] = target.sources.find(([, , last]) => x < last);
    const fate = when === 255 ? "alive to the end" : when === 0 ? "never existed" : `pruned at the start of stage ${when}`;
    return `Layer ${target.label}, group ${y}, input ${x} (channel ${x - first} of ${source}): ${fate}`;
  });

  const drawNetwork = () => {
    const sources = [...new Set(map.targets.flatMap((target) => target.sources.map(([source]) => source)))];
    const room = (names, least) => Math.max(least, 20 + 6 * Math.max(...names.map((text) => text.length))); // pixels
    const side = Math.max(9, Math.min(26, 620 / map.targets.length)), left = room(sources, 52), top = 6;
    const below = room(map.targets.map((target) => target.label), 48);
    const [width, height] = [left + side * map.targets.length + 8, top + side * sources.length + below];
    const { svg, state, add } = network;
    svg.replaceChildren();
    state.cells.clear();
    Object.entries({ width, height, viewBox: `0 0 ${width} ${height}` }).forEach(([key, text]) => svg.setAttribute(key, text));
    svg.append(draw("rect", { class: "none", x: left, y: top, width: side * map.targets.length, height: side * sources.length }));
    const every = Math.ceil(12 / side);
    map.targets.forEach((target, x) => {
      if (x % every === 0) {
        const [tx, ty] = [left + side * (x + 0.5) + 3, top + side * sources.length + 5];
        svg.append(draw("text", { x: tx, y: ty, transform: `rotate(-90 ${tx} ${ty})`, "text-anchor": "end" }, target.label));
      }
      target.sources.forEach(([source], place) => {
        const row = sources.indexOf(source);
        add(`${x},${place}`, draw("rect", { x: left + side * x, y: top + side * row, width: side - 0.5, height: side - 0.5 }));
      });
    });
    svg.append(draw("text", { x: left + side * map.targets.length / 2, y: height - 2, "text-anchor": "middle" }, "target layer"),
      draw("text", { x: 9, y: top + side * sources.length / 2, "text-anchor": "middle",
        transform: `rotate(-90 9 ${top + side * sources.length / 2})` }, "source layer"));
    sources.forEach((source, y) => y % every === 0 &&
      svg.append(draw("text", { x: left - 4, y: top + side * (y + 0.5) + 3.5, "text-anchor": "end" }, source)));
    const block = (label) => label.replace(/^t/, "").split(".")[0];
    map.targets.forEach((target, x) => x && block(target.label) !== block(map.targets[x - 1].label) &&
      svg.append(draw("line", { class: "blocks", x1: left + side * x, x2: left + side * x, y1: top, y2: top + side * sources.length })));
  };
  const colourNetwork = () => {
    const now = map.stages[slider.value];
    most.textContent = value.value === "alive" ? "all" : map.heaviest.toPrecision(2);
    slider.setAttribute("aria-valuetext", now === "end" ? "at the end" : `stage ${now}`);
    stage.textContent = now === "end" ? "at the end" : `stage ${now}`;
    map.targets.forEach((target, x) => target.sources.forEach((_, place) => {
      const found = map.pair(target, place, now), cell = network.state.cells.get(`${x},${place}`);
      cell.setAttribute("fill", heat(value.value === "alive" ? found.share : found.weight / map.heaviest));
    }));
    network.again();
  };
  const drawMask = () => {
    const target = map.targets[layer.value], now = map.stages[slider.value];
    const side = Math.max(4, Math.min(12, 1000 / target.inputs)), tall = Math.max(4, Math.min(16, 400 / target.groups));
    const [width, height] = [side * target.inputs + 2, tall * target.groups + 16];
    mask.svg.replaceChildren();
    mask.state.cells.clear();
    Object.entries({ width, height, viewBox: `0 0 ${width} ${height}` }).forEach(([key, text]) => mask.svg.setAttribute(key, text));
    target.sources.forEach(([source, first, last], place) => {
      if (side * (last - first) > 6 * source.length) mask.svg.append(draw("text", { x: side * first, y: 11 }, source));
      for (let group = 0; group < target.groups; group++)
        for (let input = first; input < last; input++) {
          const alive = map.lives(now, target.died[group * target.inputs + input]);
          mask.add(`${input},${group}`, draw("rect", { class: alive ? `alive${place % 2 ? " odd" : ""}` : "dead",
            x: side * input, y: 16 + tall * group, width: side - 0.5, height: tall - 0.5 }));
        }
    });
    mask.again();
  };
  const choose = async () => {
    map = await load(maps[run.value], layouts);
    slider.max = map.stages.length - 1;
    if (container.hidden) slider.value = slider.max;
    const kept = layer.value || map.targets.length - 1;
    layer.replaceChildren(...map.targets.map((target, i) => new Option(target.label, i)));
    layer.value = Math.min(kept, map.targets.length - 1);
    drawNetwork();
    colourNetwork();
    drawMask();
    container.hidden = false;
  };
  run.onchange = choose;
  value.onchange = colourNetwork;
  layer.onchange = drawMask;
  slider.oninput = () => { colourNetwork(); drawMask(); };
  const pick = () => { layer.value = network.state.at?.split(",")[0] ?? layer.value; drawMask(); };
  network.svg.onclick = pick;
  network.element.addEventListener("keydown", (event) => event.key === "Enter" && pick());

  const scale = draw("svg", { width: 230, height: 16, "aria-hidden": "true" });
  VIRIDIS.forEach((fill, i) => scale.append(draw("rect", { x: 30 + 10 * i, y: 2, width: 10, height: 12, fill })));
  const most = draw("text", { x: 196, y: 12 });
  scale.append(draw("text", { x: 24, y: 12, "text-anchor": "end" }, "0"), most);
  container.append(
    create("div", { className: "controls" }, control("Run", run), control("Colour", value), control("Stage", slider), stage, scale),
    network.element, network.readout,
    create("h4", {}, control("One layer in full:", layer)), mask.element, mask.readout);
  slider.setAttribute("aria-label", `Stage of ${name}`);
  return choose();
}

const packed = JSON.parse(document.getElementById("maps").textContent);
for (const container of document.querySelectorAll(".map")) {
  interactive(container, packed[container.dataset.maps.replace("study-", "")]).then(() => {
    container.nextElementSibling.open = false;
  }, () => { container.hidden = true; }); // an old browser cannot unpack it: all stages stand side by side below
}

// Table of contents

const bar = document.querySelector(".bar");
bar.addEventListener("click", (event) => { if (event.target.closest("a")) bar.open = false; });
bar.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  bar.open = false;
  bar.querySelector("summary").focus();
});
const linked = [...document.querySelectorAll("main :is(h2, h3)[id]")];
const passed = new IntersectionObserver(() => {
  const above = linked.filter((heading) => heading.getBoundingClientRect().top < innerHeight / 3);
  for (const link of document.querySelectorAll(".contents a")) {
    const here = link.hash === `#${(above.at(-1) ?? linked[0]).id}`;
    if (here) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
  }
}, { rootMargin: "0px 0px -67% 0px" });
linked.forEach((heading) => passed.observe(heading));

// Print what is collapsed too, but not the data of figures and single runs: these are thousands of rows

let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open], .data, .run)")];
  opened.forEach((details) => { details.open = true; });
});
addEventListener("afterprint", () => opened.forEach((details) => { details.open = false; }));
