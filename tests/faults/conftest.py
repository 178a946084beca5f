"""The conservation law: in every test here, each shadow run that was ever made ends, and ends once."""

from collections import Counter

import pytest

from rollout_sdk.engine.shadow import ShadowRun


@pytest.fixture(autouse=True)
def conserved(monkeypatch, watch):
    """Submitted = ok + error + timeout + dropped + abandoned + cancelled; checked when the test's runtimes have closed."""
    made, ended = [], Counter()
    begin, claim = ShadowRun.__init__, ShadowRun.claim

    def counting_begin(self, *arguments):
        begin(self, *arguments)
        made.append(self)

    def counting_claim(self):
        first = claim(self)
        ended[id(self)] += first
        return first

    monkeypatch.setattr(ShadowRun, "__init__", counting_begin)
    monkeypatch.setattr(ShadowRun, "claim", counting_claim)
    yield
    watch.close()
    assert [1] * len(made) == [ended[id(run)] for run in made]
