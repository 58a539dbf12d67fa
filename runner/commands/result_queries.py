"""Queries of documents for numbers of published pages: `PAGE.STATISTIC(KEY="VALUE", ...)`.

Each statistic is a dataclass with the options of its query. A query that fits nothing is refused;
a number that was not measured prints as missing.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from runner.commands import result_claims as claims
from runner.commands import result_numbers as numbers
from runner.commands.result_pages import ResultPage
from runner.config.typed import build
from runner.errors import ConfigError, one_of


class Statistic(Protocol):
    """A statistic of a page, as text."""

    tag: ClassVar[str]

    def text(self, page: ResultPage) -> str: ...


KINDS: tuple[type[Statistic], ...] = (
    numbers.Value,
    numbers.Range,
    numbers.Papers,
    numbers.Points,
    numbers.Records,
    numbers.Repeated,
    numbers.Link,
    numbers.Covered,
    claims.Tally,
    claims.Measured,
    claims.Interval,
    claims.Adjusted,
    claims.Told,
    claims.PapersDifference,
    claims.Needed,
)
STATISTICS: Mapping[str, type[Statistic]] = {kind.tag: kind for kind in KINDS}


@dataclass(frozen=True)
class Query:
    """A parsed query.

    Args:
        page: the name of the page in its template.
    """

    page: str
    statistic: Statistic


def parse_query(source: str) -> Query:
    """Parse `PAGE.STATISTIC(KEY="VALUE", ...)`.

    Raises:
        ConfigError: another form, an unknown statistic, or an unknown or invalid option.
    """
    form = ConfigError(f'{source} is no query: PAGE.STATISTIC(KEY="VALUE", ...)')
    try:
        call = ast.parse(source.strip(), mode="eval").body
    except SyntaxError:
        raise form from None
    match call:
        case ast.Call(func=ast.Attribute(value=ast.Name(id=page), attr=tag), args=[]):
            pass
        case _:
            raise form
    if tag not in STATISTICS:
        raise ConfigError(one_of("statistic", tag, STATISTICS))
    try:
        options = {word.arg or "**": ast.literal_eval(word.value) for word in call.keywords}
    except ValueError:
        raise form from None
    return Query(page, build(STATISTICS[tag], options, tag))
