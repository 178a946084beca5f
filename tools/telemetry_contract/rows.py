"""The types of the contract's rows."""

from __future__ import annotations

from attrs import frozen

__all__ = ["Attribute", "Event", "LogEvent", "Metric", "Span"]


@frozen
class Attribute:
    """An attribute of a span or of an event.

    Attributes:
        name: Its name; one that ends in a dot is a prefix.
        type: "str", "bool", "int", "float", or a list of one of them, such as "str[]".
        meaning: Its meaning.
        when: When it is present; empty: always.
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
        one_per: One span is emitted for each of these.
        parent: Its parent.
        link: The linked span, and the link's `rollout.link.type`; empty for none.
        attributes: Its attributes.
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
        on: The spans that have it, by the first word of their names; empty: none.
        when: One event is emitted for these.
        attributes: Its attributes.
        setting: The setting with which it is a log record; empty: it never is one.
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
        attributes: Names of its attributes; "?" after those that are not always present.
        when: The setting that it needs; empty: none.
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
        fields: Its fields; "?" after those that are not always present.
    """

    name: str
    level: str
    meaning: str
    fields: tuple[str, ...]
