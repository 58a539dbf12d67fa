"""The content of the files of finished runs, as types (docs/records.md).

They cost nothing at run time: a record is the dict that JSON gives. Readers check it against the
same declarations (`runner.records.fields`), so that behind them every key and type holds. The keys
of a class with `total=False` may be absent.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias, TypedDict

from pruners.declared import Finding
from runner.spec.record_values import (
    LIST,
    MAPPING,
    MAPPINGS_OR_NULL,
    Amounts,
    AtLeast0,
    AtLeast1,
    EpochKind,
    Findings,
    Moment,
    Numbers,
    Percent,
    Positive,
    Schema,
    Share,
    SomeShare,
    Status,
    Text,
    TextList,
    TextMaps,
    Texts,
    TextsOrNull,
    Truth,
    Truths,
    Whole,
    WholeNumbers,
)

Config: TypeAlias = Mapping[str, Any]  # a configuration: what the user's YAML has is not known here
Report: TypeAlias = Mapping[str, Finding]  # what the stages found; methods choose the names
Series: TypeAlias = Mapping[str, Sequence[float]]  # the content of series.json


class Flops(TypedDict):
    """Multiply-accumulates of the forward pass of an example."""

    dense: AtLeast0
    nonzero: AtLeast0 | None
    unit: Text


# Channels of the widest hidden layer, of a narrower form and of the whole net.
Narrowed = TypedDict("Narrowed", {"widest": AtLeast1, "from": AtLeast1})


class OwnImages(TypedDict):
    """What was found in the user's own files of images."""

    content: Text
    channels: Whole
    height: Whole
    width: Whole
    train: Whole
    validation: Whole
    test: Whole
    classes: TextList
    scale: Positive
    mean: Numbers
    std: Numbers


class _StageOfMixed(TypedDict, total=False):
    origin: Whole


class RecordedStage(_StageOfMixed):
    """A stage of a run. `origin` is an index of the provenance's `origins`."""

    name: Text
    key: Text
    cached: Truth
    epochs: Whole
    seconds: AtLeast0


class RecordedCpu(TypedDict):
    """A kind of processor: see `runner.records.provenance.Cpu`."""

    name: Text
    capability: Text
    instruction_sets: TextList
    libraries: Texts


class _OriginLater(TypedDict, total=False):  # absent before version 0.2.0
    installed: TextsOrNull
    versions: Texts
    device: Text
    host: Text
    cuda: Text | None
    cpu: Annotated[RecordedCpu, MAPPING]
    processes: AtLeast1
    determinism: Truths


class RecordedOrigin(_OriginLater):
    """How a stage was computed: see `runner.records.provenance.Origin`."""

    git_sha: Text | None
    git_dirty: Truth | None
    device_name: Text
    threads: AtLeast1


class ProvenanceIfAny(TypedDict, total=False):
    """What the provenance of some records has. `origins`: only if those of the stages differ."""

    origins: Annotated[list[RecordedOrigin | None], MAPPINGS_OR_NULL]
    own: TextMaps
    started: Moment
    memory_gb: Positive | None
    command: Text
    checksum: Text
    dataset_checksum: Text | None
    profile: Amounts
    files: Texts


class Provenance(RecordedOrigin, ProvenanceIfAny):
    """By which code, with what and when the numbers of a record were computed."""

    precision: Text
    numerics: WholeNumbers
    finished: Moment


class RunSettings(TypedDict):
    """What was run."""

    method: Text
    label: Text
    dataset: Text
    train_fraction: SomeShare
    model: Text
    seed: Whole
    density_target: SomeShare | None


class Occasional(TypedDict, total=False):
    """What only some runs have: images of the user's own, a narrower form of the net."""

    narrowed: Annotated[Narrowed, MAPPING]
    data: Annotated[OwnImages, MAPPING]


class Counts(TypedDict):
    """Weights and multiply-accumulates."""

    density: Share | None
    sparsity: Share | None
    prunable: Whole | None
    kept: Whole | None
    flops: Annotated[Flops, MAPPING]


class TrainingCost(TypedDict, total=False):
    """What the result cost. Earlier records lack it."""

    train_flops: Whole | None
    train_flops_ratio: AtLeast0 | None


class Accuracies(TypedDict):
    """Results on held-out images."""

    accuracy: Percent | None
    accuracy_best: Percent | None
    accuracy_top5: Percent | None
    test_loss: AtLeast0 | None
    val_accuracy: Percent | None


class EpochCounts(TypedDict):
    """Epochs of the paper's column and of all stages."""

    epochs: Whole
    epochs_total: Whole
    epoch_kind: EpochKind


class Record(RunSettings, Occasional, Counts, TrainingCost, Accuracies, EpochCounts):
    """The content of result.json."""

    schema: Schema
    run_id: Text
    status: Status
    scale: Positive
    runtime_s: AtLeast0
    wall_s: AtLeast0
    stages: Annotated[list[RecordedStage], LIST]
    report: Findings
    provenance: Annotated[Provenance, MAPPING]


def origins_of(provenance: Provenance) -> Sequence[RecordedOrigin | None]:
    """How the stages of a record were computed: each way once, None where no record states it.

    Without `origins`, that is the provenance of all stages.
    """
    origins = provenance.get("origins")
    return [provenance] if origins is None else origins


def single_values(record: Mapping[str, object]) -> dict[str, Finding]:
    """The fields of a record or a row that are no parts: for names that come from a file."""
    return {
        name: value
        for name, value in record.items()
        if value is None or isinstance(value, (int, float, str))
    }


class Epoch(TypedDict, total=False):
    """An epoch of a training. None is not tested, or not finite."""

    epoch: Whole
    lr: AtLeast0 | None
    train_loss: AtLeast0 | None
    test_loss: AtLeast0 | None
    accuracy: Percent | None
    accuracy_top5: Percent | None
    val_accuracy: Percent | None
    density: Share | None


class Row(Epoch):
    """A line of metrics.jsonl: an epoch of the training of a stage."""

    stage: Text


class RunStatus(TypedDict, total=False):
    """The content of status.json. The keys from `epoch` on are those of a stage that trains."""

    run_id: str
    status: str
    stage: str
    since: float
    updated: float
    epoch: int
    epochs: int
    loss: float
    accuracy: float


class _LineOfFigure(TypedDict, total=False):
    series: Series
    history: list[Row]


class Line(_LineOfFigure):
    """A line of a packed file: a finished run."""

    run_id: str
    config: Config
    record: Record
    checksum: str
