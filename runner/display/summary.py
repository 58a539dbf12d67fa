"""The summary that a finished run prints."""

import re
import shlex
from pathlib import Path
from typing import Any

from rich.panel import Panel
from rich.table import Table

from runner.spec.findings import ACCURACY, CONNECTED, DIVERGED, ORIGIN, REACHED, TOP5
from runner.spec.request import RunRequest

PAPER_TRAINING = "imc"  # the choice of `train` for the first paper's training


def summary(record: dict[str, Any], path: Path, request: RunRequest) -> Panel:
    """The summary of a run as a panel.

    It shows method, data, net, requested and reached density, accuracy, epochs, runtime, the
    method's main findings, the record's path and the command for the paper's setting.
    """
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(overflow="fold")  # do not truncate paths, so that they can be copied
    best = record["accuracy_best"]
    kept = record["kept"]  # None where nothing was pruned or trained
    asked = (
        "found by the method"
        if record["density_target"] is None and kept is not None and kept < record["prunable"]
        else record["density_target"]
    )
    rows = {
        "method": f"{record['label']} ({record['method']})",
        "data set": (
            f"{record['dataset']}"
            + (
                f", {record['train_fraction']:.0%} of the training images"
                if record["train_fraction"] < 1
                else ""
            )
        ),
        "model": f"{record['model']}, {record['prunable']:,} prunable weights",
        **(
            {}
            if kept is None
            else {
                "density": (
                    f"{record['density']:.4f} ({kept:,} kept); asked:"
                    f" {'every weight' if asked is None else asked}"
                )
            }
        ),
        "test accuracy": (
            "none: nothing was trained"
            if best is None
            else f"{record['accuracy']:.2f} % at the last epoch ({best:.2f} % at the best)"
        ),
        **({} if kept is None else {"epochs": _epochs(record)}),
        "runtime": (
            f"{record['runtime_s']:.1f} s for all stages, cached or not; {record['wall_s']:.1f} s"
            " passed when it was run"
        ),
        **_pretrained(record["report"]),
        **{
            name.replace("_", " "): _finding(record["report"][name])
            for name in request.highlights
            if name in record["report"]
        },
        **{
            f"warning: {stage}": (
                f"training diverged, no finite loss from epoch {epoch} on; a smaller train.lr may"
                " help"
            )
            for stage, epoch in diverged(record).items()
        },
        **cut_off(record),
        "record": str(path),
        "paper's setting": paper_command(request),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return Panel(table, title=record["run_id"], expand=False)


def _epochs(record: dict[str, Any]) -> str:
    short = f", the paper's x {record['scale']:.4g}" if record["scale"] != 1 else ""
    return f"{record['epochs']} ({record['epochs_total']} with every stage){short}"


def paper_command(request: RunRequest) -> str:
    """The command for the paper's setting of this run.

    It contains the words that the user typed, with the paper's data, net and training.
    """
    if request.paper_command is not None:  # a theory experiment: the command for its figure
        return request.paper_command
    run = request.run
    dropped = ("env", "train", "train_fraction", "dataset", "model", "logger", "hydra", "method")
    kept = [
        word
        for word in request.overrides
        if not re.match(rf"({'|'.join(dropped)})=|(env|train|dataset|model|hydra)\.", word)
    ]
    size = run.model.name + ("_w32" if run.model.name in ("resnet20", "resnet32") else "")
    dataset = run.dataset.stands_for or run.dataset.name
    return "python run.py " + shlex.join(
        [
            f"method={run.method}",
            f"model={size}",
            f"dataset={dataset}",
            f"train={request.paper_training or PAPER_TRAINING}",
            *kept,
        ]
    )


def diverged(record: dict[str, Any]) -> dict[str, Any]:
    """Stage name -> first epoch with a training loss that was not finite."""
    return {
        name.removeprefix(DIVERGED): epoch
        for name, epoch in record["report"].items()
        if name.startswith(DIVERGED)
    }


def cut_off(record: dict[str, Any]) -> dict[str, str]:
    """A warning if the masks leave no path of kept weights from the input to some output.

    The dict is empty if every output has such a path.
    """
    reached = record["report"].get(REACHED)
    if reached is None:
        return {}
    if record["report"].get(CONNECTED) == 0:
        return {
            "warning: mask": (
                "no path of kept weights leads from the input to any output: the net cannot learn;"
                " a larger density may help"
            )
        }
    return {
        "warning: mask": (
            f"paths of kept weights lead from the input to {reached} of the outputs alone; a larger"
            " density may help"
        )
    }


def _pretrained(report: dict[str, Any]) -> dict[str, str]:
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


def _finding(value: Any) -> str:
    return "none" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
