"""Numbers of images that follow from official numbers, without reading a file."""


def training_images(total: int, fraction: float, held_out: float) -> int:
    """Return the number of images that are trained on, after `subset` and `hold_out`.

    Args:
        total: the official number.
    """
    used = round(fraction * total)
    return used - round(held_out * used)
