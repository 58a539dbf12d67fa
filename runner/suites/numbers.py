"""Means, spreads and quantiles, and numbers as papers print them."""

import statistics


def mean_and_spread(values: list[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1); no spread for one value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def shown(value: float) -> str:
    """Our number of any size in three digits: `85.1`, `6.17 × 10^-12`, `0`."""
    return f"{value:#.3g}".rstrip(".") if 0.01 <= abs(value) < 999.5 else power(f"{value:.2e}")


def power(text: str) -> str:
    """A number in e-notation as papers print it, digits as they are: `6.17 × 10^-12`; zero is 0."""
    digits, _, exponent = text.partition("e")
    return "0" if not float(text) else f"{digits} × 10^{int(exponent)}" if int(exponent or 0) else digits


# 97.5 % quantiles of Student's t by degrees of freedom; beyond, the normal's is within 2 %.
T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086)

NORMAL = 1.960


def student(freedom: int) -> float:
    """97.5 % quantile of Student's t: half a 95 % interval in standard errors, for `freedom` degrees of freedom (1 and more)."""
    return T[freedom - 1] if freedom <= len(T) else NORMAL
