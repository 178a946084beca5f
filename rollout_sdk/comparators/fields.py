"""`Fields`: each part of an answer compared in its own way, and counted by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen

from rollout_sdk.comparators.answers import Ignore
from rollout_sdk.comparators.base import Comparator, as_comparator
from rollout_sdk.comparators.close import Close
from rollout_sdk.comparators.parts import column_at, column_names, columns_of, fields_of, is_sequence, plain
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.records import Comparison

__all__ = ["Fields"]

_MISSING = object()
_LONGEST_NAME, _MOST_EXTRA = 128, 50
_EACH = "*"
_CLOSE = Close()


def _comparators(fields: Any) -> Mapping[str, Comparator]:
    if not isinstance(fields, Mapping) or not all(isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME for name in fields):
        raise ConfigurationError(
            f"Fields({fields!r:.60}) does not name fields. It is a mapping of paths to comparators. "
            "Write Fields({'score': Close(abs=0.01), 'id': Ignore()})."
        )
    return {name: as_comparator(each) for name, each in fields.items()}


def _known(owner: Any, attribute: Any, value: object) -> None:  # noqa: ARG001
    if value not in ("compare", "ignore"):
        raise ConfigurationError(f"extra={value!r:.40} of Fields is unknown. It must be 'compare' or 'ignore'.")


@frozen
class Fields(Comparator):
    """Compares parts of answers, each in its own way: `Fields({"score": Close(abs=0.01), "label": Label(), "id": Ignore()})`.

    An answer matches if every field does; the difference is the share of fields that differ. The judge counts each field as
    well: `Guardrail("shadow.mismatch.score", margin=0.02)`.

    Attributes:
        fields: Comparators, or functions, by path: a key of a mapping, a field of an object, a column of a frame, or a place in
            a list, with dots between them ("choices.0.message.content"); "*" is every place of a list ("items.*.price").
        extra: What is done with names at the top that no path begins with: "compare" them as `Close()` does, under their own
            names, or "ignore" them.

    Raises:
        LookupError: When it is called: neither answer has anything that is to be compared, so that nothing can be said of them.
    """

    fields: Mapping[str, Comparator] = field(converter=_comparators)
    extra: Literal["compare", "ignore"] = field(default="compare", kw_only=True, validator=_known)
    name = "fields"

    def __call__(self, control: Any, candidate: Any) -> Comparison:
        """Compare two answers."""
        found: dict[str, Comparison] = {}
        is_seen = False
        for path, comparator in self.fields.items():
            if not isinstance(comparator, Ignore):
                parts = path.split(".")
                ours, theirs = _at(control, parts), _at(candidate, parts)
                is_seen = is_seen or ours is not _MISSING or theirs is not _MISSING
                found[path] = _compared(comparator, ours, theirs)
        others = self._extra(control, candidate) if self.extra == "compare" else {}
        if found and not is_seen and not others:
            raise LookupError(
                f"None of the fields {', '.join(map(repr, found)):.200} is in the answers, of {type(control).__name__} and "
                f"{type(candidate).__name__}: nothing was compared. Name fields that one of them has."
            )
        found.update(others)
        differing = [f"{path}: {each.reason}" for path, each in found.items() if not each.match]
        labels = next((each.labels for each in found.values() if each.labels is not None), None)
        return Comparison(
            match=not differing,
            difference=len(differing) / len(found) if found else 0.0,
            reason=differing[0] if differing else None,
            name=self.name,
            fields=found,
            labels=labels,
        )

    def _extra(self, control: Any, candidate: Any) -> dict[str, Comparison]:
        """Compare what no path is about."""
        tops = {path.partition(".")[0] for path in self.fields}
        if is_sequence(control) and is_sequence(candidate):
            return {"length": _CLOSE(len(control), len(candidate))} if tops else {"answer": _CLOSE(control, candidate)}
        ours, theirs = _names(control), _names(candidate)
        if ours is None or theirs is None:
            # Nothing but the paths is known of them.
            return {} if tops else {"answer": _CLOSE(control, candidate)}
        rest = [name for name in {**ours, **theirs} if isinstance(name, str) and name not in tops][:_MOST_EXTRA]
        return {name[:_LONGEST_NAME]: _compared(_CLOSE, ours.get(name, _MISSING), theirs.get(name, _MISSING)) for name in rest}


def _compared(comparator: Comparator, ours: Any, theirs: Any) -> Comparison:
    if ours is _MISSING and theirs is _MISSING:
        return comparator.found(None)
    if ours is _MISSING or theirs is _MISSING:
        return comparator.found("missing")
    return comparator(ours, theirs)


def _names(value: Any) -> Mapping[Any, Any] | None:
    if isinstance(value, Mapping):
        return dict(value)
    if (frame := columns_of(value)) is not None:
        return dict(zip(*frame[:2], strict=True))
    return fields_of(value)


def _at(value: Any, parts: list[str]) -> Any:
    """Return what a path leads to."""
    for place, part in enumerate(parts):
        if part == _EACH:
            rest, items = parts[place + 1 :], plain(value)
            return [_at(each, rest) for each in items] if is_sequence(items) else _MISSING
        value = _step(value, part)
        if value is _MISSING:
            break
    return value


def _step(value: Any, part: str) -> Any:
    if isinstance(value, Mapping):
        # Some, such as protobuf's, have no `get`.
        return value[part] if part in value else _MISSING  # noqa: SIM401
    if (names := column_names(value)) is not None:
        return column_at(value, names.index(part)) if part in names else _MISSING
    if part.isdecimal() and is_sequence(items := plain(value)):
        return items[int(part)] if int(part) < len(items) else _MISSING
    if part.startswith("_"):
        return _MISSING
    return getattr(value, part, _MISSING)
