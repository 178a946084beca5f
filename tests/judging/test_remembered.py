"""The names seen last are remembered, in memory that does not grow with those that came before."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_sdk.judging.remembered import Remembered


def test_the_last_names_are_remembered_and_old_ones_are_not():
    remembered = Remembered(100)
    for number in range(1_000):
        remembered.add(("click", f"d{number}"))
        if number % 33:
            continue
        recent = range(max(0, number - 99), number + 1)
        assert all(("click", f"d{each}") in remembered for each in recent)
        assert not any(("click", f"d{each}") in remembered for each in range(number - 200))
    assert ("buy", "d999") not in remembered


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=80))
def test_it_is_a_set_until_it_is_full(numbers):
    remembered, known = Remembered(100), set()
    for number in numbers:
        # The hash of -1 is that of -2, as of every whole number and that number plus 2**61 - 1.
        assert (number in remembered) == (hash(number) in known)
        remembered.add(number)
        known.add(hash(number))


@pytest.mark.parametrize("step", [1, 2, 3, 64, 2**18, 2**32, 2**32 + 1])
def test_names_whose_hashes_look_alike_are_found_and_told_apart(step):
    remembered = Remembered(1_000)
    for number in range(1, 500):
        assert number * step not in remembered
        remembered.add(number * step)
    assert all(number * step in remembered for number in range(1, 500))
    assert -3 not in remembered


def test_what_came_again_takes_no_room():
    remembered = Remembered(100)
    for _ in range(1_000):
        for name in ("a", "b"):
            remembered.add(name)
    assert "a" in remembered
    assert remembered.bytes == Remembered().bytes


def test_memory_is_bounded_and_small_before_it_is_needed():
    remembered = Remembered()
    assert remembered.bytes <= 1_024
    most = 0
    for number in range(450_000):
        remembered.add(number)
        most = max(most, remembered.bytes)
    # Two tables of 2**18 places.
    assert most == 2 * 8 * 2**18
    assert most <= 42 * 100_000
