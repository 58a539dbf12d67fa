"""The cost of stages: images, multiply-accumulates, bytes in the cache and time.

Times are extrapolated from measurements on this device. Nets are built without data. torch is
imported where something is to be computed: a plan of finished runs does not need it.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from pruners.declared import GRADIENT, Foreseen, Work
from runner.data.counts import training_images
from runner.errors import ConfigError
from runner.files import write_json
from runner.paths import typed
from runner.spec.findings import is_diverged
from runner.spec.network import prunable_weights, shapes_of
from runner.spec.record import Record, RecordedStage
from runner.spec.run import LOAD, Run, Stage, family, trains

BENCH = "bench.json"  # in the cache directory: what `make bench` measured
UNKNOWN = f"unknown: run {typed('bench')}, or state a card: card=h200"


class Throughput(TypedDict):
    """The speed of training that `make bench` measured for a size of images: a line of BENCH."""

    work: str
    precision: str
    size: int
    macs_per_image: int
    images_per_s: float
    macs_per_s: float


@dataclass(frozen=True)
class Net:
    """Sizes of a network for the images of a data set."""

    parameters: int
    prunable: int
    weight_bytes: int  # parameters and buffers
    parameter_bytes: int
    forward: int  # multiply-accumulates of one image, dense


def measure_net(dataset: Any, model: Any) -> Net:
    """The sizes of `model` for images of `dataset`, from shapes alone: no weight is initialized.

    Raises:
        ConfigError: the net does not accept such images.
    """
    from models.count import multiply_accumulates

    info = dataset.info()
    try:
        net = shapes_of(model, info)
    except ValueError as error:
        raise ConfigError(*str(error).splitlines()) from error
    parameters = list(net.parameters())
    return Net(
        parameters=sum(p.numel() for p in parameters),
        prunable=prunable_weights(net),
        weight_bytes=sum(t.numel() * t.element_size() for t in net.state_dict().values()),
        parameter_bytes=sum(p.numel() * p.element_size() for p in parameters),
        forward=multiply_accumulates(net, (info.channels, info.size, info.size))[0],
    )


@dataclass(frozen=True)
class Cost:
    """The cost of one stage; `passes` counts forward passes of one image, None if unknown."""

    images: int
    passes: int | None
    products: int
    macs: int
    bytes: int


def stage_cost(run: Run, stage: Stage, net: Net, snapshots: int) -> Cost:
    """The cost of computing `stage`, which keeps `snapshots` rewinding points.

    Training costs epochs x training images x (forward + backward). Evaluation is not counted.
    """
    info = run.dataset.info()
    images = training_images(info.train, run.train_fraction, run.dataset.validation)
    if stage.recipe:
        seen = trains(stage) * images
        state = net.parameter_bytes * stage.recipe.optimizer.tensors(stage.recipe.momentum)
        size = net.weight_bytes * (1 + snapshots) + net.prunable + state  # mask: 1 byte/weight
        return Cost(seen, seen * GRADIENT, 0, seen * GRADIENT * net.forward, size)
    if stage.kind == LOAD:  # only an evaluation, which is not counted
        return Cost(0, 0, 0, 0, net.weight_bytes + net.prunable)
    if stage.mask_file:
        return Cost(0, 0, 0, 0, net.prunable)
    if stage.kind != "measure":
        return Cost(0, None, 0, 0, net.weight_bytes + net.prunable)
    if not isinstance(stage.component, Foreseen):
        return Cost(0, None, 0, 0, 0)
    work: Work = stage.component.work(net.prunable, net.parameters, images)
    return Cost(work.images, work.passes, work.products, work.passes * net.forward, 4 * work.floats)


@dataclass
class Rate:
    """Seconds per amount of work, from observations."""

    seconds: float = 0.0
    amount: float = 0.0

    def add(self, seconds: float, amount: float) -> None:
        """Add an observation."""
        self.seconds, self.amount = self.seconds + seconds, self.amount + amount

    def of(self, amount: float) -> float | None:
        """Estimated seconds for `amount`; None without observations."""
        return self.seconds / self.amount * amount if self.amount else None


@dataclass
class Rates:
    """Speed of one type of machine.

    For training: seconds per multiply-accumulate. For other stages: seconds per multiply-accumulate
    of one image's forward pass.
    """

    device_name: str
    threads: int
    processes: int = 1
    records: int = 0
    # Keys: (precision,) and (precision, model, data set).
    training: dict[tuple[str, ...], Rate] = field(default_factory=dict)
    # Keys: (precision, method, stage family).
    others: dict[tuple[str, ...], Rate] = field(default_factory=dict)
    bench: Sequence[Throughput] = field(default_factory=list)

    def seconds(self, run: Run, stage: Stage, net: Net, cost: Cost) -> float | None:
        """Estimated seconds for `stage`.

        None if the cost of the stage is unknown or if there is no measurement to estimate it from.
        """
        precision = run.precision
        if not stage.recipe:
            known = self.others.get((precision, run.method, family(stage.name)))
            if known and known.amount:
                return known.of(net.forward)
        if cost.passes is None:
            return None
        for key in ((precision, run.model.name, run.dataset.name), (precision,)):
            if key in self.training:
                return self.training[key].of(cost.macs)
        rows = [row for row in self.bench if row["precision"] == precision]
        nearest = min(rows, key=lambda row: abs(row["macs_per_image"] - net.forward), default=None)
        return cost.macs / nearest["macs_per_s"] if nearest else None

    @property
    def origin(self) -> str:
        """The source of the estimate, for the plan."""
        source = f"{self.records} past records" if self.records else typed("bench")
        team = f" in each of {self.processes} processes" if self.processes > 1 else ""
        return f"estimate from {source} on {self.device_name}, {self.threads} thread(s){team}"


def past_rates(
    records: Iterable[Record],
    device_name: str,
    threads: int,
    cache_dir: Path | None = None,
    processes: int = 1,
) -> Rates:
    """The speed of finished runs on the same device with the same number of threads.

    The throughput that `make bench` measured is included, for when there are no such runs.

    Args:
        processes: processes that trained together.
    """
    from runner.data.catalog import data_sets  # imports torch

    machine = f"{device_name}, {threads} threads"
    bench = read_bench(cache_dir).get(machine, []) if cache_dir else []
    rates = Rates(device_name, threads, processes, bench=bench)
    images = {component.name: component.info().train for component in data_sets()}
    seen: set[str] = set()  # a shared stage was computed once
    for record in records:
        origin = record["provenance"]
        # Records without training do not need the number of images.
        known = _images(record, images) is not None or not record["epochs_total"]
        other = (origin["device_name"], origin["threads"], origin.get("processes", 1)) != (
            device_name,
            threads,
            processes,
        )
        # a narrower form is another net than the record's model
        if other or not known or is_diverged(record) or "narrowed" in record:
            continue
        rates.records += 1
        for stage in record["stages"]:
            if stage["key"] not in seen:
                seen.add(stage["key"])
                _add_stage(rates, record, stage, images)
    return rates


def _images(record: Record, images: dict[str, int]) -> int | None:
    """The number of training images of a record's data set; None if it is unknown.

    Records of the user's own images state it.
    """
    return record["data"]["train"] if "data" in record else images.get(record["dataset"])


def _add_stage(rates: Rates, record: Record, stage: RecordedStage, images: dict[str, int]) -> None:
    """Add the seconds of a recorded stage to `rates`; `images` by data set."""
    precision, forward = record["provenance"]["precision"], record["flops"]["dense"]
    if not stage["epochs"]:
        key = (precision, record["method"], family(stage["name"]))
        rates.others.setdefault(key, Rate()).add(stage["seconds"], forward)
        return
    total = _images(record, images) or 0
    passes = stage["epochs"] * total * record["train_fraction"] * GRADIENT
    for name in ((precision,), (precision, record["model"], record["dataset"])):
        rates.training.setdefault(name, Rate()).add(stage["seconds"], passes * forward)


def shipped_rates(records: Sequence[Record]) -> Rates:
    """The speed of the machine with the most records among `records`.

    It is used for the first plan on a machine without measurements.
    """
    origins = [record["provenance"] for record in records]
    machines = Counter((origin["device_name"], origin["threads"]) for origin in origins)
    if not machines:
        return Rates("none", 0)
    (name, threads), _ = machines.most_common(1)[0]
    return past_rates(records, name, threads)


def read_bench(cache_dir: Path) -> dict[str, list[Throughput]]:
    """Device and threads -> the rows that `make bench` measured."""
    path = cache_dir / BENCH
    found: dict[str, list[Throughput]] = (
        json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    )
    return found


def save_bench(cache_dir: Path, device_name: str, threads: int, rows: Sequence[Throughput]) -> None:
    """Save a device's throughput; the entries of other devices stay."""
    machine = f"{device_name}, {threads} threads"
    write_json(cache_dir / BENCH, {**read_bench(cache_dir), machine: list(rows)})
