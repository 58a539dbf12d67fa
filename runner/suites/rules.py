"""Select the parts of a table by its options (`when`), and the rules of `where` by entry."""

from collections.abc import Mapping

from runner.suites.schema import SuiteSpec, When


def applies(when: When, options: Mapping[str, str]) -> bool:
    """Whether the table's options have the values that `when` requires."""
    return all(options[key] == value for key, value in when.items())


def rule_overrides(
    spec: SuiteSpec, options: Mapping[str, str], panel: str | None, network: str, method: str
) -> list[str]:
    """Return the overrides of the rules that match an entry, by the ids of its panel and method."""
    rules = (
        rule
        for rule in spec.where
        if rule.matches(panel, network, method) and applies(rule.when, options)
    )
    return [each for rule in rules for each in rule.overrides]
