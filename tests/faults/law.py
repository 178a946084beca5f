"""The conservation law of shadows: each run that was ever made ends exactly once, and its end is told for each of its calls.

    submitted == ok + error + timeout + dropped_* + abandoned + cancelled

Any test can be held to it: `law = ConservationLaw(monkeypatch)`, whatever is to be watched, and, once its runtimes have
closed, `law.check()`. In this folder every test is.
"""

from collections import Counter
from typing import get_args

from rollout_sdk.engine.shadows.ended import EndedShadow
from rollout_sdk.engine.shadows.shadow import ShadowRun
from rollout_sdk.records import ShadowEnd

ENDS = frozenset(get_args(ShadowEnd))


class ConservationLaw:
    """Watches every shadow run of this process from its making to its end.

    Attributes:
        made: The runs, in order.
        ended: How often each has ended, by its identity.
        told: How often each end was told, by (call, variant); a batch has a call for every row.
        ends: How many ended how.
    """

    def __init__(self, monkeypatch):
        """Begin to watch; `monkeypatch` says for how long."""
        self.made, self.ended, self.told, self.ends = [], Counter(), Counter(), Counter()
        begin, claim, tell = ShadowRun.__init__, ShadowRun.claim, EndedShadow.__init__

        def counting_begin(run, *arguments):
            begin(run, *arguments)
            self.made.append(run)

        def counting_claim(run):
            first = claim(run)
            self.ended[id(run)] += first
            return first

        def counting_tell(fact, call, variant, end, *others):
            tell(fact, call, variant, end, *others)
            self.told[id(call), variant] += 1
            self.ends[end] += 1

        monkeypatch.setattr(ShadowRun, "__init__", counting_begin)
        monkeypatch.setattr(ShadowRun, "claim", counting_claim)
        monkeypatch.setattr(EndedShadow, "__init__", counting_tell)

    @property
    def due(self):
        """Ends that must be told when all is over."""
        return sum(len(run.calls) for run in self.made)

    def check(self):
        """All is over: everything that began has ended, once, in one of the known ways, and was told."""
        assert [1] * len(self.made) == [self.ended[id(run)] for run in self.made]
        expected = Counter((id(call), run.variant) for run in self.made for call in run.calls)
        assert expected == self.told
        assert set(self.ends) <= ENDS
        assert self.due == self.ends.total()
