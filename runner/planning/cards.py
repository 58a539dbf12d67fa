"""Estimates of hours from what a card can compute at most, for cards without a record.

The rates are those of the vendors' data sheets for dense matrices: tensor cores with bf16, and fp32
without TF32, which Winnow does not use.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from runner.errors import ConfigError, one_of

UTILISATION = 0.3  # an assumption; a net of small layers, or one that waits for its data, has less
FLOP = 2  # a multiply-accumulate is a product and a sum


@dataclass(frozen=True)
class Card:
    """A card, or a rate that the user states.

    Args:
        marker: what the device names of its records contain; empty = it has none.
        tflops: precision -> 1e12 operations a second at most; a card may lack a precision.
        utilisation: the share of them that a training reaches.
    """

    name: str
    marker: str
    tflops: Mapping[str, float]
    utilisation: float = UTILISATION

    def seconds(self, precision: str, macs: float) -> float:
        """Seconds for so many multiply-accumulates.

        Raises:
            ConfigError: the card has no instructions for the precision.
        """
        if precision not in self.tflops:
            raise ConfigError(
                f"card={self.name} has no {precision} instructions; use train.precision="
                f"{' or '.join(self.tflops)}, or state its rate with tflops=NUMBER"
            )
        return FLOP * macs / (self.tflops[precision] * 1e12 * self.utilisation)

    @property
    def rates(self) -> str:
        """The rates as text."""
        return ", ".join(f"{rate:g} in {precision}" for precision, rate in self.tflops.items())


# NVIDIA's data sheets: H200 SXM, H100 SXM, A100 SXM, V100 SXM2, L40S, T4; white papers of Ada and
# GA102, with accumulation in fp32: RTX 4090, RTX 3090. docs/teams.md says how they were checked.
CARDS = {
    card.name: card
    for card in (
        Card("h200", "H200", {"bf16": 989, "fp32": 67}),
        Card("h100", "H100", {"bf16": 989, "fp32": 67}),
        Card("a100", "A100", {"bf16": 312, "fp32": 19.5}),
        Card("v100", "V100", {"fp32": 15.7}),
        Card("l40s", "L40S", {"bf16": 362, "fp32": 91.6}),
        Card("t4", "T4", {"fp32": 8.1}),
        Card("rtx4090", "RTX 4090", {"bf16": 165.2, "fp32": 82.6}),
        Card("rtx3090", "RTX 3090", {"bf16": 71, "fp32": 35.6}),
    )
}
KEYS = ("card", "tflops", "utilisation")


def card_of(words: list[str]) -> tuple[Card | None, list[str]]:
    """The card that `card=`, `tflops=` and `utilisation=` state, and the other words.

    Raises:
        ConfigError: an unknown card, a number out of range, or a utilisation of no card.
    """
    pairs = [word.partition("=") for word in words]
    stated = {key: value for key, _, value in pairs if key in KEYS}
    rest = [word for word, (key, _, _) in zip(words, pairs, strict=True) if key not in KEYS]
    if not stated:
        return None, rest
    name = stated.get("card")
    if name is not None and name not in CARDS:
        raise ConfigError(f"{one_of('card', name, sorted(CARDS))}; or state tflops=NUMBER")
    if name is None and "tflops" not in stated:
        raise ConfigError("utilisation= needs card=NAME or tflops=NUMBER")
    card = Card("this card", "", {}) if name is None else CARDS[name]
    if "tflops" in stated:
        rate = _number("tflops", stated["tflops"], 1e6)
        card = replace(card, marker="", tflops=dict.fromkeys(("bf16", "fp32"), rate))
    if "utilisation" in stated:
        card = replace(card, utilisation=_number("utilisation", stated["utilisation"], 1.0))
    return card, rest


def _number(key: str, text: str, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= most:
        raise ConfigError(f"{key}={text} must be a number above 0, at most {most:g}")
    return value
