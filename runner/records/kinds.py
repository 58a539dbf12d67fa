"""The kind of machine and versions that computed a record: what equal seeds need to be pairs.

Runs of equal kind and seed give equal bits. Another kind changes the last bits of a number, and
training amplifies them, so that it belongs to the noise of a seed.
"""

from collections.abc import Iterable, Sequence

from runner.spec.record import Record, RecordedOrigin, origins_of
from runner.stats.seeds import Kind

# Packages beside PyTorch by which images, masks or curvatures can differ.
PACKAGES = ("torchvision", "numpy", "scikit-learn", "pyhessian")
DEVICES, TORCH, CPUS = "devices", "PyTorch versions", "kinds of CPU"
PROCESSES = "numbers of processes"
VERSIONS = "versions of "
SHORT = {  # in the singular
    DEVICES: "device",
    TORCH: "PyTorch",
    CPUS: "CPU",
    PROCESSES: "processes",
}
NOT_STATED = "not stated"


def kind_of(record: Record) -> Kind:
    """The kind of a record: parts in the plural; one in which its stages differ has all texts.

    Records of earlier versions do not state some parts, so that they are of kinds of their own.
    """
    origins = [_parts(origin) for origin in origins_of(record["provenance"])]
    names = dict.fromkeys(name for parts in origins for name in parts)
    return tuple(
        (name, " and ".join(sorted({parts.get(name, NOT_STATED) for parts in origins})))
        for name in names
    )


def _parts(origin: RecordedOrigin | None) -> dict[str, str]:
    """What is stated of an origin of stages; nothing where none was stored."""
    if origin is None:
        return dict.fromkeys((DEVICES, TORCH, CPUS, PROCESSES), NOT_STATED)
    versions, cpu, cuda = origin.get("versions", {}), origin.get("cpu"), origin.get("cuda")
    libraries = {name: versions[name] for name in PACKAGES if name in versions}
    libraries |= cpu["libraries"] if cpu else {}
    return {
        DEVICES: f"{origin['device_name']}, {origin['threads']} thread(s)",
        TORCH: versions.get("torch", NOT_STATED),
        CPUS: (
            f"{cpu['capability']} of {' '.join(cpu['instruction_sets'])}" if cpu else NOT_STATED
        ),
        PROCESSES: str(origin.get("processes", 1)),
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
