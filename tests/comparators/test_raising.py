from rollout_sdk.comparators.close import DefaultComparator


class Raises:
    def __eq__(self, other):
        raise TypeError("not with me")

    __hash__ = None


def test_outputs_that_raise_while_they_are_compared_are_not_the_same():
    found = DefaultComparator.rollout_compare(Raises(), Raises())
    assert not found.match
    assert found.reason == "TypeError while they were compared"
