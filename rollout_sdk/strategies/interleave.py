"""Interleaved test: both rankers' items in one list; clicks decide."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Protocol

from attrs import field, frozen

from rollout_sdk.assignment import Phase, RouteRequest, Share, canonical, parse_share, percent
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.interleaving import Interleaved, TeamDraft
from rollout_sdk.records import Decision, Merged

__all__ = ["INTERLEAVED", "Design", "Interleave", "rollout_strategies"]

INTERLEAVED = "interleaved"
"""The variant name under which blended answers are recorded."""


class Design(Protocol):
    """A way to make one list of several: one of `rollout_sdk.interleaving`, or your own.

    Your own gives an `Interleaved` with the name of the design whose rule credits it: "team_draft" with `teams`.
    """

    def merge(
        self,
        rankings: Mapping[str, Sequence[Any]],
        *,
        k: int | None = None,
        key: Callable[[Any], Hashable] | None = None,
        seed: int | str | bytes,
    ) -> Interleaved[Any]:
        """One list of the rankings' items."""
        ...


def _share(share: Share) -> float:
    return parse_share(share, "share of Interleave")


def _as_list(output: Any) -> list[Any]:
    """The default of `items`: only lists and tuples, because only these can be given back as what they were."""
    # Not their subclasses: a named tuple is no list of items.
    if type(output) in (list, tuple):
        return list(output)
    raise TypeError(
        f"A variant gave a {type(output).__qualname__}, which is neither a list nor a tuple. "
        "Interleaving makes one list of several. Give Interleave items= and rebuild=."
    )


@frozen
class Interleave:
    """All variants rank, the user sees one list of both rankers' items, and a click is a vote for who put the item there.

    The same unit with the same rankings sees the same list. When a candidate fails or is empty, the control's list is
    served as it is and the call is not analysed.

    Attributes:
        design: How the lists become one.
        k: Length of the list, at least 1; by default the control's.
        key: Gives an item's key (`lambda item: item["id"]`); by default the item itself.
        items: Takes the list out of a variant's output; by default the output is a list or tuple (any other is not
            interleaved: the control answers).
        rebuild: Puts a list back into the control's output: `rebuild(output, items)`; by default a list, or a tuple
            where the control gave one.
        share: Share of the units that are interleaved; the others get the control.
    """

    name = "interleave"

    design: Design = field(factory=TeamDraft)
    k: int | None = field(default=None, kw_only=True)
    key: Callable[[Any], Hashable] | None = field(default=None, kw_only=True)
    items: Callable[[Any], Sequence[Any]] | None = field(default=None, kw_only=True)
    rebuild: Callable[[Any, list[Any]], Any] | None = field(default=None, kw_only=True)
    share: float = field(default=1.0, kw_only=True, converter=_share)

    def __attrs_post_init__(self) -> None:
        """Refuse settings that could only fail later."""
        if not callable(getattr(self.design, "merge", None)):
            raise ConfigurationError(
                f"{self.design!r:.80} is no interleaving design: it has no merge(). A design makes one list of several. "
                "Pass TeamDraft()."
            )
        if not (self.k is None or (isinstance(self.k, int) and not isinstance(self.k, bool) and self.k > 0)):
            raise ConfigurationError(
                f"k of Interleave is {self.k!r:.60}. It is the length of the list, a whole number from 1. Write k=10."
            )
        for option, function in (("key", self.key), ("items", self.items), ("rebuild", self.rebuild)):
            if not (function is None or callable(function)):
                raise ConfigurationError(
                    f"{option} of Interleave is {function!r:.60}. It is a function. Write {option}=lambda ...: ..."
                )
        if self.items is not None and self.rebuild is None:
            raise ConfigurationError(
                "Interleave has items= without rebuild=. What takes the list out of an output needs its way back. "
                "Pass rebuild=lambda output, items: ..., too."
            )

    def rollout_phases(self, control: str, candidates: tuple[str, ...]) -> Sequence[Phase]:
        """One phase, in which a share of the units is interleaved."""
        return [Phase(f"interleaved {percent(self.share)}", {INTERLEAVED: self.share}, control)]

    def rollout_route(self, request: RouteRequest) -> Decision:
        """All variants, blended, or the control for units outside the share."""
        decision = request.phase.split.decide(request.point)
        if decision.variant == request.control:
            return decision
        return Decision(
            INTERLEAVED,
            decision.reason,
            decision.propensity,
            blend=(request.control, *request.candidates),
            share=decision.share,
        )

    def rollout_merge(self, request: RouteRequest, outputs: Mapping[str, Any]) -> Merged | None:
        """One list, or None when any candidate has nothing to show."""
        take: Callable[[Any], Sequence[Any]] = self.items or _as_list
        # What `items` gives may be an array, which is neither true nor false.
        rankings = {name: list(take(output)) for name, output in outputs.items()}
        if len(rankings) < 1 + len(request.candidates) or not all(rankings.values()):
            return None
        merged = self.design.merge(rankings, k=self.k, key=self.key, seed=self._seed(request, rankings[request.control]))
        original = outputs[request.control]
        items: Any = list(merged.items)
        if self.rebuild is not None:
            items = self.rebuild(original, items)
        elif isinstance(original, tuple):
            items = tuple(items)
        if merged.design == "team_draft":
            return Merged(items, merged.keys, tuple(None if team < 0 else merged.rankers[team] for team in merged.teams))
        return Merged(items, merged.keys, rule=merged.rule())

    def _seed(self, request: RouteRequest, ranking: Sequence[Any]) -> bytes:
        """A seed of unit and ranking: a page that is loaded again looks the same, another query is a new toss."""
        seed = blake2b(b"%016x" % request.digest, digest_size=16)
        for item in ranking:
            item_key = item if self.key is None else self.key(item)
            seed.update(canonical(item_key) or repr(item_key).encode("utf-8", "surrogatepass"))
        return seed.digest()


def rollout_strategies() -> Mapping[str, type]:
    """The strategy of this module, by its name."""
    return {"interleave": Interleave}
