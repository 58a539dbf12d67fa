"""Sizes for people."""


def readable(size: float) -> str:
    """Bytes as people read them; a kB is 1,000."""
    power = next((i for i in range(3) if size < 1000 ** (i + 1)), 3)
    return f"{size / 1000**power:,.{1 if power else 0}f} {('bytes', 'kB', 'MB', 'GB')[power]}"
