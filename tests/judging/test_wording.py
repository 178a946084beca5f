"""Numbers in the sentences of findings."""

import math

from rollout_sdk.judging.wording import about, chance, lift, percent, signed


def test_a_number_is_written_as_people_read_it():
    cases = [
        (lift(0.062), "+6.2 %"),
        (lift(-1.0), "-100.0 %"),
        (lift(8.99), "+899.0 %"),
        (lift(9.0), "10 times"),
        (lift(122.4), "123 times"),
        (chance(math.log(132)), "1 in 132"),
        (chance(math.log(5_000.2)), "1 in 5,000"),
        (chance(math.log(1.1e6)), "less than 1 in a million"),
        (chance(math.log(0.9e6)), "1 in 900,000"),
        (chance(math.log(2.1)), "1 in 2"),
        (chance(math.log(1.9)), "likely"),
        (chance(-3.0), "likely"),
        (percent(0.0025), "0.25 %"),
        (percent(0.12), "12 %"),
        (about(0.123), "0.12"),
        (about(9.94), "9.9"),
        (about(10.4), "10"),
        (about(1_234.4), "1,234"),
        (signed(0.25), "+0.25"),
        (signed(-1.0), "-1"),
    ]
    assert [expected for _, expected in cases] == [written for written, _ in cases]
