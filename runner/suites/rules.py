"""Which parts of a table hold for the options that were chosen (`when`), and which rules of `where` for an entry."""

from collections.abc import Mapping

from runner.suites.schema import SuiteSpec, When


def applies(when: When, options: Mapping[str, str]) -> bool:
    """Whether the table's options have the values that `when` asks for."""
    return all(options[key] == value for key, value in when.items())


def rule_overrides(spec: SuiteSpec, options: Mapping[str, str], panel: str | None, network: str, method: str) -> list[str]:
    """The overrides of the rules that are for an entry, by the ids of its panel and method."""
    rules = (rule for rule in spec.where if rule.matches(panel, network, method) and applies(rule.when, options))
    return [word for rule in rules for word in rule.overrides]
