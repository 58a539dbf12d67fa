"""Training on several processes, which torchrun starts.

Each process reads and computes its share of every batch, gradients are averaged, and the first
process writes the files. The numbers are those of one process with the same global batch, up to the
order of sums: the loss of a share is weighted by its size, BatchNorm uses the statistics of the
whole batch, and all processes draw the same random numbers. Processes share the cache's file
system.

Decisions travel between hosts (gloo) and never wait for a device.
"""

import atexit
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from inspect import signature
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from pruners.base import Masking
from runner.data.shard import Shard
from runner.engine.local_messages import connect
from runner.engine.messages import CollectiveMessages, Messages, summed
from runner.engine.shared_batchnorm import share_statistics
from runner.errors import ConfigError
from runner.torchrun import ranks

# DistributedDataParallel's option, which torch 2.14 renamed
NEW, OLD = "forward_sync_buffers", "broadcast_buffers"
SYNC_BUFFERS = NEW if NEW in signature(DistributedDataParallel).parameters else OLD
MEETING = timedelta(minutes=30)  # for all processes to start
SMALL = 2**16  # bytes of a tensor that every process sends to all others
PATIENCE = timedelta(days=7)  # the others wait while the first process computes a measurement alone


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of one run. A single process communicates nothing.

    Args:
        messages: how small tensors of the host are sent.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")
    messages: Messages = CollectiveMessages()

    @property
    def first(self) -> bool:
        """Whether this process writes files, shows progress and runs what is not distributed."""
        return self.rank == 0

    @property
    def shard(self) -> Shard:
        """The part of each batch that this process reads."""
        return Shard(self.rank, self.size)

    def synchronised(self, model: nn.Module) -> nn.Module:
        """The model, whose BatchNorm uses the whole batch if several processes train.

        Parameters and their names do not change. In training mode, the model then works only if all
        processes call it.
        """
        if self.size == 1:
            return model
        if self.device.type == "cuda":
            convert: Callable[[nn.Module], nn.Module] = nn.SyncBatchNorm.convert_sync_batchnorm
            return convert(model)
        share_statistics(model, self.messages)
        return model

    def wrap(self, model: nn.Module, masking: Masking) -> nn.Module:
        """The module to call in training: the model, or DistributedDataParallel around it.

        The latter averages gradients during the backward pass.
        """
        if self.size == 1 or not any(p.requires_grad for p in model.parameters()):
            return model
        ids = [self.device.index] if self.device.type == "cuda" else None
        # Buffers are the statistics of BatchNorm, which are equal in all processes.
        options: dict[str, Any] = {SYNC_BUFFERS: False}
        # Where a masking replaces weights, some of the model's own may not be in the graph.
        unused = bool(masking.trainable)
        return DistributedDataParallel(
            model, device_ids=ids, find_unused_parameters=unused, **options
        )

    def average_gradients(self, tensors: Iterable[Tensor]) -> None:
        """Average the gradients of a masking's trainables.

        DistributedDataParallel averages those of model parameters only.
        """
        if self.size == 1:
            return
        for tensor in tensors:
            if tensor.grad is not None:
                dist.all_reduce(tensor.grad)
                tensor.grad /= self.size

    def total(self, values: Tensor) -> Tensor:
        """Sum `values` over processes, in place."""
        if self.size == 1:
            return values
        if values.device.type == "cpu" and values.nbytes <= SMALL:
            return values.copy_(summed(self.messages, values))
        dist.all_reduce(values)
        return values

    def least(self, value: float) -> float:
        """The smallest `value` of all processes."""
        if self.size == 1:
            return value
        found = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(found, dist.ReduceOp.MIN)
        return float(found)

    def gathered(self, value: Tensor) -> Tensor:
        """The sum of `value` over processes in the first of them, and 0 in the others."""
        total = self.total(value.clone())
        return total if self.first else torch.zeros_like(total)

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in any process."""
        if self.size == 1:
            return flag
        return bool(self.total(torch.tensor([float(flag)])).item())

    def broadcast_decision(self, question: Callable[[], bool]) -> bool:
        """The first process' answer to `question`, on all processes.

        Their own answers could differ: a change to the file system reaches them at different times.
        """
        if self.size == 1:
            return question()
        answer = torch.tensor([float(self.first and question())])
        dist.broadcast(answer, src=0)
        return bool(answer.item())

    @contextmanager
    def lead(self, context: AbstractContextManager[None]) -> Iterator[None]:
        """Enter `context` in the first process.

        The others wait until it has been entered; all processes leave together.
        """
        if self.size == 1:
            with context:
                yield
            return
        with context if self.first else nullcontext():
            self.wait()
            yield
            try:
                self.wait()
            except RuntimeError as error:
                if not is_lost(error):  # a process that has ended has left
                    raise

    def wait(self) -> None:
        """Block until all processes have called this."""
        self.any(False)


ALONE = ProcessGroup()
LOST = "another process of torchrun has ended; repeat the command to continue"


def is_lost(error: BaseException) -> bool:
    """Whether a communication failed, which it does once another process has ended.

    gloo raises a plain RuntimeError, whose text names a file of its sources.
    """
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error)
    )


def join(device: torch.device) -> ProcessGroup:
    """The processes that torchrun started, or this one alone without its complete environment.

    On CUDA each process uses the device of its local rank.

    Raises:
        ConfigError: more processes on this machine than CUDA devices.
    """
    own = ranks()
    if own.size == 1:
        return ProcessGroup(device=device)
    if device.type == "cuda":
        if own.local >= torch.cuda.device_count():
            raise ConfigError(
                f"--nproc-per-node: process {own.local + 1} of this machine has no CUDA device,"
                f" there are {torch.cuda.device_count()}"
            )
        device = torch.device("cuda", own.local)
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        store = PrefixStore(f"restart {own.restart}", _meeting())
        dist.init_process_group(
            backend, store=store, rank=own.rank, world_size=own.size, timeout=PATIENCE
        )
        atexit.register(dist.destroy_process_group)
    return connected(device)


def connected(device: torch.device) -> ProcessGroup:
    """The processes of torch's group, which send messages directly if they are on one host."""
    rank, size = dist.get_rank(), dist.get_world_size()
    return ProcessGroup(rank, size, device, connect(rank, size) or CollectiveMessages())


def _meeting() -> Store:
    """Torchrun's store, where processes find each other; it outlives a restart of all of them."""
    store: Store = next(iter(rendezvous("env://", timeout=MEETING)))[0]
    return store


def check_shareable(model: nn.Module, group: ProcessGroup) -> None:
    """Reject models with which several processes would not compute what one process computes.

    Raises:
        ConfigError: layers that draw random numbers, because all processes would draw the same.
    """
    if group.size > 1 and any(_draws(layer) for layer in model.modules()):
        raise ConfigError(
            f"torchrun with {group.size} processes: this net draws random numbers while it trains,"
            " and all processes would draw the same ones for their shares; run it without"
            " torchrun, or use model.dropout=0 model.stochastic_depth=0"
        )


def _draws(layer: nn.Module) -> bool:
    """Whether a layer draws random numbers in training."""
    random = isinstance(layer, nn.Dropout) or type(layer).__name__ == "StochasticDepth"
    return random and getattr(layer, "p", 0) > 0
