"""Squared gradients of single images, whose sums are diagonals of curvature matrices."""

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from pruners.base import LossFn, Scores


def factor_product(p: Tensor, u: Tensor) -> Tensor:
    """F u (B, C), where F F' = diag(p) - p p' is the Hessian of cross-entropy in the outputs.

    F = diag(sqrt p) - p sqrt(p)'; p (B, C) are the classes' probabilities and u is (B, C).
    """
    root = p.sqrt()
    return root * u - p * (root * u).sum(1, keepdim=True)


def along(outputs: Tensor, direction: Tensor) -> Tensor:
    """Outputs (B, C) times a direction of the same shape: its gradient is J' direction."""
    return (outputs * direction).sum()


# Only torch.func differentiates here; the model's own biases would build a needless graph.
@torch.no_grad()
def add_squares(
    total: Scores,
    model: nn.Module,
    x: Tensor,
    targets: Tensor,
    shares: Tensor,
    loss: LossFn,
    size: int,
) -> None:
    """Add to `total` the squared gradient of each image's own `loss`, times its share.

    Args:
        targets: (B, ...) the loss's second argument for each image of x.
        shares: (B,).
        size: images at a time.
    """
    weights = {name: model.get_parameter(name).detach() for name in total}

    def own(w: dict[str, Tensor], image: Tensor, target: Tensor) -> Tensor:
        return loss(functional_call(model, w, (image[None],)), target[None])

    per_image = vmap(grad(own), in_dims=(None, 0, 0))
    parts = [torch.split(t, size) for t in (x, targets, shares) if len(t)]
    for images, some, weight in zip(*parts, strict=True):
        for name, g in per_image(weights, images, some).items():  # (b, *shape)
            total[name] += torch.einsum("b,b...->...", weight.to(g), g**2)
