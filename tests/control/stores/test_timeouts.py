"""The time-out of a store on a server, as its plugin validates it."""

from __future__ import annotations

import pytest

from rollout_sdk import ConfigurationError
from rollout_sdk.control.stores import checked_timeout


@pytest.mark.parametrize(("given", "expected"), [(1, 1.0), (0.25, 0.25), ("2.5", 2.5), (10, 10.0)])
def test_a_timeout_is_seconds_also_as_the_text_of_an_address(given, expected):
    assert expected == checked_timeout("redis://h", given)


@pytest.mark.parametrize("given", [0, -1, 10.5, "soon", "", "nan", "inf", float("nan"), True, None, [1]])
def test_any_other_timeout_is_refused_with_the_store_and_the_cure(given):
    with pytest.raises(ConfigurationError, match=r"The store 'redis://h' has timeout_s=.*at most 10, .*Leave it at 1\."):
        checked_timeout("redis://h", given)
