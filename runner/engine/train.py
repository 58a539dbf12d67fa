"""The only training loop. A method acts on it only through the three hooks of its `Masking`.

A resumed training is bit-identical to an uninterrupted one. A checkpoint holds weights, optimizer,
masking, position in the epoch, sums of the current epoch, history and torch's random state. Data
order and augmentation depend on (seed, stage, epoch, step) only.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path

import torch
from torch import Tensor, nn

from pruners.base import Batch, LossFn, Masking, density, no_progress
from runner.data.batches import TrainingBatches
from runner.engine.agreement import Agreement, Session, Wishes
from runner.engine.checkpoint import (
    State,
    load_checkpoint,
    masking_state,
    restore_masking,
    save_checkpoint,
)
from runner.engine.distributed import ALONE, ProcessGroup
from runner.engine.divergence import Divergence, finite, infinite_loss, infinite_tensor
from runner.engine.evaluate import Evaluation, evaluate
from runner.engine.optim import carry_state, learning_rate, make_optimizer, state_by_name
from runner.engine.tally import Tally
from runner.engine.training_step import Trainee
from runner.errors import Stopped
from runner.spec.recipe import Recipe, step_of
from runner.spec.record import Epoch

Passes = Callable[[], Iterable[Batch]]  # a new pass over all images of a held-out set


@dataclass(frozen=True)
class Loaders:
    """The data of one training: its batches, and passes over the held-out sets.

    Of several processes, each one's share of every batch.
    """

    training: TrainingBatches
    test: Passes
    validation: Passes | None = None


@dataclass(frozen=True)
class LoopOptions:
    """Checkpoints, progress and processes of a training; no option changes its result.

    Args:
        checkpoint: file to resume from and to save to; None = neither.
        every: seconds between checkpoints; 0 = after every step.
        stop: called after every step; True = save and raise `Stopped`.
        epoch_done: called with the history row of each finished epoch; on resuming, first with the
            rows of earlier sessions.
        tally: counts what the training costs.
    """

    checkpoint: Path | None = None
    every: float = 60.0
    stop: Callable[[], bool] = lambda: False
    epoch_done: Callable[[Epoch], None] = lambda row: None
    progress: Callable[[int, int, str], None] = no_progress
    group: ProcessGroup = ALONE  # the processes that train together
    tally: Tally = field(default_factory=Tally)


def _zero(device: torch.device | None = None) -> Tensor:
    return torch.zeros((), dtype=torch.float64, device=device)


@dataclass
class Trained:
    """The result of a training besides the changed model, and its position while it runs.

    History has one row per epoch, snapshots are those requested, momentum is the optimizer's state
    (`state_by_name`), and seconds count all sessions. With a divergence, the training ended at that
    epoch.
    """

    history: list[Epoch] = field(default_factory=list)
    snapshots: dict[float, State] = field(default_factory=dict)
    momentum: State = field(default_factory=dict)
    seconds: float = 0.0
    epoch: int = 0
    step: int = 0  # within the epoch
    loss_sum: Tensor = field(default_factory=_zero)  # of this process' examples
    seen: int = 0
    divergence: Divergence | None = None  # it ends the training


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
        momentum: the optimizer's state to start from (fine-tuning that continues a training).
        snapshots: epochs, possibly fractional, after which weights and buffers are kept.
        stop_after: end after that epoch of the schedule (to add a missing snapshot).

    Raises:
        Stopped: `options.stop` returned True; the checkpoint is on disk.
    """
    trainee = _make_trainee(model, masking, recipe, loss, options)
    carry_state(model, trainee.opt, recipe.optimizer, momentum or {})
    done = _beginning(model, recipe, loaders.training.steps_per_epoch)
    _resume(options, trainee, done)
    session = Session(Agreement(options.group), time.monotonic() - done.seconds)
    try:
        while done.epoch < (stop_after or recipe.end) and done.divergence is None:
            _train_epoch(trainee, recipe, loaders.training, options, snapshots, done, session)
            _end_epoch(trainee, recipe, loaders, done)
            options.epoch_done(done.history[-1])
    except FloatingPointError as error:  # from the masking
        done.divergence = Divergence(str(error), done.epoch + 1)
    if not recipe.epochs:  # evaluates the first masking only; there is no training loss
        _add_row(trainee, done, 0.0, None, _evaluations(trainee, loaders, -1))
        options.epoch_done(done.history[-1])
    done.momentum = state_by_name(model, trainee.opt, recipe.optimizer)
    done.seconds = session.end()
    return done


def _beginning(model: nn.Module, recipe: Recipe, per_epoch: int) -> Trained:
    epoch, step = divmod(recipe.first_step(per_epoch), per_epoch)
    return Trained(epoch=epoch, step=step, loss_sum=_zero(next(model.parameters()).device))


def _make_trainee(
    model: nn.Module, masking: Masking, recipe: Recipe, loss: LossFn, options: LoopOptions
) -> Trainee:
    group = options.group
    opt, device = make_optimizer(model, masking, recipe), next(model.parameters()).device
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=recipe.precision == "bf16")
    net = group.wrap(group.synchronised(model), masking)
    return Trainee(model, net, masking, opt, loss, autocast, group, options.tally)


def _train_epoch(
    trainee: Trainee,
    recipe: Recipe,
    batches: TrainingBatches,
    options: LoopOptions,
    snapshots: frozenset[float],
    done: Trained,
    session: Session,
) -> None:
    """Train the remaining steps of the current epoch; updates `done`.

    Raises:
        Stopped: `options.stop` returned True; the checkpoint is on disk.
    """
    per_epoch = batches.steps_per_epoch
    begin, end = recipe.first_step(per_epoch), recipe.end * per_epoch

    def wishes() -> Wishes:
        return Wishes(options.stop(), time.monotonic() - session.saved >= options.every)

    trainee.model.train()
    for batch in batches.epoch(done.epoch, done.step):
        step = done.epoch * per_epoch + done.step
        for parameters in trainee.opt.param_groups:
            parameters["lr"] = learning_rate(recipe, step, per_epoch)
        images = batches.images(done.step)
        done.loss_sum += trainee.step(batch, images, step).double() * images
        done.seen += images
        done.step += 1
        for point in (p for p in snapshots if step_of(p, per_epoch) == step + 1):
            done.snapshots[point] = _snapshot(trainee.model)
        options.progress(step + 1 - begin, end - begin, "steps")
        agreed = session.agreement.reached(step, wishes)
        if options.checkpoint and (agreed.stop or agreed.save):
            done.seconds = session.seconds
            _save(options.checkpoint, trainee, done)
            session.saved = time.monotonic()
        if agreed.stop:
            raise Stopped


def _end_epoch(trainee: Trainee, recipe: Recipe, loaders: Loaders, done: Trained) -> None:
    """Evaluate if the recipe requires it, append a history row, advance `done.epoch`.

    Sets `done.divergence` if a loss or a weight is not finite.
    """
    per_epoch = loaders.training.steps_per_epoch
    last = (done.epoch + 1) * per_epoch - 1
    lr = learning_rate(recipe, last, per_epoch)
    loss = float(trainee.group.total(done.loss_sum)) / done.seen
    done.epoch += 1
    tested = math.isfinite(loss) and recipe.tests(done.epoch)
    found = _evaluations(trainee, loaders, last) if tested else (None, None)
    _add_row(trainee, done, lr, loss, found)
    done.step, done.seen = 0, 0
    done.loss_sum.zero_()


def _evaluations(
    trainee: Trainee, loaders: Loaders, step: int
) -> tuple[Evaluation, Evaluation | None]:
    """Evaluations on the test images, and on held-out training images (None without any)."""
    model, autocast, group = trainee.model, trainee.autocast, trainee.group
    weights = trainee.masking.weights(model, step)
    test = evaluate(model, loaders.test(), weights, autocast, group)
    if loaders.validation is None:
        return test, None
    return test, evaluate(model, loaders.validation(), weights, autocast, group)


def _add_row(
    trainee: Trainee,
    done: Trained,
    lr: float,
    loss: float | None,
    found: tuple[Evaluation | None, Evaluation | None],
) -> None:
    """Append a history row, and set `done.divergence` if a loss or a weight is not finite.

    Numbers are None where a set was not tested or its loss is not finite.
    """
    tensors = trainee.model.state_dict() | trainee.masking.trainable
    what = infinite_loss(loss, *found) or infinite_tensor(tensors)
    if trainee.group.any(bool(what)):
        done.divergence = Divergence(what or "another process' numbers are not finite", done.epoch)
    test, validation = (each if each and math.isfinite(each.loss) else None for each in found)
    row: Epoch = {
        "epoch": done.epoch,
        "lr": lr,
        "train_loss": None if loss is None else finite(loss),
        "test_loss": test.loss if test else None,
        "accuracy": test.accuracy if test else None,
        "accuracy_top5": test.top5 if test else None,
        "val_accuracy": validation.accuracy if validation else None,
        "density": density(trainee.masking.masks),
    }
    done.history.append(row)


def _snapshot(model: nn.Module) -> State:
    """A copy of the model's weights and buffers on the CPU."""
    return {name: t.detach().cpu().clone() for name, t in model.state_dict().items()}


def _save(path: Path, trainee: Trainee, done: Trained) -> None:
    """Save the state of all processes, which the first of them writes."""
    done.loss_sum = trainee.group.gathered(done.loss_sum)
    if trainee.group.first:
        state = {
            "model": trainee.model.state_dict(),
            "optimizer": trainee.opt.state_dict(),
            "masking": masking_state(trainee.masking),
            "done": {f.name: getattr(done, f.name) for f in fields(done)},
            "tally": trainee.tally.state(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        save_checkpoint(path, state)


def _resume(options: LoopOptions, trainee: Trainee, done: Trained) -> None:
    """Restore the state of the checkpoint, if there is one.

    `options.epoch_done` is called for the epochs of earlier sessions.
    """
    state = load_checkpoint(options.checkpoint) if options.checkpoint else None
    if state is None:
        return
    trainee.model.load_state_dict(state["model"])
    trainee.opt.load_state_dict(state["optimizer"])
    restore_masking(trainee.masking, state["masking"])
    trainee.tally.restore(state.get("tally"))
    for name, value in state["done"].items():
        setattr(done, name, value.to(done.loss_sum.device) if name == "loss_sum" else value)
    if not options.group.first:
        done.loss_sum.zero_()  # the saved sum is that of all processes
    torch.set_rng_state(state["rng"])
    if state["cuda_rng"]:
        torch.cuda.set_rng_state_all(state["cuda_rng"])
    for row in done.history:
        options.epoch_done(row)
