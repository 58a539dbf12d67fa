"""The stages of methods with their default options."""

from runner.config.build import build_plain
from runner.config.compose import compose_config
from runner.config.plain import to_plain
from runner.config.repeat import files_read
from runner.spec.run import Stage

DENSITY = 0.1  # of methods that take one


def stages_of(name: str) -> tuple[Stage, ...]:
    """The stages of a method; none if its masks come from a file."""
    method = to_plain(compose_config([f"method={name}"]), resolve=False)["method"]
    if files_read(method["stages"]):
        return ()
    density = [] if method["density"] == "refused" else [f"density={DENSITY}"]
    words = [f"method={name}", *density]
    return build_plain(to_plain(compose_config(words), resolve=False)).stages
