"""Decorated methods bind as methods do, class and static methods as themselves. Checked by mypy and pyright, never run."""

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, assert_type

from rollout_sdk import ABTest, Canary, Routed, rollout


class Ranker:
    """A model with everything decorated."""

    def rank_v2(self, user: str, *, size: int = 10) -> list[str]: ...  # type: ignore[empty-body]

    async def stream_v2(self, user: str) -> AsyncIterator[str]:
        """A candidate that is an async generator."""
        yield user

    @rollout(candidate=rank_v2, strategy=Canary(["5%"]), unit="user")
    def rank(self, user: str, *, size: int = 10) -> list[str]: ...  # type: ignore[empty-body]

    @rollout(candidate=rank_v2, strategy=Canary(["5%"]), unit="user")
    async def answer(self, user: str) -> str: ...  # type: ignore[empty-body]

    @rollout(candidate=stream_v2, strategy=Canary(["5%"]), unit="user")
    async def stream(self, user: str) -> AsyncIterator[str]:
        """An async generator."""
        yield user

    @rollout(candidate=rank_v2, strategy=ABTest(0.5))
    def nothing(self) -> int: ...  # type: ignore[empty-body]

    @rollout(candidate=rank_v2, strategy=ABTest(0.5), unit="user")
    @classmethod
    def of_class_outside(cls, user: str) -> int: ...  # type: ignore[empty-body]

    @classmethod
    @rollout(candidate=rank_v2, strategy=ABTest(0.5), unit="user")
    def of_class_inside(cls, user: str) -> int: ...  # type: ignore[empty-body]

    @rollout(candidate=rank_v2, strategy=ABTest(0.5), unit="user")
    @staticmethod
    def static_outside(user: str) -> int: ...  # type: ignore[empty-body]

    @staticmethod
    @rollout(candidate=rank_v2, strategy=ABTest(0.5), unit="user")
    def static_inside(user: str) -> int: ...  # type: ignore[empty-body]

    @staticmethod
    @rollout(candidate=rank_v2, strategy=ABTest(0.5))
    def static_nothing() -> int: ...  # type: ignore[empty-body]

    def page(self) -> list[str]:
        """Calls its own decorated method."""
        return self.rank("u-1", size=3)


class Better(Ranker):
    """A model that inherits them."""


ranker, better = Ranker(), Better()

# Methods
assert_type(ranker.rank("u-1"), list[str])
assert_type(ranker.rank(user="u-1", size=3), list[str])
assert_type(better.rank("u-1"), list[str])
assert_type(Ranker.rank(ranker, "u-1"), list[str])
assert_type(ranker.nothing(), int)
# Checkers differ in the class of a coroutine.
answering: Coroutine[Any, Any, str] = ranker.answer("u-1")
answering.close()
assert_type(ranker.stream("u-1"), AsyncIterator[str])
ranker.rank()  # type: ignore[call-arg]
ranker.rank(7)  # type: ignore[arg-type]
ranker.rank(ranker, "u-1")  # type: ignore[call-arg, arg-type]
ranker.nothing(1)  # type: ignore[call-arg]
Ranker.rank("u-1")  # type: ignore[call-arg, arg-type]
bound: Callable[[str], list[str]] = ranker.rank
unbound: Callable[[Ranker, str], list[str]] = Ranker.rank

# The controller is the function's: its route takes the object first
assert_type(ranker.rank.rollout.route(ranker, "u-1", size=3), Routed[list[str]])
assert_type(Ranker.rank.rollout.route(ranker, "u-1"), Routed[list[str]])
routing = ranker.answer.rollout.route(ranker, "u-1")
assert_type(routing, Coroutine[Any, Any, Routed[str]]).close()
assert_type(ranker.stream.rollout.route(ranker, "u-1"), Routed[AsyncIterator[str]])
ranker.rank.rollout.route("u-1")  # type: ignore[call-arg, arg-type]
ranker.rank.rollout.route(ranker, 7)  # type: ignore[arg-type]

# Class methods, through the class and through an object, decorated inside and outside
assert_type(Ranker.of_class_outside("u-1"), int)
assert_type(ranker.of_class_outside("u-1"), int)
assert_type(Better.of_class_outside("u-1"), int)
assert_type(Ranker.of_class_inside("u-1"), int)
assert_type(ranker.of_class_inside("u-1"), int)
assert_type(better.of_class_inside(user="u-1"), int)
assert_type(Ranker.of_class_inside.rollout.route(Ranker, "u-1"), Routed[int])
Ranker.of_class_outside(7)  # type: ignore[arg-type]
Ranker.of_class_inside()  # type: ignore[call-arg]

# Static methods likewise
assert_type(Ranker.static_outside("u-1"), int)
assert_type(ranker.static_outside("u-1"), int)
assert_type(Ranker.static_inside("u-1"), int)
assert_type(better.static_inside(user="u-1"), int)
assert_type(Ranker.static_nothing(), int)
assert_type(ranker.static_nothing(), int)
assert_type(ranker.static_inside.rollout.route("u-1"), Routed[int])
Ranker.static_outside(7)  # type: ignore[arg-type]
ranker.static_inside()  # type: ignore[call-arg]


class Service:
    """Holds a function that it decorates itself."""

    def __init__(self) -> None:
        """Decorates its own method."""
        self.predict = rollout(candidate=self._predict_v2, strategy=ABTest(0.5), unit="user")(self._predict)

    def _predict(self, user: str) -> float: ...  # type: ignore[empty-body]

    def _predict_v2(self, user: str) -> float: ...  # type: ignore[empty-body]


assert_type(Service().predict("u-1"), float)
assert_type(Service().predict.rollout.route("u-1"), Routed[float])
Service().predict(7)  # type: ignore[arg-type]
