"""Checks that need no component: ranges of values, and options that the method does not use."""

from dataclasses import dataclass, fields
from typing import Any

from runner.config import typed
from runner.config.interpolation import Resolved
from runner.config.plain import Plain

# A method declares in `uses` which of these groups it refers to.
OPTION_GROUPS = ("source", "allocate", "pick", "schedule", "start", "retrain")


@dataclass(frozen=True)
class Numbers:
    """The keys of a run outside its groups. A reference may put any value in their place."""

    density: float | None
    seed: int
    train_fraction: float


def numbers(values: Plain) -> Plain:
    """The values of `Numbers`, converted to their types.

    Raises:
        ConfigError: a value has another type.
    """
    given = {each.name: values[each.name] for each in fields(Numbers)}
    return vars(typed.build(Numbers, given, key=""))


def check_values(values: Plain) -> list[str]:
    """A message for each value that is out of its range."""
    problems = []
    density, rule = values["density"], values["method"].get("density")
    name, why = values["method"].get("name"), values["method"].get("why", {})
    if density is not None and not 0 < density <= 1:
        problems.append(
            f"density={density:g} must be in (0, 1]: it is kept / prunable, and sparsity = 1 -"
            " density"
        )
    if density is None and rule == "required":
        problems.append(
            f"density is missing: method={name} prunes to the density that you give, e.g."
            " density=0.1 keeps a tenth of the weights"
        )
    if density is not None and rule == "refused":
        problems.append(
            f"density={density:g}: method={name} takes no density,"
            f" {why.get('density', 'it sets its own')}; leave it out or take another method"
        )
    if values["seed"] < 0:
        problems.append(f"seed={values['seed']} must be 0 or more")
    if not 0 < values["train_fraction"] <= 1:
        problems.append(
            f"train_fraction={values['train_fraction']:g} must be in (0, 1]: the share of the"
            " training images that is used"
        )
    return problems


def check_options(resolved: Resolved) -> list[str]:
    """A message, with the reason, for each choice of options that does not fit the method.

    These are option groups that it does not use, and invalid combinations of `start` and `retrain`.
    """
    values, method = resolved.values, resolved.values["method"]
    declared = set(method.get("uses", ()))
    read = resolved.origins.groups_read("method") & set(OPTION_GROUPS)
    problems = _misdeclared(method["name"], declared, read)
    for group in OPTION_GROUPS:
        if _is_set(values[group]) and group not in declared | read:
            reason = method.get("why", {}).get(group, "it has no such choice")
            problems.append(
                f"{group} is not an option of method={method['name']}: {reason}. Leave"
                f" {group}=... out"
            )
    start, retrain = values["start"].get("name"), values["retrain"].get("name")
    needed = method.get("start", start)
    if start != needed:
        problems.append(
            f"start={start}: method={method['name']} {method['why']['start']}; leave start=... out"
        )
    if start == "init" and retrain != "none" and not any(p.startswith("retrain") for p in problems):
        problem = (
            f"retrain={retrain}: method={method['name']} prunes at initialization here, so there is"
            f" nothing to {retrain}"
        )
        problems.append(f"{problem}; add start=dense, or leave retrain out")
    if start not in (None, "init") and retrain == "none" and method.get("retrain") != "optional":
        problems.append(
            f"retrain=none: start={start} prunes a trained net; choose how it is retrained: reinit,"
            " rewind, finetune or lr_rewind"
        )
    return problems


def _is_set(node: Any) -> bool:
    """Whether an option group has a choice other than none (or `init`, the default of `start`)."""
    chosen = node.get("name", "unnamed") if isinstance(node, dict) else node
    return chosen not in (None, "none", "init")


def _misdeclared(name: str, declared: set[str], read: set[str]) -> list[str]:
    """A message for each group that a method declares (`uses`) or refers to, but not both.

    A choice of such a group would be refused or have no effect.
    """
    lacking = [
        f"method.uses of method={name} lacks {group}, which the method refers to: add it"
        for group in sorted(read - declared)
    ]
    return lacking + [
        f"method.uses of method={name} has {group}, which the method does not refer to: leave"
        f" it out (if an override replaced the reference, set {group}=... instead)"
        for group in sorted(declared - read)
    ]
