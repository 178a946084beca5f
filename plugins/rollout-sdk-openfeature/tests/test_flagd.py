"""A flagd file, as the real provider reads it: an operator edits it, and the rollout follows."""

import json
import os

import pytest
from openfeature.contrib.provider.flagd import FlagdProvider
from openfeature.contrib.provider.flagd.config import ResolverType

from rollout_sdk import Canary
from rollout_sdk_openfeature import FlagDriver, ShareFlag, SwitchFlag

UNITS = [f"u-{number}" for number in range(300)]


def flag(value, **options):
    return {"state": "ENABLED", "variants": {"now": value}, "defaultVariant": "now", **options}


@pytest.fixture
def file(tmp_path):
    """Writes the file of flags, as an editor does: aside, and renamed into place."""
    path, times = tmp_path / "flags.json", iter(range(1, 1000))

    def write(text=None, **flags):
        aside = tmp_path / "aside"
        aside.write_text(json.dumps({"flags": flags}) if text is None else text)
        # The provider compares times of files; two edits of a test can come within one tick of the file system's clock.
        os.utime(aside, (2_000_000_000 + next(times),) * 2)
        aside.rename(path)

    write.path = str(path)
    return write


@pytest.fixture
def flagd(file):
    return lambda: FlagdProvider(resolver_type=ResolverType.FILE, offline_flag_source_path=file.path, deadline_ms=20)


@pytest.fixture
def shares(canary):
    return lambda: canary.rollout.phase.shares["v2"]


def test_an_edited_file_moves_the_share_and_throws_the_switch(file, flagd, client_of, canary, shares, until, runtime, seen):
    file(share=flag(0.1), on=flag(True))
    client = client_of(flagd())
    with FlagDriver(client, [ShareFlag("share", canary), SwitchFlag("on", canary)], every_s=0.05) as driver:
        first = until(shares, 0.1)
        file(share=flag(0.5), on=flag(True))
        second = until(shares, 0.5)
        file(share=flag(0.5), on=flag(False))
        off = until(lambda: {canary(unit) for unit in UNITS}, {"control"})
        file(share=flag(1), on=flag(True))
        on = until(lambda: {canary(unit) for unit in UNITS}, {"v2"})
        problems = driver.problems
    assert (first, second, off, on, problems) == (0.1, 0.5, {"control"}, {"v2"}, {})
    assert runtime.flush()
    assert [(event.actor, event.reason) for event in seen.transitioned] == [
        ("openfeature:FlagdProvider", f"flag 'share' is {value} (variant 'now')") for value in (0.1, 0.5, 1.0)
    ]


def test_the_provider_says_at_once_that_its_file_has_changed(file, flagd, client_of, canary, shares, until):
    file(share=flag(0.1))
    with FlagDriver(client_of(flagd()), [ShareFlag("share", canary)], every_s=3600):
        first = until(shares, 0.1)
        file(share=flag(0.5))
        assert (first, until(shares, 0.5)) == (0.1, 0.5)


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ({}, "flag_not_found"),
        ({"share": flag("10%")}, "type_mismatch"),
        ({"share": flag(10)}, "a share is a number"),
        ({"share": flag(0.5, state="DISABLED")}, "its reason is disabled"),
        ({"share": flag(0.5, defaultVariant=None)}, "its reason is default"),
        ({"share": flag(0.5, defaultVariant="gone")}, "general"),
    ],
    ids=["removed", "a percentage", "too large", "disabled", "without a default", "with a default that is not there"],
)
def test_what_a_file_does_not_say_changes_nothing(flags, why, file, flagd, client_of, canary, shares, until):
    file(share=flag(0.25))
    with FlagDriver(client_of(flagd()), [ShareFlag("share", canary)], every_s=0.05) as driver:
        before = until(shares, 0.25)
        file(**flags)
        assert until(lambda: why in driver.problems.get("share", ""), True)
        assert (before, shares()) == (0.25, 0.25)


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_a_broken_file_changes_nothing_and_a_mended_one_goes_on(text, file, flagd, client_of, canary, shares, until, caplog):
    file(share=flag(0.25))
    with FlagDriver(client_of(flagd()), [ShareFlag("share", canary)], every_s=0.05):
        before = until(shares, 0.25)
        file(text)
        assert until(lambda: bool(caplog.records), True)
        broken = shares()
        file(share=flag(0.5))
        assert (before, broken, until(shares, 0.5)) == (0.25, 0.25, 0.5)


def test_rules_of_a_flag_can_tell_rollouts_apart(file, flagd, client_of, ranked):
    rule = {"if": [{"==": [{"var": "rollout"}, "first"]}, "small", "large"]}
    file(share={"state": "ENABLED", "variants": {"small": 0.1, "large": 0.9}, "defaultVariant": "small", "targeting": rule})
    first, second = (ranked(Canary(["5%"]), key=key) for key in ("first", "second"))
    FlagDriver(client_of(flagd()), [ShareFlag("share", first), ShareFlag("share", second)]).poll()
    assert [each.rollout.phase.shares["v2"] for each in (first, second)] == [0.1, 0.9]
