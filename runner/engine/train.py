"""The only training loop.

It depends on no method. A method acts on it only through the three hooks of its `Masking`.

A resumed training is bit-identical to an uninterrupted one. A checkpoint holds weights, optimizer,
masking, position in the epoch, sums of the current epoch, history and torch's random state. Data
order and augmentation depend on (seed, stage, epoch, step) only.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pruners.base import Batch, LossFn, Masking, density, no_progress
from runner.data.batches import Batches
from runner.engine.checkpoint import (
    State,
    load_checkpoint,
    masking_state,
    restore_masking,
    save_checkpoint,
)
from runner.engine.distributed import ALONE, ProcessGroup
from runner.engine.evaluate import Evaluation, evaluate
from runner.engine.optim import carry_momentum, learning_rate, make_optimizer, momentum_by_name
from runner.errors import Stopped
from runner.spec.run import Recipe

Passes = Callable[[], Iterable[Batch]]  # a new pass over all images of a held-out set


@dataclass(frozen=True)
class Loaders:
    """The data of one training: its batches, and passes over the held-out sets."""

    training: Batches
    test: Passes
    validation: Passes | None = None


@dataclass(frozen=True)
class LoopOptions:
    """Checkpoints, progress and processes of a training; no option changes its numbers.

    Args:
        checkpoint: file to resume from and to save to; None = neither.
        every: seconds between checkpoints; 0 = after every step.
        stop: called after every step; True = save and raise `Stopped`.
        epoch_done: called with the history row of each finished epoch; on resuming, first with the
            rows of earlier sessions.
    """

    checkpoint: Path | None = None
    every: float = 60.0
    stop: Callable[[], bool] = lambda: False
    epoch_done: Callable[[dict[str, Any]], None] = lambda row: None
    tick: Callable[[int, int, str], None] = no_progress
    team: ProcessGroup = ALONE  # the processes that train together


@dataclass
class Trained:
    """The result of a training besides the changed model, and its position while it runs.

    History has one row per epoch, snapshots are those requested, momentum is by parameter name, and
    seconds count all sessions.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    snapshots: dict[float, State] = field(default_factory=dict)
    momentum: State = field(default_factory=dict)
    seconds: float = 0.0
    epoch: int = 0
    step: int = 0  # within the epoch
    loss_sum: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    seen: int = 0


def train(
    model: nn.Module,
    masking: Masking,
    recipe: Recipe,
    loaders: Loaders,
    loss: LossFn,
    options: LoopOptions,
    *,
    momentum: State | None = None,
    snapshots: frozenset[float] = frozenset(),
    stop_after: int | None = None,
) -> Trained:
    """Train `model` in place from `recipe.first_epoch`, or from its checkpoint, to `recipe.end`.

    Args:
        momentum: buffers to start from (fine-tuning that continues a training).
        snapshots: epochs, possibly fractional, after which weights and buffers are kept.
        stop_after: end after that epoch of the schedule (to add a missing snapshot).

    Raises:
        Stopped: `options.stop` returned True; the checkpoint is on disk.
    """
    device = next(model.parameters()).device
    opt = make_optimizer(model, masking, recipe)
    carry_momentum(model, opt, momentum or {})
    done = Trained(
        epoch=recipe.first_epoch, loss_sum=torch.zeros((), dtype=torch.float64, device=device)
    )
    _resume(options, model, opt, masking, done)
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=recipe.precision == "bf16")
    clock = _Clock(time.monotonic() - done.seconds)
    trainee = _Trainee(
        model, options.team.wrap(model, masking), masking, opt, loss, autocast, options.team
    )
    while done.epoch < (stop_after or recipe.end):
        _train_epoch(trainee, recipe, loaders.training, options, snapshots, done, clock)
        _end_epoch(trainee, recipe, loaders, done)
        options.epoch_done(done.history[-1])
    if not recipe.epochs:  # evaluates the first masking only; there is no training loss
        done.history.append(
            _row(trainee, trainee.evaluate(loaders, -1), epoch=0, lr=0.0, train_loss=None)
        )
        options.epoch_done(done.history[-1])
    done.momentum = momentum_by_name(model, opt)
    done.seconds = clock.seconds
    return done


@dataclass
class _Clock:
    """Times of a training: its start, moved back by earlier sessions, and its last checkpoint."""

    begun: float
    saved: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Duration of the training so far, over all its sessions."""
        return time.monotonic() - self.begun


@dataclass(frozen=True)
class _Trainee:
    """The objects of one training step.

    `net` computes the forward pass: the model, or DistributedDataParallel around it.
    """

    model: nn.Module
    net: nn.Module
    masking: Masking
    opt: torch.optim.Optimizer
    loss: LossFn
    autocast: torch.autocast
    team: ProcessGroup

    def step(self, batch: Batch, step: int) -> Tensor:
        """Take one optimizer step between the masking's hooks, which see averaged gradients.

        Returns this process' part of the batch's mean loss, detached.
        """
        (x, y), share = self.team.share(batch)
        inside = "" if self.net is self.model else "module."
        replaced = {inside + name: w for name, w in self.masking.weights(self.model, step).items()}
        with self.autocast:
            logits = functional_call(self.net, replaced, (x,)) if replaced else self.net(x)
        # The average over processes is the loss of the whole batch.
        value = self.team.size * share * self.loss(logits.float(), y)
        value.backward()
        self.team.average_gradients(self.masking.trainable.values())
        self.masking.before_step(self.model, self.opt, step)
        self.opt.step()
        self.masking.after_step(self.model, step)
        self.model.zero_grad()
        self.opt.zero_grad()  # the trainables are not parameters of the model
        return value.detach() / self.team.size

    def evaluate(self, loaders: Loaders, step: int) -> tuple[Evaluation, Evaluation | None]:
        """Evaluations on the test images, and on held-out training images (None without any)."""
        weights = self.masking.weights(self.model, step)
        test = evaluate(self.model, loaders.test(), weights, self.autocast, self.team)
        return test, evaluate(
            self.model, loaders.validation(), weights, self.autocast, self.team
        ) if loaders.validation else None


def _train_epoch(
    trainee: _Trainee,
    recipe: Recipe,
    batches: Batches,
    options: LoopOptions,
    snapshots: frozenset[float],
    done: Trained,
    clock: _Clock,
) -> None:
    """Train the remaining steps of the current epoch; updates `done`.

    Raises:
        Stopped: `options.stop` returned True; the checkpoint is on disk.
    """
    per_epoch, team = batches.steps_per_epoch, trainee.team
    trainee.model.train()
    for batch in batches.epoch(done.epoch, done.step):
        step = done.epoch * per_epoch + done.step
        for group in trainee.opt.param_groups:
            group["lr"] = learning_rate(recipe, step, per_epoch)
        mean_loss, stop = team.tally(trainee.step(batch, step).double(), options.stop())
        done.loss_sum += mean_loss * len(batch[1])
        done.seen += len(batch[1])
        done.step += 1
        for point in (p for p in snapshots if max(1, round(p * per_epoch)) == step + 1):
            done.snapshots[point] = {
                name: t.detach().cpu().clone() for name, t in trainee.model.state_dict().items()
            }
        options.tick(
            step + 1 - recipe.first_epoch * per_epoch, recipe.trained_epochs * per_epoch, "steps"
        )
        if (
            options.checkpoint
            and team.first
            and (stop or time.monotonic() - clock.saved >= options.every)
        ):
            done.seconds = clock.seconds
            _save(options.checkpoint, trainee.model, trainee.opt, trainee.masking, done)
            clock.saved = time.monotonic()
        if stop:
            raise Stopped


def _end_epoch(trainee: _Trainee, recipe: Recipe, loaders: Loaders, done: Trained) -> None:
    """Evaluate if the recipe requires it, append a history row, advance `done.epoch`."""
    last = (done.epoch + 1) * loaders.training.steps_per_epoch - 1
    lr, loss = (
        learning_rate(recipe, last, loaders.training.steps_per_epoch),
        finite(float(done.loss_sum) / done.seen),
    )
    done.epoch += 1
    found = trainee.evaluate(loaders, last) if recipe.tests(done.epoch) else (None, None)
    done.history.append(_row(trainee, found, epoch=done.epoch, lr=lr, train_loss=loss))
    done.step, done.seen = 0, 0
    done.loss_sum.zero_()


def _row(
    trainee: _Trainee, found: tuple[Evaluation | None, Evaluation | None], **known: Any
) -> dict[str, Any]:
    """A history row: values `known` from training, and those `found` on the held-out sets.

    None where a set was not tested.
    """
    test, validation = found
    return known | {
        "test_loss": finite(test.loss) if test else None,
        "accuracy": test.accuracy if test else None,
        "accuracy_top5": test.top5 if test else None,
        "val_accuracy": validation.accuracy if validation else None,
        "density": density(trainee.masking.masks),
    }


def finite(value: float) -> float | None:
    """`value`, or None for NaN and infinity, which JSON cannot hold: a training may diverge."""
    return value if math.isfinite(value) else None


def _save(
    path: Path, model: nn.Module, opt: torch.optim.Optimizer, masking: Masking, done: Trained
) -> None:
    save_checkpoint(
        path,
        {
            "model": model.state_dict(),
            "optimizer": opt.state_dict(),
            "masking": masking_state(masking),
            "done": {f.name: getattr(done, f.name) for f in fields(done)},
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        },
    )


def _resume(
    options: LoopOptions,
    model: nn.Module,
    opt: torch.optim.Optimizer,
    masking: Masking,
    done: Trained,
) -> None:
    """Restore the state of the checkpoint, if there is one.

    `options.epoch_done` is called for the epochs of earlier sessions.
    """
    state = load_checkpoint(options.checkpoint) if options.checkpoint else None
    if state is None:
        return
    model.load_state_dict(state["model"])
    opt.load_state_dict(state["optimizer"])
    restore_masking(masking, state["masking"])
    for name, value in state["done"].items():
        setattr(done, name, value.to(done.loss_sum.device) if name == "loss_sum" else value)
    torch.set_rng_state(state["rng"])
    if state["cuda_rng"]:
        torch.cuda.set_rng_state_all(state["cuda_rng"])
    for row in done.history:
        options.epoch_done(row)
