"""One step of the training loop: forward, backward, the masking's hooks and the optimizer."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pruners.base import Batch, LossFn, Masking, Passes, StatesPasses
from runner.engine.distributed import ProcessGroup
from runner.engine.precision import full
from runner.engine.tally import Tally


@dataclass(frozen=True)
class Trainee:
    """The objects of one training step.

    `net` computes the forward pass: the model, or DistributedDataParallel around it. `tally` counts
    what the steps cost.
    """

    model: nn.Module
    net: nn.Module
    masking: Masking
    opt: torch.optim.Optimizer
    loss: LossFn
    autocast: torch.autocast
    group: ProcessGroup
    tally: Tally

    def step(self, batch: Batch, images: int, step: int) -> Tensor:
        """Take one optimizer step between the masking's hooks, which see averaged gradients.

        Args:
            batch: this process' share of the batch.
            images: in the whole batch.

        Returns this process' part of the whole batch's mean loss, detached.
        """
        x, y = batch
        share = len(y) / images
        inside = "" if self.net is self.model else "module."
        replaced = {inside + name: w for name, w in self.masking.weights(self.model, step).items()}
        self.tally.step(self.masking.masks, self._passes(step), len(batch[1]))
        with self.autocast:
            logits = functional_call(self.net, replaced, (x,)) if replaced else self.net(x)
        # The average over processes is the loss of the whole batch; an empty share adds 0 to it.
        value = share * self.group.size * self.loss(full(logits), y) if len(y) else logits.sum()
        torch.autograd.backward(value)
        self.group.average_gradients(self.masking.trainable.values())
        self.masking.before_step(self.model, self.opt, step)
        self.opt.step()
        self.masking.after_step(self.model, step)
        self.model.zero_grad()
        self.opt.zero_grad()  # the trainables are not parameters of the model
        return value.detach() / self.group.size

    def _passes(self, step: int) -> Passes:
        """What an image of the step costs."""
        masking = self.masking
        return masking.passes(step) if isinstance(masking, StatesPasses) else Passes()
