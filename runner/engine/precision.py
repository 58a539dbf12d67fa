"""Types of numbers in losses and statistics."""

import torch
from torch import Tensor


def full(values: Tensor) -> Tensor:
    """The values in float32 if they are in fewer bits (autocast's bf16), else as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
