"""Loggers: further outputs of a run's numbers besides its own files.

A logger is not part of a run's identity and does not change its record. Every stage has its own
scalars, `<stage>/<key>` by epoch. Cached stages and epochs before an interruption are logged like
newly trained ones. A finished run is not run again and logs nothing.
"""

import os
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from runner.errors import ConfigError
from runner.spec.record import Epoch, Record, single_values
from runner.spec.request import SavedConfig

# Keys of a record: results by which runs are compared, and settings in which they differ.
RESULTS = ("accuracy", "accuracy_best", "test_loss", "sparsity", "epochs", "runtime_s")
SETTINGS = ("method", "label", "model", "dataset", "train_fraction", "seed", "density_target")


class Log(Protocol):
    """An open log of one run."""

    def epoch(self, stage: str, row: Epoch) -> None:
        """Log a finished epoch of a stage; called once per epoch."""

    def close(self, record: Record | None) -> None:
        """Close the log; `record` is None if the run was stopped or failed."""


class Logger(Protocol):
    """A logger as chosen by `logger=...`."""

    def check(self) -> None:
        """Check that the logger's package is installed.

        Raises:
            ConfigError: the package is not installed.
        """

    def open(self, folder: Path, run_id: str, config: SavedConfig) -> Log:
        """Begin or resume the log of a run whose files are in `folder`."""


def scalars(stage: str, row: Epoch) -> dict[str, float]:
    """The numbers of an epoch by `<stage>/<key>`, without values that were not measured."""
    return {
        f"{stage}/{key}": float(value)
        for key, value in row.items()
        if key != "epoch" and isinstance(value, (int, float))
    }


@dataclass(frozen=True)
class Nothing:
    """A logger and log without output."""

    tag: ClassVar[str] = "no_logger"
    name: str = "none"

    def check(self) -> None:
        """Do nothing: no package is required."""

    def open(self, folder: Path, run_id: str, config: SavedConfig) -> Log:
        """Return itself."""
        return self

    def epoch(self, stage: str, row: Epoch) -> None:
        """Do nothing."""

    def close(self, record: Record | None) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class TensorBoard:
    """Event files in the run's folder: `tensorboard --logdir results/runs`."""

    tag: ClassVar[str] = "tensorboard"
    name: str = "tensorboard"

    def check(self) -> None:
        """Check that tensorboard is installed.

        Raises:
            ConfigError: tensorboard is not installed.
        """
        _need("tensorboard")

    def open(self, folder: Path, run_id: str, config: SavedConfig) -> Log:
        """Begin a new event file.

        The files of an interrupted attempt are deleted, since its epochs are logged again.
        """
        from torch.utils.tensorboard import SummaryWriter

        shutil.rmtree(folder / "tensorboard", ignore_errors=True)
        writer = SummaryWriter(str(folder / "tensorboard"))
        writer.add_text("config", f"```yaml\n{config.text}```")
        return _Events(writer)


@dataclass(frozen=True)
class _Events:
    writer: Any

    def epoch(self, stage: str, row: Epoch) -> None:
        for key, value in scalars(stage, row).items():
            self.writer.add_scalar(key, value, row["epoch"])
        self.writer.flush()

    def close(self, record: Record | None) -> None:
        if record:
            values = {
                key: value for key, value in single_values(record).items() if value is not None
            }
            settings = {key: values[key] for key in SETTINGS if key in values}
            results = {f"record/{key}": values[key] for key in RESULTS if key in values}
            self.writer.add_hparams(settings, results, run_name=".")
        self.writer.close()


@dataclass(frozen=True)
class WandB:
    """Weights & Biases; its run has the id `run_id`, so that an interrupted run resumes.

    Args:
        mode: `offline` keeps all data in the run's folder until `wandb sync`. None = as the
            variable WANDB_MODE says, else online.
    """

    tag: ClassVar[str] = "wandb"
    name: str = "wandb"
    project: str = "winnow"
    entity: str | None = None
    group: str | None = None
    mode: Literal["online", "offline", "disabled"] | None = None

    def check(self) -> None:
        """Check that wandb is installed.

        Raises:
            ConfigError: wandb is not installed.
        """
        _need("wandb")

    def open(self, folder: Path, run_id: str, config: SavedConfig) -> Log:
        """Begin or resume the run.

        Raises:
            ConfigError: the user is not logged in, the server does not respond, or wandb refuses
                the value of WANDB_MODE or of another of its variables.
        """
        import wandb

        mode: Any = self.mode or os.environ.get("WANDB_MODE") or "online"
        try:
            settings = wandb.Settings(silent=True, console="off")
            run = wandb.init(
                project=self.project,
                entity=self.entity,
                group=self.group,
                id=run_id,
                name=run_id,
                resume="allow",
                mode=mode,
                dir=folder,
                config=dict(config.values),
                settings=settings,
            )
        except (wandb.Error, ValueError) as error:  # ValueError: a variable such as WANDB_MODE
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"logger=wandb: {reason}; `wandb login` once, or logger.mode=offline and `wandb"
                " sync` later"
            ) from error
        return _Tracked(run, set())


@dataclass(frozen=True)
class _Tracked:
    run: Any
    known: set[str]  # stages whose axis is defined

    def epoch(self, stage: str, row: Epoch) -> None:
        if stage not in self.known:
            self.known.add(stage)
            self.run.define_metric(f"{stage}/*", step_metric=f"{stage}/epoch")
        self.run.log({f"{stage}/epoch": row["epoch"], **scalars(stage, row)})

    def close(self, record: Record | None) -> None:
        if record:
            plain = {k: v for k, v in record.items() if isinstance(v, (int, float, str))}
            self.run.summary.update({f"record/{key}": value for key, value in plain.items()})
        self.run.finish(exit_code=0 if record else 1)


def _need(package: str) -> None:
    if find_spec(package) is None:
        raise ConfigError(
            f"logger={package}: the package {package} is not installed; pip install"
            f" -e '.[{package}]', or logger=none"
        )
