"""Where a run's numbers go besides its own files. Never part of its identity: the record with a logger is the record without.

Every stage has scalars of its own, `<stage>/<key>` by epoch. Stages that come from the cache and epochs before an interruption are logged like those that are
trained now; a run that is done is not run again and logs nothing.
"""

import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from runner.errors import ConfigError
from runner.spec.request import SavedConfig

Row = dict[str, Any]  # an epoch of the history (runner/engine/train.py), or a record
COMPARED = ("accuracy", "accuracy_best", "test_loss", "sparsity", "epochs", "runtime_s")  # of a record: what runs are compared by
NAMED = ("method", "label", "model", "dataset", "train_fraction", "seed", "density_target")  # and what tells them apart


class Log(Protocol):
    """An open log of one run."""

    def epoch(self, stage: str, row: Row) -> None:
        """A finished epoch of a stage; none comes twice."""

    def close(self, record: Row | None) -> None:
        """The run is done, with its record, or has stopped or failed without one."""


class Logger(Protocol):
    """What `logger=...` chooses."""

    def check(self) -> None:
        """
        Raises:
            ConfigError: its package is not installed.
        """

    def open(self, folder: Path, run_id: str, config: SavedConfig) -> Log:
        """Begin, or go on with, the log of a run whose files lie in `folder`."""


def scalars(stage: str, row: Row) -> dict[str, float]:
    """`<stage>/<key>` of an epoch's numbers: what was not measured has none."""
    return {f"{stage}/{key}": float(value) for key, value in row.items() if key != "epoch" and isinstance(value, (int, float))}


@dataclass(frozen=True)
class Nothing:
    """No log, and no logger."""

    tag: ClassVar[str] = "no_logger"
    name: str = "none"

    def check(self) -> None:
        """Nothing is needed."""

    def open(self, folder: Path, run_id: str, config: SavedConfig) -> Log:
        """Itself."""
        return self

    def epoch(self, stage: str, row: Row) -> None:
        """Say nothing."""

    def close(self, record: Row | None) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class TensorBoard:
    """Event files in the run's folder: `tensorboard --logdir results/runs`."""

    tag: ClassVar[str] = "tensorboard"
    name: str = "tensorboard"

    def check(self) -> None:
        """
        Raises:
            ConfigError: tensorboard is not installed.
        """
        _need("tensorboard")

    def open(self, folder: Path, run_id: str, config: SavedConfig) -> Log:
        """A new file; what an interrupted attempt left goes, since its epochs come again."""
        from torch.utils.tensorboard import SummaryWriter

        shutil.rmtree(folder / "tensorboard", ignore_errors=True)
        writer = SummaryWriter(str(folder / "tensorboard"))
        writer.add_text("config", f"```yaml\n{config.text}```")
        return _Events(writer)


@dataclass(frozen=True)
class _Events:
    writer: Any

    def epoch(self, stage: str, row: Row) -> None:
        for key, value in scalars(stage, row).items():
            self.writer.add_scalar(key, value, row["epoch"])
        self.writer.flush()

    def close(self, record: Row | None) -> None:
        if record:
            told = {key: record[key] for key in NAMED if record[key] is not None}
            found = {f"record/{key}": record[key] for key in COMPARED if record[key] is not None}
            self.writer.add_hparams(told, found, run_name=".")
        self.writer.close()


@dataclass(frozen=True)
class WandB:
    """Weights & Biases; a run there has our run_id, so that an interrupted one goes on.

    Args:
        mode: offline keeps everything in the run's folder until `wandb sync`.
    """

    tag: ClassVar[str] = "wandb"
    name: str = "wandb"
    project: str = "winnow"
    entity: str | None = None
    group: str | None = None
    mode: Literal["online", "offline"] = "online"

    def check(self) -> None:
        """
        Raises:
            ConfigError: wandb is not installed.
        """
        _need("wandb")

    def open(self, folder: Path, run_id: str, config: SavedConfig) -> Log:
        """Begin the run, or go on with it.

        Raises:
            ConfigError: nobody is logged in, or the server does not answer.
        """
        import wandb

        settings = wandb.Settings(silent=True, console="off")
        try:
            run = wandb.init(
                project=self.project,
                entity=self.entity,
                group=self.group,
                id=run_id,
                name=run_id,
                resume="allow",
                mode=self.mode,
                dir=folder,
                config=dict(config.values),
                settings=settings,
            )
        except wandb.Error as error:
            raise ConfigError(f"logger=wandb: {error}; `wandb login` once, or logger.mode=offline and `wandb sync` later") from error
        return _Tracked(run, set())


@dataclass(frozen=True)
class _Tracked:
    run: Any
    known: set[str]  # stages that have their own axis

    def epoch(self, stage: str, row: Row) -> None:
        if stage not in self.known:
            self.known.add(stage)
            self.run.define_metric(f"{stage}/*", step_metric=f"{stage}/epoch")
        self.run.log({f"{stage}/epoch": row["epoch"], **scalars(stage, row)})

    def close(self, record: Row | None) -> None:
        if record:
            self.run.summary.update({f"record/{key}": value for key, value in record.items() if isinstance(value, (int, float, str))})
        self.run.finish(exit_code=0 if record else 1)


def _need(package: str) -> None:
    if find_spec(package) is None:
        raise ConfigError(f"logger={package}: the package {package} is not installed; pip install 'winnow[{package}]', or logger=none")
