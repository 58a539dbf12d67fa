"""The training loop: the only one. It knows no method; a `Masking`'s three hooks are all that a method can do to it.

Resumable to the bit: a checkpoint holds weights, optimizer, masking, position in the epoch, sums of the running epoch, history and torch's random state;
data order and augmentation depend on (seed, stage, epoch, step) alone.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call

from pruners.base import Batch, LossFn, Masking, density, no_progress
from runner.data.batches import Batches
from runner.errors import Stopped
from runner.evaluate import evaluate
from runner.optim import carry_momentum, learning_rate, make_optimizer, momentum_by_name
from runner.spec import Recipe
from runner.store import State, load_checkpoint, save_checkpoint


@dataclass(frozen=True)
class Feeds:
    """The data of one training: batches to learn from, and passes over the held-out sets."""

    training: Batches
    test: Callable[[], Iterable[Batch]]
    validation: Callable[[], Iterable[Batch]] | None = None


@dataclass(frozen=True)
class Session:
    """How a training is looked after; nothing in it changes a number.

    Args:
        checkpoint: file to resume from and to save to; None = neither.
        every: seconds between checkpoints; 0 = after every step.
        stop: asked after every step; True = save and raise `Stopped`.
        epoch_done: called with each finished epoch's row of the history.
    """

    checkpoint: Path | None = None
    every: float = 60.0
    stop: Callable[[], bool] = lambda: False
    epoch_done: Callable[[dict[str, Any]], None] = lambda row: None
    tick: Callable[[int, int, str], None] = no_progress


@dataclass
class Trained:
    """What a training leaves besides the changed model: a row per epoch, wanted snapshots, momentum by parameter name, seconds over all its sessions."""

    history: list[dict[str, Any]] = field(default_factory=list)
    snapshots: dict[int, State] = field(default_factory=dict)
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
    feeds: Feeds,
    loss: LossFn,
    session: Session,
    *,
    momentum: State | None = None,
    snapshots: frozenset[int] = frozenset(),
    stop_after: int | None = None,
) -> Trained:
    """Train `model` in place from `recipe.first_epoch` to `recipe.epochs`, or from the session's checkpoint on.

    Args:
        momentum: optimizer state to start from (fine-tuning that goes on).
        snapshots: epochs after which weights and buffers are kept.
        stop_after: end after that epoch, in the middle of the schedule (to make up for a missing snapshot).

    Raises:
        Stopped: `session.stop` said so; the checkpoint is on disk.
    """
    device = next(model.parameters()).device
    opt = make_optimizer(model, masking, recipe)
    carry_momentum(model, opt, momentum or {})
    done = Trained(epoch=recipe.first_epoch, loss_sum=torch.zeros((), dtype=torch.float64, device=device))
    if session.checkpoint:
        _resume(session.checkpoint, model, opt, masking, done)
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=recipe.precision == "bf16")
    per_epoch = feeds.training.steps_per_epoch
    clock, saved = time.monotonic() - done.seconds, time.monotonic()
    model.train()
    while done.epoch < (stop_after or recipe.epochs):
        for x, y in feeds.training.epoch(done.epoch, done.step):
            step = done.epoch * per_epoch + done.step
            for group in opt.param_groups:
                group["lr"] = learning_rate(recipe, step, per_epoch)
            batch_loss = _train_step(model, masking, opt, x, y, loss, autocast, step)
            done.loss_sum += batch_loss.double() * len(y)
            done.seen += len(y)
            done.step += 1
            session.tick(step + 1 - recipe.first_epoch * per_epoch, recipe.trained_epochs * per_epoch, "steps")
            stop = session.stop()
            if session.checkpoint and (stop or time.monotonic() - saved >= session.every):
                done.seconds = time.monotonic() - clock
                _save(session.checkpoint, model, opt, masking, done)
                saved = time.monotonic()
            if stop:
                raise Stopped
        _end_epoch(model, masking, recipe, feeds, done, autocast, (done.epoch + 1) * per_epoch)
        if done.epoch in snapshots:
            done.snapshots[done.epoch] = {name: t.detach().cpu().clone() for name, t in model.state_dict().items()}
        session.epoch_done(done.history[-1])
    done.momentum = momentum_by_name(model, opt)
    done.seconds = time.monotonic() - clock
    return done


def _train_step(
    model: nn.Module, masking: Masking, opt: torch.optim.Optimizer, x: Tensor, y: Tensor, loss: LossFn, autocast: torch.autocast, step: int
) -> Tensor:
    """One step of the optimizer between the masking's hooks; the batch's loss, detached."""
    replaced = masking.weights(model, step)
    with autocast:
        logits = functional_call(model, replaced, (x,)) if replaced else model(x)
    value = loss(logits.float(), y)
    value.backward()
    masking.before_step(model, opt, step)
    opt.step()
    masking.after_step(model, step)
    model.zero_grad()
    opt.zero_grad()  # the trainables are not parameters of the model
    return value.detach()


def _end_epoch(model: nn.Module, masking: Masking, recipe: Recipe, feeds: Feeds, done: Trained, autocast: torch.autocast, step: int) -> None:
    """Evaluate, append the epoch's row to the history, move to the next epoch; all in `done`."""
    weights = masking.weights(model, step)
    test = evaluate(model, feeds.test(), weights, autocast)
    validation = evaluate(model, feeds.validation(), weights, autocast) if feeds.validation else None
    done.epoch += 1
    done.history.append(
        {
            "epoch": done.epoch,
            "lr": learning_rate(recipe, step - 1, feeds.training.steps_per_epoch),
            "train_loss": finite(float(done.loss_sum) / done.seen),
            "test_loss": finite(test.loss),
            "accuracy": test.accuracy,
            "accuracy_top5": test.top5,
            "val_accuracy": validation.accuracy if validation else None,
            "density": density(masking.masks),
        }
    )
    done.step, done.seen = 0, 0
    done.loss_sum.zero_()


def finite(value: float) -> float | None:
    """None for a number that JSON cannot hold: a diverged training is a result too."""
    return value if math.isfinite(value) else None


def _save(path: Path, model: nn.Module, opt: torch.optim.Optimizer, masking: Masking, done: Trained) -> None:
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


def _resume(path: Path, model: nn.Module, opt: torch.optim.Optimizer, masking: Masking, done: Trained) -> None:
    state = load_checkpoint(path)
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


def masking_state(masking: Masking) -> dict[str, Any]:
    """Every field of a masking dataclass as tensors and plain values; generators by their state."""
    return {f.name: _frozen(getattr(masking, f.name)) for f in fields(masking)}  # type: ignore[arg-type]


def restore_masking(masking: Masking, state: dict[str, Any]) -> None:
    """Put a saved state back, in place where there are tensors: the optimizer holds the trainables themselves."""
    for name, value in state.items():
        setattr(masking, name, _thawed(getattr(masking, name), value))


def _frozen(value: Any) -> Any:
    if isinstance(value, Generator):
        return value.get_state()
    if isinstance(value, dict):
        return {k: _frozen(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_frozen(v) for v in value)
    return value


def _thawed(current: Any, saved: Any) -> Any:
    if isinstance(current, Generator):
        current.set_state(saved)
        return current
    if isinstance(current, Tensor) and isinstance(saved, Tensor) and current.shape == saved.shape:
        with torch.no_grad():
            current.copy_(saved)
        return current
    if isinstance(saved, dict):
        known = current if isinstance(current, dict) else {}
        return {k: _thawed(known.get(k), v) for k, v in saved.items()}
    if isinstance(saved, (list, tuple)):
        before = list(current) if isinstance(current, (list, tuple)) else []
        before += [None] * (len(saved) - len(before))  # it has grown since it was made
        return type(saved)(_thawed(now, then) for now, then in zip(before, saved, strict=False))
    return saved
