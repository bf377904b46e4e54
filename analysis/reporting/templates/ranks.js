// Ranks of a group's inputs over the epochs: lines that end where they are pruned.

/** Unpack ranks: by layer the rank of each connection at every moment, 0 once it is dead, and its margin. */
async function loadRanks({ epochs, targets, ranks, margins }) {
  const bytes = new Uint8Array(await unpack(ranks)), thousandths = new Int16Array(await unpack(margins));
  const half = bytes.length / 2;
  let at = 0, from = 0;
  return targets.map((target) => {
    const inputs = target.sources.at(-1)[2], size = target.groups * inputs;
    const rank = epochs.map(() => new Uint16Array(size));
    rank.forEach((now, moment) => now.forEach((_, place) => {
      now[place] = (moment ? rank[moment - 1][place] : 0) + bytes[at] + 256 * bytes[half + at++];
    }));
    from += size;
    return { ...target, inputs, rank, margin: thousandths.subarray(from - size, from) };
  });
}

const epochName = (epoch) => (Number.isInteger(epoch) ? `${epoch}` : epoch.toFixed(2));

async function rankLines(container, packed) {
  const targets = await loadRanks(packed), { epochs, stages } = packed;
  const last = epochs.length - 1, end = epochs[last] || 1;
  const layer = create("select", {}, ...targets.map((target, place) => new Option(target.label, place)));
  const group = create("select");
  const slider = create("input", { type: "range", min: 0, max: last, value: last, ariaLabel: "Epoch" });
  const when = create("output"), readout = create("output", { className: "readout" });
  const svg = draw("svg", { "aria-hidden": "true" });
  const board = create("div", { className: "board", tabIndex: 0,
    ariaLabel: "Ranks of the inputs of a group over the epochs; up and down choose an input, left and right a moment" }, svg);
  board.setAttribute("role", "application");
  const at = { input: null, moment: last };

  const target = () => targets[layer.value];
  const rankOf = (input, moment) => target().rank[moment][group.value * target().inputs + input];
  const alive = (moment) => Array.from({ length: target().inputs }, (_, input) => input).filter((input) => rankOf(input, moment));
  const width = Math.max(300, Math.min(760, document.documentElement.clientWidth - 40)), height = 380;
  const left = 44, top = 10, right = width - 12, bottom = height - 36;
  const x = (moment) => left + (right - left) * epochs[moment] / end;
  const y = (rank) => top + (bottom - top) * (rank - 1) / Math.max(1, target().inputs - 1);
  const pointsOf = (input, to) => epochs.map((_, moment) => moment).filter((moment) => moment <= to && rankOf(input, moment))
    .map((moment) => `${x(moment).toFixed(1)},${y(rankOf(input, moment)).toFixed(1)}`).join(" ");
  const deathOf = (input) => { // the moment at which it was pruned
    let moment = last;
    while (moment >= 0 && !rankOf(input, moment)) moment--;
    return moment === last ? null : moment;
  };

  const describe = (input, moment) => {
    const { label, inputs, sources, margin } = target(), far = margin[group.value * inputs + input] / 10;
    const [source, first] = sources.find(([, , to]) => input < to), death = deathOf(input);
    const side = far === -3276.8 ? "" : `, ${Math.abs(far).toFixed(1)} % ${far < 0 ? "below" : "above"} the last one kept`;
    const fate = death === null ? `alive to the end${side}`
      : `pruned after ${epochName(epochs[death])} epochs (stage ${stages[death]}) on rank ${rankOf(input, death)} of ${alive(death).length}${side}`;
    return `Layer ${label}, group ${group.value}, input ${input} (channel ${input - first} of ${source}): rank ${rankOf(input, moment)} of ${alive(moment).length} after ${epochName(epochs[moment])} epochs; ${fate}`;
  };

  const mark = () => {
    svg.querySelectorAll(".cursor").forEach((element) => element.remove());
    if (at.input === null) return void (readout.textContent = "");
    svg.append(draw("polyline", { class: "cursor", points: pointsOf(at.input, last) }),
      draw("circle", { class: "cursor", cx: x(at.moment), cy: y(rankOf(at.input, at.moment)), r: 4 }));
    readout.textContent = describe(at.input, at.moment);
  };
  const nearest = (moment, rank) => alive(moment).reduce((best, input) =>
    (Math.abs(rankOf(input, moment) - rank) < Math.abs(rankOf(best, moment) - rank) ? input : best));

  const show = () => {
    const now = Number(slider.value), { inputs } = target();
    when.textContent = `${epochName(epochs[now])} epochs${stages[now] === null ? "" : ` (stage ${stages[now]} starts)`}`;
    slider.setAttribute("aria-valuetext", when.textContent);
    svg.replaceChildren();
    Object.entries({ width, height, viewBox: `0 0 ${width} ${height}` }).forEach(([key, text]) => svg.setAttribute(key, text));
    stages.forEach((stage, moment) => stage && svg.append(draw("line", { class: "entry", x1: x(moment), x2: x(moment), y1: top, y2: bottom })));
    const isDead = (input) => now < last ? !rankOf(input, now) : deathOf(input) !== null;
    const order = Array.from({ length: inputs }, (_, input) => input).sort((a, b) => isDead(b) - isDead(a));
    for (const input of order) {
      svg.append(draw("polyline", { class: isDead(input) ? "dead" : "alive", points: pointsOf(input, now) }));
      const death = deathOf(input);
      if (death !== null && death <= now) svg.append(draw("circle", { class: "death", cx: x(death), cy: y(rankOf(input, death)), r: 2.2 }));
    }
    svg.append(draw("line", { class: "now", x1: x(now), x2: x(now), y1: top, y2: bottom }));
    for (const rank of [1, Math.ceil(inputs / 4), Math.ceil(inputs / 2), inputs])
      svg.append(draw("text", { x: left - 6, y: y(rank) + 3.5, "text-anchor": "end" }, rank));
    for (const share of [0, 0.25, 0.5, 0.75, 1])
      svg.append(draw("text", { x: left + (right - left) * share, y: bottom + 16, "text-anchor": "middle" }, epochName(end * share)));
    svg.append(draw("text", { x: (left + right) / 2, y: height - 4, "text-anchor": "middle" }, "epoch"),
      draw("text", { x: 12, y: (top + bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${(top + bottom) / 2})` }, "rank among the group's inputs"));
    at.moment = Math.min(at.moment, now);
    if (at.input !== null && !rankOf(at.input, at.moment)) at.moment = deathOf(at.input);
    mark();
  };
  const chooseLayer = () => {
    const kept = group.value || 0;
    group.replaceChildren(...Array.from({ length: target().groups }, (_, place) => new Option(place, place)));
    group.value = Math.min(kept, target().groups - 1);
    at.input = null;
    show();
  };

  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect(), across = (event.clientX - box.left) * width / box.width;
    let moment = 0;
    for (let other = 0; other <= Number(slider.value); other++)
      if (Math.abs(x(other) - across) < Math.abs(x(moment) - across)) moment = other;
    const up = (event.clientY - box.top) * height / box.height;
    at.input = nearest(moment, 1 + (target().inputs - 1) * (up - top) / (bottom - top));
    at.moment = moment;
    mark();
  });
  board.addEventListener("keydown", (event) => {
    const [aside, down] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    if (!aside && !down) return;
    event.preventDefault();
    if (at.input === null) at.input = nearest(at.moment, 1);
    else if (down) at.input = nearest(at.moment, Math.max(1, Math.min(alive(at.moment).length, rankOf(at.input, at.moment) + down)));
    else if (rankOf(at.input, at.moment + aside < 0 || at.moment + aside > slider.value ? at.moment : at.moment + aside))
      at.moment = Math.max(0, Math.min(Number(slider.value), at.moment + aside));
    mark();
  });
  layer.onchange = chooseLayer;
  group.onchange = () => { at.input = null; show(); };
  slider.oninput = show;
  const control = (text, element) => create("label", {}, `${text} `, element);
  container.append(create("div", { className: "controls" },
    control("Layer", layer), control("Group", group), control("Epoch", slider), when), board, readout);
  layer.value = targets.length - 1;
  chooseLayer();
  container.hidden = false;
}

const packedRanks = JSON.parse(document.getElementById("ranks").textContent);
for (const container of document.querySelectorAll(".lines")) {
  rankLines(container, packedRanks[container.dataset.ranks.replace("study-", "")]).then(() => {
    container.nextElementSibling.open = false;
  }, () => { container.hidden = true; }); // an old browser cannot unpack them: one group stands below
}
