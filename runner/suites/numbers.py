"""Means, spreads and quantiles, and number formats of the papers."""

import statistics


def mean_and_spread(values: list[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation (n - 1), which is None for one value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def shown(value: float) -> str:
    """Format a number of ours, of any size, with three digits: `85.1`, `6.17 × 10^-12`, `0`."""
    return f"{value:#.3g}".rstrip(".") if 0.01 <= abs(value) < 999.5 else power(f"{value:.2e}")


def power(text: str) -> str:
    """Format a number in e-notation as papers do: `6.17 × 10^-12`. Digits are kept; zero is `0`."""
    digits, _, exponent = text.partition("e")
    if not float(text):
        return "0"
    return f"{digits} × 10^{int(exponent)}" if int(exponent or 0) else digits


# 97.5 % quantiles of Student's t for 1 to 20 degrees of freedom. For more, the normal quantile is
# used, which is at most 6 % smaller.
# fmt: off
T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)
# fmt: on
NORMAL = 1.960


def student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t for `freedom` degrees of freedom (at least 1).

    It is half the width of a 95 % interval in standard errors.
    """
    return T[freedom - 1] if freedom <= len(T) else NORMAL
