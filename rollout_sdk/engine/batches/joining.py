"""Putting the results of several variants together: the whole is what the control would have given, or it is refused.

One rule: the control's rows keep what they are, in value and type. So results of other types, arrays of other types of
numbers, frames of other columns and texts in place of numbers are refused, and the control answers the whole batch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rollout_sdk.engine.batches.rows import each_row, package, take
from rollout_sdk.exceptions import BatchError

__all__ = ["assemble"]


def assemble(parts: Sequence[tuple[Sequence[int], Any]], size: int, *, given: Any = None) -> Any:
    """One result of the parts' results, rows in the input's order, of the type of the first.

    Args:
        parts: For each, the positions of its rows and the rows' results; the control's first, if it has one.
        size: How many rows there are together.
        given: The rows that the variants were given.

    Raises:
        BatchError: They cannot be put together without a change of the first part's rows.
        Exception: The library of the results refuses it: arrays of different shapes, say.
    """
    results = [result for _, result in parts]
    kind = type(results[0])
    order = [index for indices, _ in parts for index in indices]
    position = {index: number for number, index in enumerate(order)}
    inverse = [position[index] for index in range(size)]
    if kind in (list, tuple):
        rows = [row for result in results for row in each_row(result)]
        return kind(rows[number] for number in inverse)
    join = _JOIN.get(package(results[0]))
    if join is None:
        raise _refusal(f"results of type {kind.__qualname__}", "their library is not known")
    for result in results:
        if type(result) is not kind:
            raise _refusal(f"results of types {kind.__qualname__} and {type(result).__qualname__}", "a whole has one type")
    # A library whose objects we hold is imported already; none is imported for our sake.
    library = sys.modules[package(results[0])]
    whole = take(join(library, results), inverse)
    if type(whole) is not kind:
        raise _refusal(f"results of type {kind.__qualname__}", f"they would become a {type(whole).__qualname__}")
    if hasattr(whole, "iloc") and (index := _index(library, parts, given)) is not None:
        whole.index = index
    return whole


def _refusal(subject: str, why: str) -> BatchError:
    return BatchError(
        f"The {subject} cannot be put together: {why}. The control's rows must stay what they are, so that the control has "
        "answered the whole batch. Have every variant return the control's type: list, array or frame, with its numbers' type "
        "and columns."
    )


def _fits(theirs: Any, ours: Any, numpy: Any) -> bool:
    """Whether numbers or texts of one type can stand beside those of another that stay as they are."""
    if theirs == ours:
        return True
    # Texts have a length for a type: the longer one holds the shorter ones as they are.
    same = theirs.kind == ours.kind
    return same and (theirs.kind in "US" or (theirs.kind in "iufcmM" and bool(numpy.can_cast(theirs, ours, "safe"))))


def _numpy(numpy: Any, results: Sequence[Any]) -> Any:
    ours = results[0].dtype
    for each in results:
        if not _fits(each.dtype, ours, numpy):
            raise _refusal(f"arrays of {ours} and {each.dtype}", "a whole has one type of numbers")
    masked = isinstance(results[0], numpy.ma.MaskedArray)
    return (numpy.ma if masked else numpy).concatenate(results)


def _same(results: Sequence[Any], *names: str) -> None:
    """Refuse results that differ in any of these attributes."""
    for name in names:
        ours = getattr(results[0], name)
        for each in results:
            if getattr(each, name) != ours:
                raise _refusal(f"results of {name} {ours} and {getattr(each, name)}", f"a whole has one {name}")


def _torch(torch: Any, results: Sequence[Any]) -> Any:
    _same(results, "dtype", "device", "layout")
    return torch.cat(results)


def _polars(polars: Any, results: Sequence[Any]) -> Any:
    _same(results, "schema" if hasattr(results[0], "schema") else "dtype")
    return polars.concat(results)


def _scipy(scipy: Any, results: Sequence[Any]) -> Any:
    for each in results:
        if not _fits(each.dtype, results[0].dtype, sys.modules["numpy"]):
            raise _refusal(f"matrices of {results[0].dtype} and {each.dtype}", "a whole has one type of numbers")
    return scipy.sparse.vstack(results, format=results[0].format)


def _pyarrow(pyarrow: Any, results: Sequence[Any]) -> Any:
    if isinstance(results[0], pyarrow.ChunkedArray):
        _same(results, "type")
        return pyarrow.chunked_array([chunk for each in results for chunk in each.chunks], results[0].type)
    if isinstance(results[0], pyarrow.Array):
        _same(results, "type")
        return pyarrow.concat_arrays(results)
    _same(results, "schema")
    if isinstance(results[0], pyarrow.Table):
        return pyarrow.concat_tables(results)
    whole = pyarrow.Table.from_batches(results).combine_chunks()
    return whole.to_batches()[0]


def _pandas(pandas: Any, results: Sequence[Any]) -> Any:
    """Series and frames, end to end."""
    first = results[0]
    if hasattr(first, "columns"):
        if any(len(each.columns) != len(first.columns) or not each.columns.equals(first.columns) for each in results):
            raise _refusal("frames of different columns", "a whole has the columns of the control")
        pairs = [(ours, theirs) for each in results for ours, theirs in zip(first.dtypes, each.dtypes, strict=True)]
    else:
        _same(results, "name")
        pairs = [(first.dtype, each.dtype) for each in results]
    numpy = sys.modules["numpy"]
    for ours, theirs in pairs:
        # Types of pandas' own (categories, times with a zone) are the same or not.
        if ours != theirs and not (
            isinstance(ours, numpy.dtype) and isinstance(theirs, numpy.dtype) and _fits(theirs, ours, numpy)
        ):
            raise _refusal(f"columns of {ours} and {theirs}", "a column has one type")
    return pandas.concat(results)


def _index(pandas: Any, parts: Sequence[tuple[Sequence[int], Any]], given: Any) -> Any:
    """The index that the control would have given for all rows; None where each row has its own, from the model.

    Raises:
        BatchError: It does not follow, or in two ways.
    """
    results = [result for _, result in parts]
    size = sum(map(len, results))
    counted = [each.index.nlevels == 1 and each.index.equals(pandas.RangeIndex(len(each))) for each in results]
    labels = getattr(given, "index", None) if hasattr(given, "iloc") else None
    kept = [labels is not None and each.index.equals(labels[list(indices)]) for indices, each in parts]
    plain = pandas.RangeIndex(size, name=results[0].index.name)
    if labels is not None and all(kept):
        if all(counted) and not labels.equals(plain):
            raise _refusal("indexes", "they may be counted or the input's")
        return labels.rename(results[0].index.names if labels.nlevels > 1 else results[0].index.name)
    if all(counted):
        return plain
    if any(counted) or any(kept):
        raise _refusal("indexes", "some are the input's, or counted, and others are not")
    if len({(each.index.nlevels, str(each.index.dtype), tuple(each.index.names)) for each in results}) > 1:
        raise _refusal("indexes", "they are of several types")
    return None


_JOIN: Mapping[str, Callable[[Any, Sequence[Any]], Any]] = {
    "numpy": _numpy,
    "torch": _torch,
    "pandas": _pandas,
    "polars": _polars,
    "scipy": _scipy,
    "pyarrow": _pyarrow,
}
"""What puts arrays or frames end to end, by the top package of their type."""
