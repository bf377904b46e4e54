"""Five figures of `plots` drawn again as plain SVG, from the same frames, in the same order and colours.

They exist only for speed: the explorer has to show a change within 0.3 s, and a figure of `plots` takes half a
second. One of these takes some milliseconds. A test compares them with the figures.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import to_hex, to_rgb

from analysis import plots
from analysis.frames import LayerRanks, ReadingLayer
from analysis.plots import COLOURS, FAINT, GREY, OPERATORS, PRUNED, cost_parts, heat, place_name, thinned

from .svg import Box, Look, label, legend, names_at, numbers_at, picture


def draw_connections(connections: pd.DataFrame) -> str:
    """Draw source layers down, target layers across, of one stage: `plots.pruned_connections` as SVG."""
    targets, sources = (list(dict.fromkeys(connections[name])) for name in ("target", "source"))
    shares = np.full((len(sources), len(targets)), np.nan)
    shares[connections.source.map(sources.index), connections.target.map(targets.index)] = connections.alive
    box = Box(56, 6, 320, 290, (-0.5, len(targets) - 0.5), (len(sources) - 0.5, -0.5))
    scale = Box(394, 6, 10, 290)
    blocks = dict(zip(connections.target, connections.block, strict=True))
    alive = (connections.alive * connections.connections).sum() / connections.connections.sum()
    drawn = [
        box.pixels(heat()(np.ma.masked_invalid(shares))),
        *(box.line((x, x), box.up, RULE) for x in _block_ends(targets, blocks)),
        *(box.line(box.across, (y, y), RULE) for y in _block_ends(sources, blocks)),
        box.below(names_at(targets, 14), turned=True) + box.beside(names_at(sources, 14)),
        label(216, 352, "target layer") + label(12, 150, "source layer", turned=True),
        scale.pixels(heat()(np.linspace(1, 0, 64))[:, None]),
        label(409, 15, "1", "start") + label(409, 154, "½", "start") + label(409, 296, "0", "start"),
        label(436, 150, "share alive", turned=True),
    ]
    return picture(440, 358, drawn, f"{alive:.0%} of the connections are alive")


def _block_ends(labels: list[str], blocks: dict[str, int]) -> list[float]:
    """Return the positions between labels at which a block ends; the stem is not in a block."""
    pairs = enumerate(itertools.pairwise(labels))
    return [place + 0.5 for place, (a, b) in pairs if a != "stem" and blocks.get(a) != blocks.get(b)]


def draw_mask(layer: ReadingLayer, died: np.ndarray) -> str:
    """Draw groups down, input channels across, alive or the stage of death: `plots.layer_connections` as SVG.

    `died` is (groups, in_channels), −1 if a connection is alive.
    """
    (groups, channels), alive = died.shape, died == -1
    high = float(np.clip(14 * groups, 40, 170))
    edges: Any = {"across": (-0.5, channels - 0.5), "up": (groups - 0.5, -0.5)}
    above, below = Box(40, 40, 980, high, **edges), Box(40, high + 66, 980, high, **edges)
    fates, key = _fates(died, 2 * high + 106)
    ends = [last - 0.5 for _, _, last in layer.sources[:-1]]
    said = f"layer {layer.label}: {alive.sum()} of {alive.size} connections are alive"
    drawn = [
        label(530, 14, f"{said}, in the colours of their source layers"),
        above.pixels(_by_source(layer, alive)) + _source_names(layer, above),
        label(530, high + 58, "when the others were pruned"),
        below.pixels(fates) + below.below(names_at(range(channels), 20)) + key,
        *(box.line((x, x), box.up, RULE) for box in (above, below) for x in ends),
        *(box.beside(names_at(range(groups), 8)) for box in (above, below)),
        *(label(12, box.top + high / 2, "group", turned=True) for box in (above, below)),
    ]
    return picture(1040, 2 * high + 114, drawn, said)


def _by_source(layer: ReadingLayer, alive: np.ndarray) -> np.ndarray:
    """Colour live connections by their source, later layers lighter: (groups, in_channels, 3)."""
    widths = [last - first for _, first, last in layer.sources]
    colours = np.repeat(sns.color_palette("viridis", len(widths)), widths, axis=0)
    return np.where(alive[:, :, None], colours, to_rgb(FAINT))


def _source_names(layer: ReadingLayer, box: Box) -> str:
    shown = (layer.sources[place] for place in thinned([name for name, _, _ in layer.sources], 30)[0])
    return "".join(label(box.x((first + last - 1) / 2), box.top - 5, name) for name, first, last in shown)


def _fates(died: np.ndarray, y: float) -> tuple[np.ndarray, str]:
    """Colour every connection by the stage in which it died, and draw the legend at `y`."""
    stages = sorted(set(died.ravel().tolist()) - {-1})
    colours = [*sns.color_palette("cividis", len(stages) + 1)[: len(stages)], to_rgb("#f2f2f2")]
    names = [*(f"at stage {stage}" if stage else "never existed" for stage in stages), "alive"]
    places = np.searchsorted([*stages, np.inf], np.where(died == -1, np.inf, died))
    return np.array(colours)[places], legend(40, y, names, [{"fill": to_hex(colour)} for colour in colours])


MOST_MOMENTS = 60  # of a line


def draw_ranks(found: LayerRanks, group: int, epoch: float) -> str:
    """Draw the ranks of a group's inputs up to an epoch, lines until they are pruned: `plots.ranks` as SVG."""
    shown = [place for place in found.spread(MOST_MOMENTS) if found.epochs[place] <= epoch]
    inputs, now = found.rank.shape[2], found.rank[shown[-1], group]
    box = Box(56, 26, 900, 300, (0, found.epochs[-1] or 1), (inputs + 0.5, 0.5))
    order = np.argsort(now > 0, kind="stable").tolist()  # those that live are drawn last
    entries = [found.epochs[place] for place in shown if found.stages[place]]
    said = (
        f"layer {found.layer.label}, group {group}: {np.count_nonzero(now)} of {inputs} inputs are alive "
        f"after {epoch:g} epochs"
    )
    drawn = [
        box.edges(str) + box.beside({rank: f"{rank}" for rank in sorted({1, -(-inputs // 2), inputs})}),
        box.below(numbers_at(box.across, plots.count)) + label(506, 356, "epoch") + label(956, 16, said, "end"),
        label(14, 176, "rank in the group", turned=True),
        *(box.line((entry, entry), box.up, ENTRY) for entry in entries),
        *(_rank_line(box, found, group, channel, shown) for channel in order),
        legend(56, 16, ["alive", "pruned where the line ends"], [CURVE, {"fill": GREY}]),
    ]
    return picture(980, 362, drawn, said)


def _rank_line(box: Box, found: LayerRanks, group: int, channel: int, shown: list[int]) -> str:
    """Draw the line of an input, with its numbers as a tooltip."""
    ranks = found.rank[:, group, channel]
    lived = [place for place in shown if ranks[place]]
    last = lived[-1]
    alive = last == shown[-1]
    look = {"stroke": to_hex(COLOURS[0] if alive else GREY), "stroke-width": "1.4" if alive else "0.9"}
    live = np.count_nonzero(found.rank[last, group])
    text = (
        f"input {channel} of {found.layer.source_of[channel]}: rank {ranks[last]} of {live} after "
        f"{found.epochs[last]:g} epochs" + ("" if alive else _margin_text(found, group, channel, last))
    )
    line = box.line([found.epochs[place] for place in lived], ranks[lived], look)
    return f"<g><title>{escape(text)}</title>{line}</g>"


def _margin_text(found: LayerRanks, group: int, channel: int, last: int) -> str:
    """Return how far an input that was pruned at a moment was from the last one kept."""
    importance, kept = found.importance[last, group], found.rank[last + 1, group] > 0
    margin = importance[channel] / importance[kept].min() - 1
    return f", then pruned: {margin:+.1%} of the importance of the last one kept"


def draw_costs(layers: pd.DataFrame) -> str:
    """Draw the MACs left in the last stage and those that each step removed: `plots.cost_by_layer` as SVG."""
    parts = cost_parts(layers)
    places = list(dict.fromkeys(place_name(layer) for layer in layers.layer[layers.macs > 0]))
    looks = _cost_looks(list(dict.fromkeys(parts.part)))
    high = parts.groupby("place").macs.sum().max()
    box = Box(56, 34, 570, 230, (-0.6, len(places) - 0.4), (0, 1.02 * high))
    drawn = [
        box.edges(plots.count),
        box.below(names_at(places, 30), turned=True),
        legend(56, 16, list(looks), looks.values()),
    ]
    tops = dict.fromkeys(places, 0)
    for row in parts.itertuples():
        label_text = f"{row.place}, {row.part}: {row.macs:,.0f} MACs"
        drawn.append(box.bar(places.index(row.place), tops[row.place], row.macs, looks[row.part], label_text))
        tops[row.place] += row.macs
    left = parts[~parts.part.str.startswith(PRUNED)].macs.sum()
    return picture(640, 330, drawn, f"{plots.count(left)} MACs, layer by layer")


def _cost_looks(parts: list[str]) -> dict[str, Look]:
    """Return the figure's colour of each part; pruned ones have that of the 1×1, earlier stages paler."""
    known = dict(zip(OPERATORS.values(), (COLOURS[1], COLOURS[2], COLOURS[0]), strict=True))
    known["linear"] = COLOURS[2]
    others = [part for part in parts if part not in known and not part.startswith(PRUNED)]
    known |= dict(zip(others, itertools.cycle(COLOURS[3:]), strict=False))
    return {part: {"fill": to_hex(known.get(part) or _pruned_colour(part))} for part in parts}


def _pruned_colour(part: str) -> Any:
    stage = int(part.removeprefix(PRUNED))
    return sns.light_palette(COLOURS[0], as_cmap=True)(stage / (stage + 2))


RULE: Look = {"stroke": "white", "stroke-width": "1.2"}
CURVE: Look = {"stroke": to_hex(COLOURS[0]), "stroke-width": "1.8"}
BATCHES: Look = {"stroke": GREY, "stroke-width": "1.5", "stroke-dasharray": "5 2"}
ENTRY: Look = {"stroke": GREY, "stroke-width": "0.9", "stroke-dasharray": "1 2"}


def draw_curves(epochs: pd.DataFrame, stages: pd.DataFrame, planned: int) -> str:
    """Draw loss, accuracy, learning rate and MACs over all `planned` epochs: `plots.run_life` as SVG."""
    done, split = epochs.epoch.max(), epochs.curves_on.iloc[0]
    entries = stages[~stages.stage.isin(["0", "end"])].epoch.tolist()
    drawn = [
        _curve_box(50 + 258 * place, max(planned, done), title, lines, entries)
        for place, (title, lines) in enumerate(_curve_lines(epochs, stages).items())
    ]
    names = ["training batches", f"{split} images", "dotted: a stage starts"]
    drawn.append(legend(50, 190, names, [{"fill": GREY}, CURVE, {"fill": "none"}]))
    said = f"Loss, accuracy, learning rate and MACs over {done} of {planned} epochs"
    return picture(1040, 198, drawn, said)


def _curve_lines(epochs: pd.DataFrame, stages: pd.DataFrame) -> dict[str, list[Any]]:
    """Return x, y and look of every line, by title."""
    rows = epochs.drop(columns=["run", "curves_on"]).astype(float)  # None in a diverged epoch becomes NaN
    x, end = rows.epoch, rows.epoch.max()
    batches, images = 100 - rows.train_error_percent, 100 - rows.curve_error_percent
    return {
        "loss": [(x, rows.train_loss, BATCHES), (x, rows.curve_loss, CURVE)],
        "accuracy (%)": [(x, batches, BATCHES), (x, images, CURVE)],
        "learning rate": [(x, rows.learning_rate, CURVE)],
        "MACs of the network": [(*_staircase(stages.epoch.tolist(), stages.macs.tolist(), end), CURVE)],
    }


def _curve_box(left: float, last: float, title: str, lines: list[Any], entries: list[float]) -> str:
    values = np.concatenate([np.asarray(y, float) for _, y, _ in lines])
    values = values[np.isfinite(values)]
    low, high = (values.min(), values.max()) if len(values) else (0, 0)
    up = (low - 1, 100) if "(%)" in title else (0, 1.05 * high or 1)
    box = Box(left, 24, 204, 124, (0, last), up)
    texts = [box.below(numbers_at(box.across, plots.count, integer=True)), label(left, 12, title, "start")]
    marks = [box.line((entry, entry), up, ENTRY) for entry in entries]
    return "".join([box.edges(plots.count), *texts, *marks, *(box.line(*line) for line in lines)])


def _staircase(starts: Sequence[float], values: Sequence[float], end: float) -> list[Sequence[float]]:
    """Return the corners (x, y) of a staircase: each value stays until the next one starts."""
    steps = list(zip(starts, [*starts, end][1:], values, strict=False))
    return [[x for start, stop, _ in steps for x in (start, stop)], [y for *_, y in steps for _ in range(2)]]
