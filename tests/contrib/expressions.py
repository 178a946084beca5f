"""What a PromQL expression names: metrics, labels, and the values that labels are compared with."""

import re
from collections.abc import Collection, Iterator, Mapping

WORDS = frozenset(
    {
        "abs",
        "and",
        "by",
        "group_left",
        "histogram_quantile",
        "increase",
        "label_replace",
        "label_values",
        "max",
        "max_over_time",
    }
    | {"min", "min_over_time", "offset", "on", "or", "rate", "sqrt", "sum", "unless"}
)
"""Words of PromQL, and of Grafana's `label_values`. Everything else that looks like a name is one."""

FROM_PROMETHEUS = frozenset({"job", "instance", "le"})
"""Labels that Prometheus adds, or that every histogram has."""

_TEXT = r'"(?:[^"\\]|\\.)*"'
_MATCHER = re.compile(rf"(\w+)\s*(=~|!~|!=|=)\s*({_TEXT})")


def names(expression: str) -> set[str]:
    """Every metric and label that is named, without those that our rules record (`rollout:...`)."""
    bare = re.sub(_TEXT, "", re.sub(r"\[[^\]]*\]|\boffset\s+\w+|\$\w+", "", expression))
    return {word for word in re.findall(r"(?<![\w:])[a-zA-Z_]\w*(?![\w:])", bare) if word not in WORDS}


def recorded(expression: str) -> set[str]:
    """Every recorded series that is named."""
    return set(re.findall(r"rollout:\w+:\w+", expression))


def matchers(expression: str) -> Iterator[tuple[str, str, str]]:
    """Label, operator and value of every matcher."""
    for label, operator, text in _MATCHER.findall(expression):
        yield label, operator, text[1:-1]


def unknown(expression: str, emitted: Mapping[str, Mapping[str, Collection[str]]]) -> set[str]:
    """What an expression names and nothing emits: metrics, labels, and values of labels; of `=~"a|b"`, each value.

    Args:
        expression: The expression.
        emitted: What a run emits: the values of every label, by metric.
    """
    labels: dict[str, set[str]] = {}
    for series in emitted.values():
        for label, values in series.items():
            labels.setdefault(label, set()).update(values)
    missing = names(expression) - emitted.keys() - labels.keys() - FROM_PROMETHEUS - {"__name__"}
    for label, operator, value in matchers(expression):
        if value.startswith("$"):
            continue
        known = set(emitted) if label == "__name__" else labels.get(label, {""})
        for wanted in value.split("|") if operator == "=~" and re.fullmatch(r"[\w|]+", value) else [value]:
            found = any(re.fullmatch(wanted, each) for each in known) if "~" in operator else wanted in {*known, ""}
            if not found:
                missing.add(f"{label}{operator}{wanted!r}")
    return missing
