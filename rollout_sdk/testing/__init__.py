"""For tests: contracts for plugins, an observer that keeps all events, a fake clock, and fixed decisions.

    from rollout_sdk.testing import StrategyContract

    class TestWeekend(StrategyContract):
        def make(self):
            return Weekend(0.3)

pytest collects the class and runs every test of the contract. Nothing here imports pytest.
"""

from rollout_sdk.testing.comparators import ComparatorContract
from rollout_sdk.testing.doubles import FakeClock, RecordingPlugin, set_testing
from rollout_sdk.testing.observers import ObserverContract
from rollout_sdk.testing.stores import StoreContract
from rollout_sdk.testing.strategies import StrategyContract
from rollout_sdk.testing.surroundings import SurroundContract

__all__ = [
    "ComparatorContract",
    "FakeClock",
    "ObserverContract",
    "RecordingPlugin",
    "StoreContract",
    "StrategyContract",
    "SurroundContract",
    "set_testing",
]
