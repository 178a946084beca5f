"""Interleaved test: one list with the items of all rankers, decided by clicks."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache
from hashlib import blake2b
from typing import Any, Protocol

from attrs import evolve, field, frozen

from rollout_sdk.assignment import Phase, RouteRequest, Share, canonical, parse_share, percent
from rollout_sdk.concurrency.synchronous import answered, answering, must_answer_at_once
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.interleaving import Interleaved, TeamDraft
from rollout_sdk.plan import Criteria, Gate
from rollout_sdk.records import INTERLEAVED, Decision, Merged

__all__ = ["Design", "Interleave", "rollout_strategies"]

_MOST = 100


class Design(Protocol):
    """A way to merge several lists into one: from `rollout_sdk.interleaving`, or your own.

    Your own returns an `Interleaved` with the name of the design whose rule credits it: "team_draft" with `teams`.
    """

    def merge(
        self,
        rankings: Mapping[str, Sequence[Any]],
        *,
        k: int | None = None,
        key: Callable[[Any], Hashable] | None = None,
        seed: int | str | bytes,
    ) -> Interleaved[Any]:
        """Merge the rankings' items into one list."""
        ...


def _share(share: Share) -> float:
    return parse_share(share, "share of Interleave")


def _oversample(factor: Any) -> float:
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 1 <= factor <= _MOST:
        raise ConfigurationError(
            f"oversample of Interleave is {factor!r:.60}. It multiplies the number of items that rankers are asked for, "
            f"by 1 to {_MOST}. Write oversample=2."
        )
    return float(factor)


def _as_list(output: Any) -> list[Any]:
    """The default of `items`: only lists and tuples, because only these can be rebuilt in the same type."""
    # Not their subclasses: a named tuple is not a list of items.
    if type(output) in (list, tuple):
        return list(output)
    raise _no_list("A candidate", output)


def _no_list(who: str, output: Any) -> TypeError:
    return TypeError(
        f"{who} gave a {type(output).__qualname__:.60}, which is neither a list nor a tuple. "
        "Interleaving makes one list of several. Give Interleave items= and rebuild=."
    )


def _note_refusal(request: RouteRequest, why: str) -> None:
    """Report why no list is interleaved: once, because it is the same on every call until the settings change."""
    request.note(f"Calls of {request.key!r} are not interleaved, and get the control's list: {why}", is_error=True)


def _note_identity(request: RouteRequest, item: Any) -> None:
    """Say what comes of items that are equal to nothing but themselves."""
    own_hash: Any = type(item).__hash__
    if own_hash is object.__hash__:
        request.note(
            f"Items of {request.key!r} are of type {type(item).__qualname__:.60}, each of which is equal to itself only. So "
            "two copies of one item are both shown, the same unit does not see the same list again, and a click is credited in "
            "this process only. Pass Interleave(key=lambda item: item.id), or what names an item of yours."
        )


@frozen
class Interleave:
    """Runs all variants, shows one list with both rankers' items, and counts a click as a vote for the ranker of the item.

    The same unit with the same rankings sees the same list. If a candidate fails or returns nothing, the control's list is
    served unchanged and the call is not analysed.

    Attributes:
        design: Merges the lists.
        k: Length of the list, at least 1; by default the control's.
        key: Returns an item's key (`lambda item: item["id"]`); by default the item itself. Items without a hash (dicts, data
            classes that are not frozen, arrays) need it: without, no call is interleaved, and an error in the log and a note
            in `status()` report it once.
        items: Extracts the list from a variant's output; by default the output must be a list or tuple (other types are not
            interleaved: the control answers).
        rebuild: Puts a list back into the control's output: `rebuild(output, items)`; by default returns a list, or a tuple
            if the control did.
        share: Share of the units that are interleaved; the others get the control.
        limit: Name of the parameter with the number of requested items, which then is the length of the list.
        oversample: Factor on `limit` for each ranker, for designs that look deeper than the page (`Probabilistic`), and for
            dropped duplicates. A list that is not interleaved has the requested length.
        first_page: Decides from the call's arguments whether it requests the first page: `lambda call: call["page"] == 1`.
            Further pages come from the control, and are not analysed.
        stamp: Writes an item's token into it: `stamp(item, token)` returns the item to serve. A click that sends the token
            back is recorded with `record(metric, value, token=token)`, in any process. It must create a new item: the model's
            own may be served to others.
        gates: Metrics by which users must prefer the candidate: `Gate("click", mde=0.02)`, in Chapelle's preference, which
            runs from -0.5 to 0.5. `judge()` and `rollout report` conclude by them, and change nothing. `judge()` sees clicks
            that are recorded in the process that made the list, on one of its last 20,000; the report, those in the journal.
        alpha: Maximum probability, however often it is looked at, that a candidate passes that is not preferred.
    """

    name = "interleave"
    # What a test is judged by may be declared while it runs.
    not_fingerprinted = ("gates", "alpha")

    design: Design = field(factory=TeamDraft)
    k: int | None = field(default=None, kw_only=True)
    key: Callable[[Any], Hashable] | None = field(default=None, kw_only=True)
    items: Callable[[Any], Sequence[Any]] | None = field(default=None, kw_only=True)
    rebuild: Callable[[Any, list[Any]], Any] | None = field(default=None, kw_only=True)
    share: float = field(default=1.0, kw_only=True, converter=_share)
    limit: str | None = field(default=None, kw_only=True)
    oversample: float = field(default=1.0, kw_only=True, converter=_oversample)
    first_page: Callable[[Mapping[str, Any]], bool] | None = field(default=None, kw_only=True)
    stamp: Callable[[Any, str], Any] | None = field(default=None, kw_only=True)
    gates: Sequence[Gate] = field(default=(), kw_only=True)
    alpha: float = field(default=0.05, kw_only=True)
    criteria: Criteria = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Reject settings that could only fail later."""
        declared = Criteria.of_test(gates=self.gates)
        gates = [evolve(gate, per="list") for gate in declared.gates]
        object.__setattr__(self, "criteria", Criteria.of_test(gates=gates, alpha=self.alpha))
        if not callable(getattr(self.design, "merge", None)):
            raise ConfigurationError(
                f"{self.design!r:.80} is not an interleaving design: it has no merge(). A design makes one list of several. "
                "Pass TeamDraft()."
            )
        if not (self.k is None or (isinstance(self.k, int) and not isinstance(self.k, bool) and self.k > 0)):
            raise ConfigurationError(
                f"k of Interleave is {self.k!r:.60}. It is the length of the list, a whole number from 1. Write k=10."
            )
        functions = {name: getattr(self, name) for name in ("key", "items", "rebuild", "first_page", "stamp")}
        for option, function in functions.items():
            if not (function is None or callable(function)):
                raise ConfigurationError(
                    f"{option} of Interleave is {function!r:.60}. It is a function. Write {option}=lambda ...: ..."
                )
            must_answer_at_once(f"{option}= of Interleave", function, "Make it a plain function.")
        if self.oversample > 1 and self.limit is None:
            raise ConfigurationError(
                f"Interleave has oversample={self.oversample:g} without limit=. Rankers can be asked for more items only where "
                "a parameter says how many. Name it: limit='limit'."
            )
        if self.items is not None and self.rebuild is None:
            raise ConfigurationError(
                "Interleave has items= without rebuild=. A list taken out of an output must be put back into it. "
                "Pass rebuild=lambda output, items: ..., too."
            )

    def rollout_phases(self, control: str, candidates: tuple[str, ...]) -> Sequence[Phase]:
        """Return one phase, in which a share of the units is interleaved."""
        return [Phase(f"interleaved {percent(self.share)}", {INTERLEAVED: self.share}, control)]

    def rollout_route(self, request: RouteRequest) -> Decision:
        """Blend all variants, or return the control for units outside the share."""
        if self.first_page is not None and not answered("first_page=", self.first_page(request.arguments)):
            return _ineligible(request.control)
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

    def rollout_arguments(self, request: RouteRequest) -> Mapping[str, Any] | None:
        """Request more items than the caller did."""
        asked = self._asked(request) if self.oversample > 1 else None
        return None if asked is None else {str(self.limit): math.ceil(asked * self.oversample)}

    def _asked(self, request: RouteRequest) -> int | None:
        """Return the number of items that the caller requests; None if the call does not contain it."""
        asked = None if self.limit is None else request.arguments.get(self.limit)
        return asked if isinstance(asked, int) and not isinstance(asked, bool) and asked > 0 else None

    def rollout_merge(self, request: RouteRequest, outputs: Mapping[str, Any]) -> Merged | None:
        """Merge the outputs into one list; if a candidate is empty, return the control's list at the requested length."""
        original, asked = outputs[request.control], self._asked(request)
        if self.items is None and type(original) not in (list, tuple):
            # A fault of this call, and most likely of every other.
            error = _no_list(repr(request.control), original)
            _note_refusal(request, str(error))
            raise error
        take: Callable[[Any], Sequence[Any]] = answering("items=", self.items) if self.items else _as_list
        # The result of `items` may be an array, whose truth value is ambiguous, so convert it to a list.
        rankings = {name: list(take(output)) for name, output in outputs.items()}
        own = rankings[request.control]
        if len(rankings) < 1 + len(request.candidates) or not all(rankings.values()):
            return self._as_asked(original, own, asked)
        if self.key is None:
            _note_identity(request, own[0])
        try:
            merged = self.design.merge(
                rankings,
                k=asked if self.k is None else self.k,
                key=self.key and answering("key=", self.key),
                seed=self._seed(request, own),
            )
        except ConfigurationError as error:
            _note_refusal(request, str(error))
            return self._as_asked(original, own, asked)
        listed = list(merged.items)
        if self.stamp is not None:
            tokens = request.tokens(merged.keys, [merged.credit_at(position) for position in range(len(listed))])
            stamp = answering("stamp=", self.stamp)
            listed = [stamp(item, token) for item, token in zip(listed, tokens, strict=True)]
        items = self._rebuilt(original, listed)
        if merged.design == "team_draft":
            teams = tuple(None if team < 0 else merged.rankers[team] for team in merged.teams)
            # Teams are enough to credit clicks; the rule is needed only to record a fallback design.
            return Merged(items, merged.keys, teams, rule=merged.rule() if merged.fallback else None)
        return Merged(items, merged.keys, rule=merged.rule())

    def _as_asked(self, original: Any, own: list[Any], asked: int | None) -> Merged | None:
        """The control's own list, as long as the caller asked; None when that is how it was asked for."""
        if self.oversample == 1 or asked is None:
            return None
        if len(own) <= asked:
            return Merged(original, is_blend=False)
        return Merged(self._rebuilt(original, own[:asked]), is_blend=False)

    def _rebuilt(self, original: Any, items: list[Any]) -> Any:
        """Return a list in the control's own type."""
        if self.rebuild is not None:
            return answered("rebuild=", self.rebuild(original, items), (original,))
        return tuple(items) if isinstance(original, tuple) else items

    def _seed(self, request: RouteRequest, ranking: Sequence[Any]) -> bytes:
        """Return a seed from unit and ranking: reloading a page gives the same list, another query a new toss."""
        seed = blake2b(b"%016x" % request.digest, digest_size=16)
        for item in ranking:
            item_key = item if self.key is None else answered("key=", self.key(item))
            seed.update(canonical(item_key) or repr(item_key).encode("utf-8", "surrogatepass"))
        return seed.digest()


@cache
def _ineligible(control: str) -> Decision:
    return Decision(control, "ineligible")


def rollout_strategies() -> Mapping[str, type]:
    """Return the strategy of this module, by name."""
    return {"interleave": Interleave}
