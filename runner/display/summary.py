"""The summary that a finished run prints."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from rich.text import Text

from pruners.declared import Finding
from runner.spec.findings import (
    ACCURACY,
    CONNECTED,
    DIVERGED_EPOCH,
    DIVERGED_STAGE,
    DIVERGED_WHAT,
    FOUND,
    ORIGIN,
    REACHED,
    TOP5,
    errors,
    is_diverged,
    written,
)
from runner.spec.identity import run_id
from runner.spec.record import Record, Report
from runner.spec.request import RunRequest
from runner.spec.run import LOAD, Stage
from runner.streams import visible

FOLDERS = ("env.results_dir=", "env.cache_dir=")  # where `winnow export` finds a run


@dataclass(frozen=True)
class Closing:
    """What the summary of a run shows besides its record.

    Args:
        highlights: findings of the method.
        paper_command: the command that runs the paper's setting; None = no paper has this run.
        remedies: stage -> what may help if it diverged.
        next_commands: what -> the command that shows it, of a run with an accuracy.
    """

    highlights: Sequence[str] = ()
    paper_command: str | None = None
    remedies: Mapping[str, str] = field(default_factory=dict)
    next_commands: Mapping[str, str] = field(default_factory=dict)


def closing_of(request: RunRequest) -> Closing:
    """The closing of a request."""
    remedies = {stage.name: _remedy(stage) for stage in request.run.stages}
    return Closing(request.highlights, request.paper_command, remedies, next_commands(request))


def next_commands(request: RunRequest) -> dict[str, str]:
    """The commands that show the run beside others of its data and net, and export it."""
    run = request.run
    place = str(request.environment.results_dir)
    same = ["--where", f"dataset={run.dataset.name}", "--where", f"model={run.model.name}"]
    folders = [each for each in request.overrides if each.startswith(FOLDERS)]
    return {
        "its table": shlex.join(["winnow", "table", place, *same]),
        "its export": shlex.join(["winnow", "export", run_id(run), *folders]),
    }


def _remedy(stage: Stage) -> str:
    if stage.kind == LOAD:
        return "other weights (start.weights)"
    if stage.recipe and stage.recipe.precision != "fp32":
        return "a smaller train.lr, or train.precision=fp32"
    if stage.recipe:
        return "a smaller train.lr, or method.lr where the method has one"
    return "other options of the method, or a smaller train.lr in the trainings before"


def summary(record: Record, path: Path, closing: Closing, before: bool = False) -> Text:
    """The summary of a run, one line for each item, so that paths and commands can be copied whole.

    It shows method, data, net, requested and reached density, accuracy, epochs, runtime, the
    method's main findings, the record's path, the command for the paper's setting if a table of the
    paper has the run's row, and the next commands.

    Args:
        before: the run was done before this command, which computed nothing.
    """
    report = record["report"]
    rows = {
        **({"already done": _when(record)} if before else {}),
        "method": f"{record['label']} ({record['method']})",
        "data set": _data_set(record),
        "model": f"{record['model']}{_weights(record)}{_form(record)}",
        **_density(record),
        "test accuracy": _accuracy(record),
        **({} if record["kept"] is None else {"epochs": _epochs(record)}),
        "runtime": (
            f"{record['runtime_s']:.1f} s for all stages, cached or not; {record['wall_s']:.1f} s"
            " passed when it was run"
        ),
        **_pretrained(report),
        **{
            name.replace("_", " "): _finding(report[name]) + errors(report, name)
            for name in closing.highlights
            if name in report
        },
        **_divergence(record, closing),
        **cut_off(record),
        "record": str(path),
        **({"paper's setting": closing.paper_command} if closing.paper_command else {}),
        **({} if record["accuracy"] is None else closing.next_commands),
    }
    width = max(map(len, rows))
    lines = [f"  {name:<{width}}  {visible(value)}" for name, value in rows.items()]
    return Text("\n").join([Text(visible(record["run_id"]), "bold"), *map(Text, lines)])


def _when(record: Record) -> str:
    """When the run ended, in UTC, and that nothing was computed now."""
    moment = datetime.fromisoformat(record["provenance"]["finished"]).astimezone(timezone.utc)
    return f"{moment:%Y-%m-%d %H:%M} UTC; nothing was computed now"


def summary_line(record: Record, before: bool = False) -> str:
    """One line on a run of a sweep; empty if it has no accuracy, as one that diverged.

    Args:
        before: as for `summary`.
    """
    if record["accuracy"] is None:
        return ""
    done = f"; already done: {_when(record)}" if before else ""
    warnings = "".join(f"; {key}: {text}" for key, text in cut_off(record).items())
    return visible(f"{record['run_id']}: {_accuracy(record)}{done}{warnings}")


def _data_set(record: Record) -> str:
    share = record["train_fraction"]
    part = f", {share:.0%} of the training images" if share < 1 else ""
    return f"{record['dataset']}{part}"


def _weights(record: Record) -> str:
    """The number of prunable weights; empty for a run without a network."""
    return "" if record["prunable"] is None else f", {record['prunable']:,} prunable weights"


def _form(record: Record) -> str:
    """Which narrower form of the net was trained; empty for the whole net."""
    form = record.get("narrowed")
    return f"; narrowed to {form['widest']} of {form['from']} channels" if form else ""


def _density(record: Record) -> dict[str, str]:
    """The reached and the requested density; empty if nothing was trained or pruned."""
    kept, prunable, target = record["kept"], record["prunable"], record["density_target"]
    if kept is None or prunable is None:
        return {}
    found = "found by the method" if kept < prunable else "every weight"
    requested = found if target is None else target
    certain = errors(record["report"], FOUND)  # empty for a requested density
    return {"density": f"{record['density']:.4f}{certain} ({kept:,} kept); requested: {requested}"}


def _accuracy(record: Record) -> str:
    best = record["accuracy_best"]
    if is_diverged(record):
        return "none: the run diverged"
    if best is None:
        return "none: nothing was trained"
    return f"{record['accuracy']:.2f} % at the last epoch ({best:.2f} % at the best)"


def _epochs(record: Record) -> str:
    short = f", the paper's x {record['scale']:.4g}" if record["scale"] != 1 else ""
    return f"{record['epochs']} ({record['epochs_total']} with every stage){short}"


def _divergence(record: Record, closing: Closing) -> dict[str, str]:
    """Where the run diverged, what was not finite, and what may help; empty for a finite run."""
    if not is_diverged(record):
        return {}
    report = record["report"]
    if DIVERGED_STAGE not in report:
        return {"DIVERGED": "a loss is not finite; the record is from before version 0.2.0"}
    stage = str(report[DIVERGED_STAGE])
    when = f", epoch {report[DIVERGED_EPOCH]}" if report[DIVERGED_EPOCH] else ""
    return {
        "DIVERGED": f"stage {stage}{when}: {report[DIVERGED_WHAT]}; the run ended there",
        "what may help": closing.remedies[stage],
    }


def cut_off(record: Record) -> dict[str, str]:
    """A warning if the masks leave no path of kept weights from the input to some output.

    The dict is empty if every output has such a path.
    """
    report = record["report"]
    if report.get(REACHED) is None:
        return {}
    if report.get(CONNECTED) == 0:
        problem = "no path of kept weights leads from the input to any output: the net cannot learn"
    else:
        problem = (
            f"paths of kept weights lead from the input to only {report[REACHED]} of the outputs"
        )
    return {"warning: mask": f"{problem}; a larger density may help"}


def _pretrained(report: Report) -> dict[str, str]:
    """The accuracy and origin of pretrained weights; empty if the run used none."""
    if ORIGIN not in report:
        return {}
    origin = str(report[ORIGIN])
    short = origin[:19] if origin.startswith("sha256:") else origin
    return {
        "before pruning": (
            f"{report[ACCURACY]:.2f} % ({report[TOP5]:.2f} % in the first five), weights {short}"
        )
    }


def _finding(value: Finding) -> str:
    return "none" if value is None else written(value) if isinstance(value, float) else str(value)
