"""Comparators of single values: equality, classes, texts, and vectors."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from operator import mul
from typing import Any

from attrs import field, frozen

from rollout_sdk.comparators.base import Comparator, share
from rollout_sdk.comparators.close import examine
from rollout_sdk.comparators.columns import Column, as_column
from rollout_sdk.comparators.parts import is_missing, plain
from rollout_sdk.records import Comparison

__all__ = ["Cosine", "Equal", "Ignore", "Label", "Text"]

_LONGEST_LABEL = 64
_WORD = re.compile(r"\w+")
_SPACE = re.compile(r"\s+")


@frozen
class Equal(Comparator):
    """Answers of one type that are equal match; there is no tolerance, and no difference.

    Equal is what `==` says, or what is equal part by part, where `==` says otherwise or nothing: arrays and frames, also inside
    other objects, and missing values, which match themselves.
    """

    name = "equal"

    def __call__(self, control: Any, candidate: Any) -> Comparison:
        """Compare two answers."""
        if type(control) is not type(candidate):
            return self.found("type")
        return self.found(None if _is_equal(control, candidate) else examine(control, candidate, (0.0, 0.0), 0)[0])


def _is_equal(a: Any, b: Any) -> bool:
    try:
        equal = a == b
        # Of an array, each element has an answer of its own.
        return bool(equal.all() if hasattr(equal, "all") else equal)
    # Arrays of other shapes, frames, and what contains either, have none.
    except Exception:
        return False


@frozen
class Ignore(Comparator):
    """Everything matches: for fields that always differ, such as ids and times."""

    name = "ignore"

    def __call__(self, control: Any, candidate: Any) -> Comparison:  # noqa: ARG002
        """Return a match."""
        return self.found(None)


@frozen
class Label(Comparator):
    """Answers are classes, which must be the same. The report shows Cohen's kappa and which class became which.

    The labels themselves are written to the journal: use it for classes, not for data about people.

    Attributes:
        of: Takes the class from an answer: `lambda answer: answer["label"]`.
    """

    of: Callable[[Any], Any] | None = field(default=None, kw_only=True)
    name = "label"

    def __call__(self, control: Any, candidate: Any) -> Comparison:
        """Compare two classes."""
        ours, theirs = (plain(each if self.of is None else self.of(each)) for each in (control, candidate))
        labels = str(ours)[:_LONGEST_LABEL], str(theirs)[:_LONGEST_LABEL]
        # What is missing is a class, too; NaN is what differs from itself.
        if is_missing(ours) or is_missing(theirs):
            same = type(ours) is type(theirs)
        else:
            same = bool(ours == theirs) or bool(ours != ours and theirs != theirs)  # noqa: PLR0124
        return Comparison(match=same, reason=None if same else "label", name=self.name, labels=labels)


@frozen
class Text(Comparator):
    """Texts match if they are equal; the difference is the share of words that they do not have in common.

    None is the text that an answer does not have: it matches None.

    Attributes:
        normalise: Whether case, form of Unicode, white space and punctuation make no difference.
        min: Similarity from which on two texts match: 1 for equal ones (the default), 0.8 for four words of five in common.
    """

    normalise: bool = field(default=True, kw_only=True)
    min: float = field(default=1.0, kw_only=True, validator=share)
    name = "text"

    def __call__(self, control: Any, candidate: Any) -> Comparison:
        """Compare two texts.

        Raises:
            TypeError: One of them is neither a text nor None.
        """
        if control is None and candidate is None:
            return self.found(None, 0.0)
        if control is None or candidate is None:
            return self.found("missing", 1.0)
        for each in (control, candidate):
            if not isinstance(each, str):
                raise TypeError(
                    f"Text compares texts, and got {type(each).__name__}. Take the text out with Fields({{'path': Text()}})."
                )
        ours, theirs = (self._normal(each) for each in (control, candidate))
        one, other = (Counter(_WORD.findall(each)) for each in (ours, theirs))
        words = one.total() + other.total()
        # Dice's coefficient of the words: fast, and independent of the order.
        similarity = 2 * (one & other).total() / words if words else float(ours == theirs)
        match = ours == theirs or (self.min < 1 and similarity >= self.min)
        return self.found(None if match else "text", 1 - similarity)

    def _normal(self, text: str) -> str:
        if not self.normalise:
            return text
        text = unicodedata.normalize("NFKC", text).casefold()
        words = (character if character.isalnum() or character.isspace() else " " for character in text)
        return _SPACE.sub(" ", "".join(words)).strip()


@frozen
class Cosine(Comparator):
    """Vectors match if the cosine of the angle between them is at least `min`; the difference is 1 minus it.

    Attributes:
        min: Smallest cosine that matches.
    """

    min: float = field(default=0.99, kw_only=True, validator=share)
    name = "cosine"

    def __call__(self, control: Any, candidate: Any) -> Comparison:
        """Compare two vectors: lists of numbers, arrays or tensors."""
        ours, theirs = _numbers(control), _numbers(candidate)
        if ours is not None and theirs is not None:
            a, b = ours, theirs
            sizes = a.size, b.size
        else:
            a, b = ([float(number) for number in plain(each)] for each in (control, candidate))
            sizes = len(a), len(b)
        if sizes[0] != sizes[1]:
            return self.found("length", 1.0)
        cosine = _cosine(a, b)
        if not math.isfinite(cosine):
            return self.found("value", 1.0)
        cosine = max(-1.0, min(1.0, cosine))
        return self.found(None if cosine >= self.min else "value", 1 - cosine)


def _numbers(answer: Any) -> Any:
    """Return the numbers of an array, with NaN for missing ones; None for lists of anything else."""
    column: Column | None = as_column(answer)
    if column is None or column.names is not None or column.lengths is not None or column.is_zoned:
        return None
    numbers = column.values.astype(float).ravel()
    if column.missing is not None:
        numbers[column.missing.ravel()] = math.nan
    return numbers


def _cosine(a: Any, b: Any) -> float:
    """The cosine of the angle between two vectors; of two without a direction, 1, and of one, 0."""
    if isinstance(a, list):
        largest = [max(map(abs, each), default=0.0) for each in (a, b)]
    else:
        largest = [float(abs(each).max(initial=0.0)) for each in (a, b)]
    if not all(largest):
        return float(not any(largest))
    if not all(map(math.isfinite, largest)):
        return math.nan
    # Scaled, so that no square is too large or too small.
    if isinstance(a, list):
        a, b = ([x / most for x in each] for each, most in zip((a, b), largest, strict=True))
        products = [math.fsum(map(mul, one, other)) for one, other in ((a, b), (a, a), (b, b))]
    else:
        a, b = a / largest[0], b / largest[1]
        products = [float(one @ other) for one, other in ((a, b), (a, a), (b, b))]
    return products[0] / math.sqrt(products[1] * products[2])
