"""What the rows of the contract say."""

from __future__ import annotations

from attrs import frozen

__all__ = ["Attribute", "Event", "LogEvent", "Metric", "Span"]


@frozen
class Attribute:
    """An attribute of a span or of an event.

    Attributes:
        name: Its name; one that ends in a dot is the beginning of a name.
        type: "str", "bool", "int", "float", or a list of one of them, such as "str[]".
        meaning: What it says.
        when: When it is there; empty where it always is.
    """

    name: str
    type: str
    meaning: str
    when: str = ""


@frozen
class Span:
    """A span. Its kind is INTERNAL.

    Attributes:
        name: Its name; `{key}` is the rollout's, `{variant}` the variant's.
        one_per: What there is one of these for.
        parent: Whose child it is.
        link: What it links to, and the link's `rollout.link.type`; empty for none.
        attributes: What it says.
    """

    name: str
    one_per: str
    parent: str
    link: str
    attributes: tuple[Attribute, ...]


@frozen
class Event:
    """An event on a span, or as a log record.

    Attributes:
        name: Its name.
        on: Of which spans, by the first word of their names; empty where it is never on one.
        when: When there is one.
        attributes: What it says.
        setting: The setting with which it is a log record; empty where it never is.
    """

    name: str
    on: str
    when: str
    attributes: tuple[Attribute, ...]
    setting: str = 'Telemetry(flag_events="log")'


@frozen
class Metric:
    """An instrument.

    Attributes:
        name: Its name.
        instrument: Its kind.
        unit: Its unit.
        meaning: What it measures.
        attributes: Names of its attributes; "?" after those that are not always there.
        when: The setting that it needs; empty for none.
    """

    name: str
    instrument: str
    unit: str
    meaning: str
    attributes: tuple[str, ...]
    when: str = ""


@frozen
class LogEvent:
    """A structlog event of the logger `rollout_sdk`.

    Attributes:
        name: Its name.
        level: Its level.
        meaning: When it is emitted.
        fields: Its fields; "?" after those that are not always there.
    """

    name: str
    level: str
    meaning: str
    fields: tuple[str, ...]
