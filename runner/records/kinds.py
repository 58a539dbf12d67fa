"""The kind of machine and versions that computed a record: what equal seeds need to be pairs.

Runs of equal kind and seed give equal bits. Another kind changes the last bits of a number, and
training amplifies them, so that it belongs to the noise of a seed.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runner.stats.seeds import Kind

# Packages beside PyTorch by which images, masks or curvatures can differ.
PACKAGES = ("torchvision", "numpy", "scikit-learn", "pyhessian")
DEVICES = "devices"
VERSIONS = "versions of "
SHORT = {  # in the singular
    DEVICES: "device",
    "PyTorch versions": "PyTorch",
    "kinds of CPU": "CPU",
    "numbers of processes": "processes",
}
NOT_STATED = "not stated"


def kind_of(record: Mapping[str, Any]) -> Kind:
    """The kind of a record: parts in the plural; one in which its stages differ has all texts.

    Records of earlier versions do not state some parts, so that they are of kinds of their own.
    """
    provenance = record["provenance"]
    origins = [_parts(origin or {}) for origin in provenance.get("origins", [provenance])]
    names = dict.fromkeys(name for parts in origins for name in parts)
    return tuple(
        (name, " and ".join(sorted({parts.get(name, NOT_STATED) for parts in origins})))
        for name in names
    )


def _parts(origin: Mapping[str, Any]) -> dict[str, str]:
    """What is stated of an origin of stages; nothing where none was stored."""
    versions, cpu, cuda = origin.get("versions", {}), origin.get("cpu"), origin.get("cuda")
    device = f"{origin.get('device_name', NOT_STATED)}, {origin.get('threads', '?')} thread(s)"
    libraries = {name: versions[name] for name in PACKAGES if name in versions}
    libraries |= cpu.get("libraries", {}) if cpu else {}
    return {
        DEVICES: device if origin else NOT_STATED,
        "PyTorch versions": versions.get("torch", NOT_STATED),
        "kinds of CPU": (
            f"{cpu['capability']} of {' '.join(cpu['instruction_sets'])}" if cpu else NOT_STATED
        ),
        "numbers of processes": str(origin.get("processes", 1)) if origin else NOT_STATED,
        **({f"{VERSIONS}CUDA": cuda} if cuda else {}),
        **{f"{VERSIONS}{name}": version for name, version in libraries.items()},
    }


def mixed(kinds: Iterable[Kind]) -> dict[str, list[str]]:
    """The parts that kinds state differently, each with its texts in order."""
    texts: dict[str, set[str]] = {}
    for kind in kinds:
        for name, text in kind:
            texts.setdefault(name, set()).add(text)
    return {name: sorted(found) for name, found in texts.items() if len(found) > 1}


def told_apart(kinds: Sequence[Kind]) -> list[str]:
    """Each of several kinds by what they state differently."""
    names = mixed(kinds)
    return [
        ", ".join(f"{_short(name)} {dict(kind)[name]}" for name in names if name in dict(kind))
        for kind in kinds
    ]


def _short(name: str) -> str:
    """A part in the singular."""
    return SHORT.get(name, name.removeprefix(VERSIONS))
