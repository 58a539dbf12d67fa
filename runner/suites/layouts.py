"""Where a table's entries stand and what makes each of them: its YAML as places and as the lines of the printed page. Nothing here composes or runs.

Layouts. `networks` (the IMC paper): a row for each method, several metrics for each network. `grid` (the sketching paper): one number an entry; panels,
networks, densities and methods are laid out along rows and columns as the YAML says. `matrix`: a row for each method on each data set, a column for each value
of an option. `blocks` (the jackpots paper): blocks of rows, each of a network or a density; what a column shows may be another number of the same runs.
`settings`: a line for each hyper-parameter, read from the configuration. `figure`: a place for each point of each series, no page.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

from runner.suites.page import Key, Line, Page, Place

HEADS = {"sparsity": "Sparsity", "accuracy": "Accuracy", "epochs": "Epoch", "runtime_s": "Runtime (s)"}
STUBS = {"network": "Model", "density": "Density", "method": "Model"}  # heads of the columns that hold labels


def lay_out(spec: dict[str, Any], setting: dict[str, Any], networks: dict[str, str]) -> tuple[list[Place], Page]:
    """The places of a table and its page.

    Args:
        spec: the table's YAML.
        setting: the part of it for the data set that was asked.
        networks: printed name -> model, those that were chosen.
    """
    layouts = {"networks": _by_network, "grid": _grid, "matrix": _matrix, "blocks": _blocks, "settings": _settings, "figure": _figure}
    return layouts[spec["layout"]](spec, setting, networks)


def _by_network(spec: dict[str, Any], setting: dict[str, Any], networks: dict[str, str]) -> tuple[list[Place], Page]:
    order, metrics = list(setting["networks"]), spec["metrics"]
    held_out = ["dataset.validation=0.1"] if "best_of" in spec and spec["select_on"] == "validation" else []
    places = []
    for row, (network, model) in product(spec["rows"], networks.items()):
        special = [word for rule in setting.get("where", []) if applies(rule, spec) for word in rule["overrides"]]
        words = (*setting["overrides"], *special, *held_out, f"model={model}", *row["overrides"])
        densities = spec.get("best_of", {}).get(row["label"]) or ([row["density"][order.index(network)]] if "density" in row else [])
        labels = {"network": network, "method": row["label"]}
        places.append(Place((row["label"], network), network, words, tuple(densities), (row["label"], network), labels=labels))
    heads = ((("Neural Network", 1), *((n, len(metrics)) for n in networks)), (("Metric", 1), *((HEADS[m], 1) for _ in networks for m in metrics)))
    lines = tuple(Line((r["label"],), tuple(((r["label"], n), m) for n in networks for m in metrics)) for r in spec["rows"])
    return places, Page(heads, lines, ("method", "architecture"))


def _grid(spec: dict[str, Any], setting: dict[str, Any], networks: dict[str, str]) -> tuple[list[Place], Page]:
    panels, methods = setting.get("panels", spec["panels"]), [m for m in spec["methods"] if applies(m, spec)]
    values: dict[str, list[Any]] = {"network": list(networks), "density": spec["densities"], "method": methods}
    rows, columns = (list(product(*(values[axis] for axis in spec[side]))) for side in ("rows", "columns"))
    places, lines = [], []
    for panel in panels:
        lines += [Line((panel["label"],))] if len(panels) > 1 else []
        for above, row in zip([None, *rows], rows, strict=False):
            row_key = " ".join((panel["label"], *map(_label, row)))
            keys = [(row_key, " ".join(map(_label, column))) for column in columns]
            for key, column in zip(keys, columns, strict=True):
                at = dict(zip((*spec["rows"], *spec["columns"]), (*row, *column), strict=True))
                places.append(_grid_place(key, at, panel, spec, setting, networks))
            same = above is not None and len(row) > 1 and above[0] == row[0]  # a net's name is printed once for its lines
            labels = ("" if same else _label(row[0]), *map(_label, row[1:]))
            lines.append(Line(labels, tuple((key, "accuracy") for key in keys)))
    paper = ("dataset", "architecture", "method", "variant", "density")
    return places, Page(tuple(_grid_heads(spec, columns)), tuple(lines), paper)


def _grid_heads(spec: dict[str, Any], columns: list[tuple[Any, ...]]) -> Iterator[tuple[tuple[str, int], ...]]:
    """A header line for each axis of the columns; labels over equal neighbours are printed once."""
    stubs = tuple((STUBS[axis], 1) for axis in spec["rows"])
    for depth, axis in enumerate(spec["columns"]):
        labels = [_label(column[depth]) for column in columns]
        if depth + 1 < len(spec["columns"]):
            width = len(columns) // len(dict.fromkeys(labels))
            yield (*stubs, *((label, width) for label in dict.fromkeys(labels)))
        else:
            yield (*(stubs if len(spec["columns"]) == 1 else tuple((STUBS[axis], 1) for _ in stubs)), *((label, 1) for label in labels))


def _grid_place(key: Key, at: dict[str, Any], panel: dict[str, Any], spec: dict[str, Any], setting: dict[str, Any], networks: dict[str, str]) -> Place:
    method, network, density = at["method"], at["network"], at["density"]
    special = _special(panel, network, method, spec, setting)
    words = (*setting["overrides"], *panel["overrides"], f"model={networks[network]}", *method["overrides"], *special)
    printed = method.get("paper", (method["label"], ""))
    labels = {"panel": panel["label"], "network": network, "method": method["label"], "density": _label(density)}
    return Place(key, network, words, (density,), (panel["paper"], network, *printed, f"{density:g}"), labels=labels)


def _matrix(spec: dict[str, Any], setting: dict[str, Any], networks: dict[str, str]) -> tuple[list[Place], Page]:
    """Rows are methods on data sets (`panels`) and nets; what names an entry's line in the CSV is said by its data set, method and column together."""
    columns, metric = spec["columns"], "parts" if "parts" in spec else "accuracy"
    panels = [panel for panel in setting.get("panels", spec["panels"]) if applies(panel, spec)]
    places, lines = [], []
    for panel, method, (network, model) in product(panels, spec["methods"], networks.items()):
        row = spec["row"].format(method=method["label"], dataset=panel["label"]) + (f", {network}" if len(networks) > 1 else "")
        for column in columns:
            special = _special(panel, network, method, spec, setting)
            words = (*setting["overrides"], *panel["overrides"], f"model={model}", *method["overrides"], *column["overrides"], *special)
            said = {"architecture": spec.get("paper_networks", {}).get(network), **panel["paper"], **method.get("paper", {}), **column["paper"]}
            densities = (panel["density"],) if "density" in panel else ()
            labels = {"panel": panel["label"], "network": network, "method": method["label"], "column": column["label"]}
            places.append(Place((row, column["label"]), network, words, densities, tuple(said[name] for name in spec["paper_line"]), labels=labels))
        lines.append(Line((row,), tuple(((row, column["label"]), metric) for column in columns)))
    over = [((spec["over"][0], 1), (spec["over"][1], len(columns)))] if "over" in spec else []
    return places, Page((*over, ((spec["stub"], 1), *((column["label"], 1) for column in columns))), tuple(lines), tuple(spec["paper_line"]))


def _blocks(spec: dict[str, Any], setting: dict[str, Any], networks: dict[str, str]) -> tuple[list[Place], Page]:
    """The rows come again in each block, which has a network or a density of its own."""
    columns, places, lines = spec["columns"], [], list[Line]()
    for block in (block for block in spec["blocks"] if block.get("network", next(iter(networks))) in networks):
        lines += [Line((block["label"],))] if "label" in block else []
        for i, row in enumerate(row for row in spec["rows"] if applies(row, spec)):
            found = _block_row(row, {"network": next(iter(networks)), **block}, spec, setting, networks)
            shown = {place.key[1]: place.key for place in found}
            # A column without a density shows more of the row's first entry; a dense net has one entry, under the first column.
            first = next(iter(shown.values()))
            keys = [shown.get(_at(c["density"]), first if j == 0 else None) if "density" in c else first for j, c in enumerate(columns)]
            entries = tuple((key, column["metric"]) if key else None for key, column in zip(keys, columns, strict=True))
            lines.append(Line((row["label"].format(network=found[0].network),), entries, begins=i == 0 and bool(lines) and "label" not in block))
            places += found
    return places, Page((((spec["stub"], 1), *((column["label"], 1) for column in columns)),), tuple(lines), tuple(spec["paper_line"]))


def _block_row(row: dict[str, Any], block: dict[str, Any], spec: dict[str, Any], setting: dict[str, Any], networks: dict[str, str]) -> list[Place]:
    """A place for each density of a row in a block."""
    network = block["network"]
    label = row["label"].format(network=network)
    name = ", ".join(filter(None, (block.get("label", network), label, row.get("name"))))
    own = [] if row.get("dense") else block.get("overrides", [])
    words = (*setting["overrides"], *own, f"model={networks[network]}", *row["overrides"])
    special = _special(block, network, {"label": label}, spec, setting)
    places = []
    for density in [None] if row.get("dense") else [column["density"] for column in spec["columns"] if "density" in column] or [block["density"]]:
        said = {"architecture": network, "sparsity": f"{1 - density:g}" if density else "", **block.get("paper", {}), **row["paper"]}
        paper = tuple(said[key].format(network=network) for key in spec["paper_line"])
        labels = {"panel": block.get("label", ""), "network": network, "method": ", ".join(filter(None, (label, row.get("name")))), "density": _at(density)}
        own_density = (density,) if density else ()
        places.append(Place((name, _at(density)), network, (*words, *special), own_density, paper, quoted=row.get("quoted", False), labels=labels))
    return places


def _at(density: float | None) -> str:
    return "dense" if density is None else f"{density:g}"


def _special(panel: dict[str, Any], network: str, method: dict[str, Any], spec: dict[str, Any], setting: dict[str, Any]) -> list[str]:
    """The overrides of the rules that are for this entry, of the table and of the data set asked."""
    rules = (*spec.get("where", []), *setting.get("where", []))
    return [word for rule in rules if _matches(rule, panel, network, method, spec) for word in rule["overrides"]]


def _settings(spec: dict[str, Any], setting: dict[str, Any], networks: dict[str, str]) -> tuple[list[Place], Page]:
    """A line for each hyper-parameter: nothing is run for it."""
    places, lines = [], list[Line]()
    for group in spec["groups"]:
        for i, row in enumerate(row for row in group if applies(row, spec)):
            key = row["label"], "Value"
            reads = tuple((row["reads"], tuple(words)) for words in row.get("under", [[]]))
            places.append(Place(key, "", tuple(setting["overrides"]), (), (row["label"],), reads))
            lines.append(Line((row["label"],), ((key, "value"),), begins=i == 0))
    return places, Page(((("Parameter", 1), ("Value", 1)),), tuple(lines), ("parameter",))


def _figure(spec: dict[str, Any], setting: dict[str, Any], networks: dict[str, str]) -> tuple[list[Place], Page]:
    """Rows are the series of the panels, columns their points."""
    places = []
    for panel in setting.get("panels", spec["panels"]):
        for series, (network, model) in product(panel["series"], networks_of(panel, networks).items()):
            row = series_key(panel["label"], series["label"], network)
            special = [w for rule in setting.get("where", []) if _matches(rule, panel, network, series, spec) for w in rule["overrides"]]
            for point, words in points_of(panel, series).items():
                own = (*panel.get("overrides", []), *series["overrides"], *special)
                places.append(Place((row, point), network, (*setting["overrides"], f"model={model}", *own, *words), (), ()))
    return places, Page((), (), ())


def series_key(panel: str, series: str, network: str) -> str:
    """The row of a figure's series among its cells."""
    return f"{panel} {series} {network}"


def networks_of(panel: dict[str, Any], networks: dict[str, str]) -> dict[str, str]:
    """Those of the figure's networks that a panel shows: all, or the printed names that it lists."""
    return {name: model for name, model in networks.items() if name in panel.get("networks", networks)}


def points_of(panel: dict[str, Any], series: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """The points of a series, name -> overrides: its own `points`, or those of its panel.

    Without `points: {KEY: [VALUE, ...]}` there is one, made by the series' overrides alone; several keys make a grid. `points: {WORDS: {VALUE: [overrides],
    ...}}` is for what is no key: the words name the points, whose overrides are given.
    """
    points = series.get("points", panel.get("points", {}))
    if not points:
        return {"=": ()}
    key, values = next(iter(points.items()))
    if isinstance(values, dict):
        return {f"{key}={value}": tuple(words) for value, words in values.items()}
    grid = (tuple(f"{key}={value}" for key, value in zip(points, values, strict=True)) for values in product(*points.values()))
    return {" ".join(words): words for words in grid}


def _matches(rule: dict[str, Any], panel: dict[str, Any], network: str, method: dict[str, Any], spec: dict[str, Any]) -> bool:
    """Whether a rule of `where` is for this entry: keys that it leaves out match all; of a figure `method` is the series."""
    inside = rule.get("panel", panel.get("label")) == panel.get("label") and rule.get("network", network) == network
    return inside and method["label"].startswith(rule.get("method", "")) and applies(rule, spec)


def applies(item: dict[str, Any], spec: dict[str, Any]) -> bool:
    """Whether the table's options have the values that `when` asks for."""
    return all(spec[key] == value for key, value in item.get("when", {}).items())


def _label(value: Any) -> str:
    return value["label"] if isinstance(value, dict) else f"{100 * value:g} %" if isinstance(value, float) else str(value)
