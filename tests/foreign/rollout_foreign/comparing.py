"""What differs between a suite's bare run and its decorated one, test by test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import frozen

from rollout_foreign.suites import Known

COUNTED = ("passed", "xfailed")
"""A test that ends otherwise when bare says nothing about the decorated one."""

NOT_RUN = "not run"
IN_COLLECTION = "failed in collection"


@frozen(kw_only=True)
class Comparison:
    """What came of comparing two runs.

    Attributes:
        passed: Tests that passed bare.
        same: How many of those passed decorated.
        known: Tests that differ as the table says.
        new: Tests that differ although nothing says so, with how they ended.
        gone: Entries of the table for this setting whose tests ran and did not differ.
    """

    passed: int
    same: int
    known: list[str]
    new: dict[str, str]
    gone: list[Known]


def compare(bare: Mapping[str, str], decorated: Mapping[str, str], known: Sequence[Known], setting: str) -> Comparison:
    """Compare two runs.

    Args:
        bare: Outcomes by test.
        decorated: Likewise; what is missing did not run.
        known: What is known to differ, under all settings.
        setting: That of the decorated run.
    """
    here = [each for each in known if setting in each.settings]
    counted = {test: outcome for test, outcome in bare.items() if outcome in COUNTED}
    ends = {test: decorated.get(test, NOT_RUN) for test in counted}
    different = {test: end for test, end in ends.items() if end != counted[test]}
    # A module that can no longer be imported is a difference of its own, with the reason.
    different |= {test: outcome for test, outcome in decorated.items() if test not in bare and outcome not in COUNTED}
    explained = {test for test in different if any(_is_of(test, each) for each in here)}
    return Comparison(
        passed=len(counted),
        same=len(counted.keys() - different.keys()),
        known=sorted(explained),
        new={test: outcome for test, outcome in different.items() if test not in explained},
        gone=[
            each
            for each in here
            if not each.sometimes
            and any(_is_of(test, each) for test in counted)
            and not any(_is_of(test, each) for test in explained)
        ],
    )


def _is_of(test: str, known: Known) -> bool:
    return test == known.test or test.startswith(f"{known.test}[")
