"""Choose the narrower form of a net that has as many weights as a density keeps of the whole."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

from runner.config.interpolation import choices_with
from runner.errors import ConfigError
from runner.spec.network import prunable_weights, shapes_of

KEY = "model.widest"  # of the form: channels of its widest hidden layer


def narrower(model: Any, info: Any, density: float, method: str) -> Any:
    """The form of `model` whose number of prunable weights is nearest to density x the net's own.

    Of two equally near ones it is the narrower. The number grows with the channels of the widest
    layer, so bisection finds it.

    Args:
        info: the data set's; inputs and classes are not narrowed.
        density: in (0, 1].
        method: the name of the method that narrows, for messages.

    Raises:
        ConfigError: the net has no narrower form, it does not take the images, or even the
            narrowest form is farther from the request than keeping nothing.
    """
    from pruners.base import keep_count

    most = _widest(model, method)
    try:
        whole = _weights(model, info)
        wanted = keep_count(density, whole)
    except ValueError as error:
        raise ConfigError(*str(error).splitlines()) from error
    low, high = 1, most  # the first form with at least `wanted` weights is from low to high
    while low < high:
        middle = (low + high) // 2
        if _weights(replace(model, widest=middle), info) < wanted:
            low = middle + 1
        else:
            high = middle
    widths = (low - 1, low) if low > 1 else (low,)
    near = {width: _weights(replace(model, widest=width), info) for width in widths}
    width = min(near, key=lambda each: (abs(near[each] - wanted), each))
    if near[width] > 2 * wanted:
        raise ConfigError(
            f"density={density:g}: the narrowest form of model={model.name} has {near[width]:,} of"
            f" its {whole:,} prunable weights, density {near[width] / whole:.2g}; take a larger"
            f" density, or a method that prunes instead of method={method}"
        )
    return model if width == most else replace(model, widest=width)


def _widest(model: Any, method: str) -> int:
    """Channels of the widest hidden layer of a net.

    Raises:
        ConfigError: the net has no narrower form.
    """
    from models.narrow import Narrowable

    if isinstance(model, Narrowable) and model.channels:
        return max(model.channels) if model.widest is None else model.widest
    lacking = "hidden layer" if isinstance(model, Narrowable) else "narrower form"
    raise ConfigError(
        f"model={model.name} has no {lacking}, and method={method} narrows the net; take"
        f" model={'|'.join(choices_with([KEY]))}"
    )


@lru_cache(maxsize=1024)
def _weights(model: Any, info: Any) -> int:
    return prunable_weights(shapes_of(model, info))
