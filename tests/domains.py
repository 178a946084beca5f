"""Values at the ends of a domain, for tests of what is accepted and what is refused."""

import math

NEAR = 1e-3


def ends(domain):
    """Values that belong to a domain such as "(0, 1]", and values that do not: at its ends, and just beside them."""
    low, high = (float(each) for each in domain[1:-1].split(","))
    inside, outside = [], []
    for end, closed, inwards in ((low, domain[0] == "[", 1), (high, domain[-1] == "]", -1)):
        (inside if closed else outside).append(end)
        if math.isfinite(end):
            step = NEAR * max(1.0, abs(end))
            inside.append(end + inwards * step)
            outside.append(end - inwards * step)
    return inside, outside
