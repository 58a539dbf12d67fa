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
