"""Files of a ticket for plain PyTorch: weights and masks, and the lines of code that load them."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import safetensors.torch
import torch
from torch import Tensor, nn

from pruners.base import Masks

MASK, ORIGINAL = "_mask", "_orig"  # the endings of torch.nn.utils.prune


@dataclass(frozen=True)
class Ticket:
    """A masked network, on the CPU.

    Args:
        masks: by parameter name, bool, True = kept.
        image: (C, H, W) of an input.
        about: what the file says of its origin.
    """

    model: nn.Module
    masks: Masks
    image: tuple[int, int, int]
    about: Mapping[str, str]

    @property
    def state(self) -> dict[str, Tensor]:
        """The state dict of the network; pruned weights are zero."""
        return {n: t.detach().clone(memory_format=FLAT) for n, t in self.model.state_dict().items()}


FLAT = torch.contiguous_format  # the order of the dimensions in memory, as others have it


@dataclass(frozen=True)
class Format:
    """A form of files.

    Args:
        file: the name of the file.
        write: its content.
        lines: Python that loads it into `model`, a network whose layers have the same names.
    """

    file: str
    write: Callable[[Ticket], bytes]
    lines: str


def _safetensors(ticket: Ticket) -> bytes:
    masks = {f"{name}{MASK}": mask for name, mask in ticket.masks.items()}
    content: bytes = safetensors.torch.save({**ticket.state, **masks}, dict(ticket.about))
    return content


def _torch(ticket: Ticket) -> bytes:
    return _pickled({"state_dict": ticket.state, "mask": dict(ticket.masks), **ticket.about})


def _prune(ticket: Ticket) -> bytes:
    state = ticket.state
    for name, mask in ticket.masks.items():
        weight = state.pop(name)
        state |= {f"{name}{ORIGINAL}": weight, f"{name}{MASK}": mask.to(weight.dtype)}
    return _pickled(state)


def _program(ticket: Ticket) -> bytes:
    images, content = torch.zeros(2, *ticket.image), io.BytesIO()
    sizes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(ticket.model.eval(), (images,), dynamic_shapes=sizes)
    torch.export.save(program, content)
    return content.getvalue()


def _pickled(value: object) -> bytes:
    content = io.BytesIO()
    torch.save(value, content)
    return content.getvalue()


KEEP = (
    "# in training, after each step: for n, m in masks.items(): model.get_parameter(n).data.mul_(m)"
)
FORMATS: Mapping[str, Format] = {
    "safetensors": Format(
        "ticket.safetensors",
        _safetensors,
        f"""\
import safetensors.torch
saved = safetensors.torch.load_file("ticket.safetensors")
masks = {{n[:-5]: saved.pop(n) for n in list(saved) if n.endswith("{MASK}")}}
model.load_state_dict(saved)
{KEEP}
""",
    ),
    "torch": Format(
        "ticket.pt",
        _torch,
        f"""\
import torch
saved = torch.load("ticket.pt", weights_only=True)
masks = saved["mask"]
model.load_state_dict(saved["state_dict"])
{KEEP}
""",
    ),
    "prune": Format(
        "ticket.pt",
        _prune,
        """\
import torch, torch.nn.utils.prune
saved = torch.load("ticket.pt", weights_only=True)
for name, mask in [(n[:-12], m) for n, m in saved.items() if n.endswith(".weight_mask")]:
    torch.nn.utils.prune.custom_from_mask(model.get_submodule(name), "weight", mask)
model.load_state_dict(saved)  # trains under the masks as it is
""",
    ),
    "pt2": Format(
        "ticket.pt2",
        _program,
        """\
import torch
model = torch.export.load("ticket.pt2").module()  # in eval mode; needs no class of its own
logits = model(images)
""",
    ),
}
