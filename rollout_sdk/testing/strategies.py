"""The contract of strategies."""

from __future__ import annotations

import asyncio
import builtins
import inspect
import io
import json
import math
import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import SkipTest
from unittest.mock import patch

from rollout_sdk.concurrency.clocks import perf_counter
from rollout_sdk.decorator import rollout
from rollout_sdk.plugins.discovery import strategy_name
from rollout_sdk.records import EXCLUDED_REASONS, Decision
from rollout_sdk.testing.calls import check_answered, silent_runtime, taking

__all__ = ["StrategyContract"]

_LONGEST_MEDIAN_S = 1e-3
_SIGMAS = 5.0
"""A correct strategy deviates this much from its propensities once in a million runs; one that is off by a tenth, always."""

_ELSEWHERE = """
import importlib.util, json, sys
path, name = sys.argv[1:]
spec = importlib.util.spec_from_file_location("contract_under_test", path)
module = importlib.util.module_from_spec(spec)
sys.modules["contract_under_test"] = module
spec.loader.exec_module(module)
found = module
for part in name.split("."):
    found = getattr(found, part)
print(json.dumps(found()._variants(found().make())))
"""


class StrategyContract:
    """Subclass it in a test module, as `class TestMine(StrategyContract)`, and implement `make`.

    Attributes:
        candidates: Names of the candidates.
        units: Number of units; more make the test of shares more powerful.
    """

    candidates: tuple[str, ...] = ("candidate",)
    units = 2_000

    def make(self) -> object:
        """Return a new strategy."""
        raise NotImplementedError

    def make_with_share(self, share: float) -> object | None:
        """Return a new strategy with this share for the first candidate; None if it has no shares."""
        _ = share
        return None

    def features(self, unit: str) -> Mapping[str, Any]:
        """Return the other arguments of a unit's call, by name, for a strategy that uses them; none by default.

        The function under test has a parameter for each, so that `request.arguments[name]` has this value.
        """
        _ = unit
        return {}

    def answer(self, variant: str) -> Any:
        """Return a variant's answer; a list by default, for a strategy that blends answers."""
        return [variant]

    # The tests --------------------------------------------------------------------------------------------------------

    def test_it_has_a_name_and_fits_the_hooks(self) -> None:
        """Its name is valid in records, its hooks have the specified names and arguments, and its phases are valid."""
        strategy = self.make()
        with self._decorated(strategy) as model:
            assert model.rollout.strategy_name == strategy_name(strategy)
            assert model.rollout.phase.name

    def test_its_decisions_are_valid(self) -> None:
        """Every decision is a `Decision` for existing variants, with a propensity above 0 and up to 1; nothing fails."""
        for unit, decision in zip(self._units(), self._decisions(self.make()), strict=True):
            assert 0 < decision.propensity <= 1, f"unit {unit!r} had its variant with a propensity of {decision.propensity}"

    def test_a_unit_keeps_its_variant(self) -> None:
        """The same unit gets the same variant, from this strategy and from an equal one."""
        first = self._variants(self.make())
        assert first == self._variants(self.make()), "two equal strategies decide differently"
        strategy = self.make()
        # In reverse order: a strategy that only counts calls would repeat itself in the same order.
        again = [self._variants(strategy), self._variants(strategy, self._units()[::-1])[::-1]]
        assert again == [first, first], "the second call of a unit is decided differently"

    def test_other_processes_decide_alike(self) -> None:
        """No decision depends on the process: its hash seed, its random numbers or its memory."""
        here = self._variants(self.make())
        path, name = inspect.getfile(type(self)), type(self).__qualname__
        if "<locals>" in name:
            raise SkipTest("a class inside a function cannot be made in another process; define it at the top of the module")
        for seed in ("1", "2"):
            ran = subprocess.run(  # noqa: S603 - the test that is running, in another interpreter
                [sys.executable, "-c", _ELSEWHERE, path, name],
                env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            assert ran.returncode == 0, ran.stderr
            assert json.loads(ran.stdout.splitlines()[-1]) == here, f"PYTHONHASHSEED={seed} decides differently"

    def test_a_larger_share_only_adds_units_to_the_candidate(self) -> None:
        """While the share grows, units only move from the control to the candidate."""
        before: set[str] = set()
        for share in (0.0, 0.01, 0.1, 0.25, 0.5, 1.0):
            strategy = self.make_with_share(share)
            if strategy is None:
                raise SkipTest("make_with_share() returns None: the strategy has no shares")
            variants = zip(self._units(), self._variants(strategy), strict=True)
            now = {unit for unit, variant in variants if variant == self.candidates[0]}
            assert before <= now, f"with a share of {share}, {len(before - now)} units lost the candidate"
            before = now

    def test_shares_match_the_propensities(self) -> None:
        """For each variant, the sum of 1 / propensity over its units is the number of all units.

        It is the inverse-propensity identity on which every correction of a biased log relies (Horvitz and Thompson, 1952).
        """
        decisions = [each for each in self._decisions(self.make()) if each.reason not in EXCLUDED_REASONS]
        for variant in {each.variant for each in decisions}:
            own = [each.propensity for each in decisions if each.variant == variant]
            found = sum(1 / propensity for propensity in own)
            # The variance of the sum, estimated from the same draws.
            spread = math.sqrt(sum((1 - propensity) / propensity**2 for propensity in own))
            missed = abs(found - len(decisions))
            assert missed <= _SIGMAS * spread + 1e-6 * len(decisions), (
                f"{variant!r} was given to {len(own)} of {len(decisions)} units, whose propensities add up to {found:.0f}"
            )

    def test_it_leaves_the_applications_random_numbers_alone(self) -> None:
        """The state of the global random generator stays unchanged."""
        with self._decorated(self.make()) as model:
            before = random.getstate()
            for unit in self._units()[:100]:
                model(unit, **self.features(unit))
            assert random.getstate() == before, "it used the module random; use request.point or request.draw"

    def test_it_does_no_io(self) -> None:
        """It opens no file and no socket on the caller's path."""
        with self._decorated(self.make()) as model:
            with _no_io() as attempted:
                for unit in self._units()[:100]:
                    model(unit, **self.features(unit))
            assert not attempted, f"it opens {attempted[0]} while it decides; read it when the strategy is made"

    def test_it_takes_microseconds(self) -> None:
        """The median call takes under a millisecond, including the control: a bound for slow machines."""
        took = []
        with self._decorated(self.make()) as model:
            for unit in self._units()[:500]:
                features = self.features(unit)
                began = perf_counter()
                model(unit, **features)
                took.append(perf_counter() - began)
        median = sorted(took)[len(took) // 2]
        assert median < _LONGEST_MEDIAN_S, f"the median call takes {median * 1e3:.1f} ms"

    def test_threads_get_the_same_decisions(self) -> None:
        """Eight threads at once get the same decisions as one."""
        strategy = self.make()
        alone, found = self._variants(strategy), [[""]] * 8

        def ask(number: int) -> None:
            found[number] = self._variants(strategy)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [alone] * 8

    def test_it_decides_for_coroutines_too(self) -> None:
        """A coroutine function gets the same decisions as a function."""
        units = self._units()[:200]

        async def main() -> list[str]:
            routed = [await model.rollout.route(unit, **self.features(unit)) for unit in units]
            return [each.decision.variant for each in routed]

        with self._decorated(self.make(), is_async=True) as model:
            assert asyncio.run(main()) == self._variants(self.make())[: len(units)]

    def test_odd_calls_are_answered(self) -> None:
        """Calls with units of any type and value are decided without a failure."""
        with self._decorated(self.make()) as model:
            for odd in (None, "", "x" * 1_000_000, b"\xff", -1, 1.5, ("a", 1), object(), [], {}):
                model(odd, **self.features("u-1"))

    # Helpers -----------------------------------------------------------------------------------------------------------

    def _units(self) -> list[str]:
        return [f"u-{number}" for number in range(self.units)]

    @contextmanager
    def _decorated(self, strategy: object, *, is_async: bool = False) -> Iterator[Any]:
        """Provide a function under the strategy; at the end, check that no call was a fallback."""
        calls = [self.features(unit) for unit in self._units()]

        def answers(name: str) -> Any:
            def model(unit: Any, **features: Any) -> Any:
                _ = unit, features
                return self.answer(name)

            async def coroutine(unit: Any, **features: Any) -> Any:
                return model(unit, **features)

            return taking(coroutine if is_async else model, "unit", calls=calls)

        runtime = silent_runtime()
        model = rollout(
            candidates={name: answers(name) for name in self.candidates},
            strategy=strategy,
            unit="unit",
            key="contract",
            effects="read",
            runtime=runtime,
        )(answers("control"))
        yield model
        check_answered(model, runtime)
        runtime.close(10.0)

    def _decisions(self, strategy: object, units: Sequence[str] | None = None) -> list[Decision]:
        units = self._units() if units is None else units
        with self._decorated(strategy) as model:
            return [model.rollout.route(unit, **self.features(unit)).decision for unit in units]

    def _variants(self, strategy: object, units: Sequence[str] | None = None) -> list[str]:
        return [decision.variant for decision in self._decisions(strategy, units)]


@contextmanager
def _no_io() -> Iterator[list[str]]:
    """Record and refuse files and sockets that this thread opens."""
    me, attempted = threading.get_ident(), list[str]()

    def refusing(what: str, real: Any) -> Any:
        def refuse(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != me:
                return real(*args, **kwargs)
            attempted.append(f"{what} {args[0]!r:.60}" if args else what)
            raise PermissionError(f"no {what} while deciding")

        return refuse

    with (
        patch.object(builtins, "open", refusing("file", builtins.open)),
        patch.object(io, "open", refusing("file", io.open)),
        patch.object(os, "open", refusing("file", os.open)),
        patch.object(socket, "socket", refusing("socket", socket.socket)),
    ):
        yield attempted
