"""Joins the results of several variants into what the control would have returned, or refuses.

The one rule: the control's rows keep their values and types. Results of other types, arrays of other dtypes, frames with other
columns, and text in place of numbers are therefore refused, and the control answers the whole batch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from rollout_sdk.engine.batches.rows import Places, each_row, package, places_in, take
from rollout_sdk.exceptions import BatchError

__all__ = ["assemble"]

_TWO = 2
_INDEXED_BY_NUMPY = ("numpy", "pandas", "scipy")


def assemble(parts: Sequence[tuple[Sequence[int], Any]], size: int, *, given: Any = None) -> Any:
    """Join the parts' results in the order of the input rows, in the type of the first part.

    Args:
        parts: Row positions and results of each part; the control's first, if it has one.
        size: Total number of rows.
        given: The rows passed to the variants.

    Raises:
        BatchError: Joining would change the first part's rows.
        Exception: The results' library refuses, for instance arrays of different shapes.
    """
    results = [result for _, result in parts]
    kind = type(results[0])
    if kind in (list, tuple):
        return kind(_merged(parts, size))
    join = _JOIN.get(package(results[0]))
    if join is None:
        raise _refusal(f"results of type {kind.__qualname__}", "their library is not known")
    for result in results:
        if type(result) is not kind:
            raise _refusal(
                f"results of types {kind.__qualname__} and {type(result).__qualname__}", "joined results have one type"
            )
    # The library of an existing object is already imported; the SDK imports none.
    library = sys.modules[package(results[0])]
    whole = take(join(library, results), _inverse(parts, size))
    if type(whole) is not kind:
        raise _refusal(f"results of type {kind.__qualname__}", f"they would become a {type(whole).__qualname__}")
    if hasattr(whole, "iloc") and (index := _index(library, parts, given)) is not None:
        whole.index = index
    return whole


def _merged(parts: Sequence[tuple[Sequence[int], Any]], size: int) -> Iterable[Any]:
    """Return the rows of all parts in order."""
    if len(parts) == _TWO:
        (ours, own), (theirs, other) = ((indices, list(each_row(result))) for indices, result in parts)
        are_both_whole = (len(own), len(other)) == (len(ours), len(theirs))
        if isinstance(ours, Places) and isinstance(theirs, Places) and ours.are_all_but(theirs) and are_both_whole:
            # The usual A/B test: each row is the next one of either part.
            left, right = iter(own), iter(other)
            return [next(left) if is_ours else next(right) for is_ours in ours.marks]
    rows = [None] * size
    for indices, result in parts:
        for index, row in zip(indices, each_row(result), strict=True):
            rows[index] = row
    return rows


def _inverse(parts: Sequence[tuple[Sequence[int], Any]], size: int) -> Sequence[int]:
    """Return for each row its position among those of all parts, one part after the other."""
    numpy = sys.modules.get("numpy") if package(parts[0][1]) in _INDEXED_BY_NUMPY else None
    if numpy is not None:
        places: Any = numpy.empty(size, dtype=numpy.intp)
        places[numpy.concatenate([places_in(indices, "numpy") for indices, _ in parts])] = numpy.arange(size)
        return places  # type: ignore[no-any-return]
    inverse = [0] * size
    for number, index in enumerate(chain.from_iterable(indices for indices, _ in parts)):
        inverse[index] = number
    return inverse


def _refusal(subject: str, why: str) -> BatchError:
    return BatchError(
        f"The {subject} cannot be joined: {why}. The control's rows must stay unchanged, so the control has answered the "
        "whole batch. Have every variant return the control's type: list, array or frame, with the same dtypes and columns."
    )


def _fits(theirs: Any, ours: Any, numpy: Any) -> bool:
    """Whether values of one dtype can be joined with values of another without changing the latter."""
    if theirs == ours:
        return True
    # The dtype of text includes its length; a longer one holds shorter texts unchanged.
    same = theirs.kind == ours.kind
    return same and (theirs.kind in "US" or (theirs.kind in "iufcmM" and bool(numpy.can_cast(theirs, ours, "safe"))))


def _numpy(numpy: Any, results: Sequence[Any]) -> Any:
    ours = results[0].dtype
    for each in results:
        if not _fits(each.dtype, ours, numpy):
            raise _refusal(f"arrays of {ours} and {each.dtype}", "joined results have one dtype")
    masked = isinstance(results[0], numpy.ma.MaskedArray)
    return (numpy.ma if masked else numpy).concatenate(results)


def _same(results: Sequence[Any], *names: str) -> None:
    """Refuse results that differ in any of these attributes."""
    for name in names:
        ours = getattr(results[0], name)
        for each in results:
            if getattr(each, name) != ours:
                raise _refusal(f"results of {name} {ours} and {getattr(each, name)}", f"joined results have one {name}")


def _torch(torch: Any, results: Sequence[Any]) -> Any:
    _same(results, "dtype", "device", "layout")
    return torch.cat(results)


def _polars(polars: Any, results: Sequence[Any]) -> Any:
    _same(results, "schema" if hasattr(results[0], "schema") else "dtype")
    return polars.concat(results)


def _scipy(scipy: Any, results: Sequence[Any]) -> Any:
    for each in results:
        if not _fits(each.dtype, results[0].dtype, sys.modules["numpy"]):
            raise _refusal(f"matrices of {results[0].dtype} and {each.dtype}", "joined results have one dtype")
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
    """Concatenate series or frames."""
    first = results[0]
    if hasattr(first, "columns"):
        if any(len(each.columns) != len(first.columns) or not each.columns.equals(first.columns) for each in results):
            raise _refusal("frames of different columns", "joined frames have the control's columns")
        pairs = [(ours, theirs) for each in results for ours, theirs in zip(first.dtypes, each.dtypes, strict=True)]
    else:
        _same(results, "name")
        pairs = [(first.dtype, each.dtype) for each in results]
    numpy = sys.modules["numpy"]
    for ours, theirs in pairs:
        # pandas' own dtypes (categories, times with a zone) must be equal.
        if ours != theirs and not (
            isinstance(ours, numpy.dtype) and isinstance(theirs, numpy.dtype) and _fits(theirs, ours, numpy)
        ):
            raise _refusal(f"columns of {ours} and {theirs}", "a column has one type")
    return pandas.concat(results)


def _index(pandas: Any, parts: Sequence[tuple[Sequence[int], Any]], given: Any) -> Any:
    """Return the index that the control would have returned for all rows; None if the model computes each row's label.

    Raises:
        BatchError: The index cannot be derived, or is ambiguous.
    """
    results = [result for _, result in parts]
    size = sum(map(len, results))
    counted = [each.index.nlevels == 1 and each.index.equals(pandas.RangeIndex(len(each))) for each in results]
    labels = getattr(given, "index", None) if hasattr(given, "iloc") else None
    kept = [labels is not None and each.index.equals(labels[list(indices)]) for indices, each in parts]
    plain = pandas.RangeIndex(size, name=results[0].index.name)
    if labels is not None and all(kept):
        if all(counted) and not labels.equals(plain):
            raise _refusal("indexes", "it is ambiguous whether they count the rows or are the input's")
        return labels.rename(results[0].index.names if labels.nlevels > 1 else results[0].index.name)
    if all(counted):
        return plain
    if any(counted) or any(kept):
        raise _refusal("indexes", "only some of them count the rows or are the input's")
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
"""Functions that concatenate arrays or frames, by the top-level package of their type."""
