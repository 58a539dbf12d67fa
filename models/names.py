"""Names that other implementations give to the layers of our networks.

A renaming is a regular expression and its replacement. `renamings` of a network's description are
applied in turn to a name in a file that the network does not have (start.weights).
"""

Renamings = tuple[tuple[str, str], ...]

# ResNets of basic blocks for small images: stages called layer1 to layer4, the shortcut's layers
# counted, the classifier called linear (Idelbayev's and Liu's ResNets for CIFAR) or fc; the
# shortcut called downsample as in torchvision.
BASIC_BLOCKS: Renamings = (
    (r"^layer(\d)\.", r"stage\1."),
    (r"\.(?:downsample|shortcut)\.0\.", ".shortcut.conv."),
    (r"\.(?:downsample|shortcut)\.1\.", ".shortcut.bn."),
    (r"^(?:linear|classifier)\.", "fc."),
)

# The same ResNets for a network with torchvision's names.
TORCHVISION_BLOCKS: Renamings = (
    (r"^stage(\d)\.", r"layer\1."),
    (r"\.shortcut\.(?:0|conv)\.", ".downsample.0."),
    (r"\.shortcut\.(?:1|bn)\.", ".downsample.1."),
    (r"^(?:linear|classifier)\.", "fc."),
)

# Wide ResNets: stages called block1 to block3 with the blocks in `layer`, the shortcut called
# convShortcut (the PyTorch form that most pruning repositories copy); or layer1 to layer3, the
# shortcut's layers counted.
PREACTIVATION_BLOCKS: Renamings = (
    (r"^block(\d)\.layer\.", r"stage\1."),
    (r"^layer(\d)\.", r"stage\1."),
    (r"\.(?:convShortcut|shortcut\.0)\.", ".shortcut."),
    (r"^(?:linear|classifier)\.", "fc."),
)

# The parts of MobileNet-V1's blocks: their names in a block, their numbers in a Sequential, ours.
_SEPARABLE = (
    ("conv1", 0, "depthwise.conv"),
    ("bn1", 1, "depthwise.bn"),
    ("conv2", 3, "pointwise.conv"),
    ("bn2", 4, "pointwise.bn"),
)


def separable_blocks(number: int) -> Renamings:
    """MobileNet-V1 of `number` blocks: stem conv1 and bn1 and counted `layers` (the common nets for
    CIFAR), or all in a Sequential `model` (the common nets for ImageNet)."""
    blocks = [
        (rf"^(?:layers\.{i - 1}\.{name}|model\.{i}\.{place})\.", f"features.block{i}.{ours}.")
        for i in range(1, number + 1)
        for name, place, ours in _SEPARABLE
    ]
    return (
        (r"^(?:conv1|model\.0\.0)\.", "features.stem.conv."),
        (r"^(?:bn1|model\.0\.1)\.", "features.stem.bn."),
        *blocks,
        (r"^(?:linear|classifier)\.", "fc."),
    )


def counted(names: tuple[str, ...], sequence: str) -> Renamings:
    """Renamings of the layers of a `Sequential` that others only count.

    Args:
        names: our names of its layers in order.
        sequence: the name of the Sequential, ours and theirs.
    """
    layers = [(rf"^{sequence}\.{i}\.", f"{sequence}.{name}.") for i, name in enumerate(names)]
    return (*layers, (r"^(?:linear|classifier)(?:\.0)?\.", "fc."))
