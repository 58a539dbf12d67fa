"""Sizes in bytes as text."""


def readable(size: float) -> str:
    """A size in bytes as text in bytes, kB, MB or GB; 1 kB = 1,000 bytes."""
    power = next((i for i in range(3) if size < 1000 ** (i + 1)), 3)
    return f"{size / 1000**power:,.{1 if power else 0}f} {('bytes', 'kB', 'MB', 'GB')[power]}"
