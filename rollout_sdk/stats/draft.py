import math

from attrs import frozen


def log_ndtr(x):
    if x > -10:
        return math.log(0.5 * math.erfc(-x / math.sqrt(2)))
    return -x * x / 2 - math.log(-x) - 0.5 * math.log(2 * math.pi) + math.log1p(-1 / (x * x) + 3 / x**4)


def log_e_one_sided(estimate, std_error, *, rho, null=0.0, df=None):
    if not std_error or std_error is None or math.isinf(std_error):
        return 0.0
    I = std_error**-2
    S = (estimate - null) * I
    w = I + rho
    return 0.5 * math.log(4 * rho / w) + S * S / (2 * w) + log_ndtr(S / math.sqrt(w))


def confidence_sequence(estimate, std_error, *, rho, alpha=0.05, df=None):
    if not std_error or math.isinf(std_error):
        return (-math.inf, math.inf)
    I = std_error**-2
    h = math.sqrt((I + rho) / I**2 * math.log((I + rho) / (rho * alpha**2)))
    return estimate - h, estimate + h


def _rare(strata, r0, rs):
    strata = [s for s in strata if 0 < s[2] < 1 and s[0] + s[1] > 0]
    q = lambda s, r: s * r / (s * r + 1 - s)
    ls = []
    for r in rs:
        ls.append(
            math.fsum(a * math.log(q(s, r) / q(s, r0)) + b * math.log((1 - q(s, r)) / (1 - q(s, r0))) for a, b, s in strata)
        )
    m = max(ls)
    return m + math.log(sum(math.exp(l - m) for l in ls) / len(ls))


def rare_event_log_e(strata, *, margin=0.0):
    return _rare(list(strata), 1 + margin, [(1 + margin) * 1.1 * (10 / 1.1) ** (k / 39) for k in range(40)])


def rare_event_safe_log_e(strata, *, margin=0.0):
    return _rare(list(strata), 1 + margin, [(1 + margin) * 0.1 * (10 / 1.1) ** (k / 39) for k in range(40)])


def _lbeta(a, b):
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def bernoulli_interval(successes, trials, *, alpha=0.05, t_opt=100.0):
    if not trials:
        return (0.0, 1.0)
    k, n = successes, trials

    def le(p):
        if p <= 0 or p >= 1:
            return math.inf
        return _lbeta(k + 0.5, n - k + 0.5) - _lbeta(0.5, 0.5) - k * math.log(p) - (n - k) * math.log(1 - p)

    need = math.log(1 / alpha)
    ph = k / n

    def solve(a, b):
        for _ in range(80):
            m = (a + b) / 2
            if le(m) >= need:
                a = m
            else:
                b = m
        return a

    lo = 0.0 if k == 0 else solve(0.0, ph)
    hi = 1.0 if k == n else solve(1.0, ph)
    return lo, hi


def srm_log_e(counts, shares, *, concentration=1000.0):
    c = concentration
    n = sum(counts)
    return (
        math.lgamma(c)
        - math.lgamma(c + n)
        + math.fsum(math.lgamma(c * t + k) - math.lgamma(c * t) - k * math.log(t) for k, t in zip(counts, shares))
    )


@frozen
class Estimate:
    estimate: float
    std_error: float
    df: int
    n_units_hint: int


class StratifiedBuckets:
    def __init__(self, buckets=512):
        self.buckets = buckets
        self.d = {}

    def add(self, phase, arm, bucket, value, weight=1.0):
        a = self.d.setdefault((phase, arm), {})
        x = a.setdefault(bucket, [0.0, 0.0])
        x[0] += value
        x[1] += weight

    def merge(self, o):
        for (p, a), t in o.d.items():
            for b, (x, w) in t.items():
                self.add(p, a, b, x, w)

    def phases(self):
        return sorted({p for p, _ in self.d})

    def totals(self, p, a):
        t = self.d.get((p, a), {})
        return math.fsum(x for x, _ in t.values()), math.fsum(w for _, w in t.values())

    def as_dict(self):
        return {"b": self.buckets, "d": [[p, a, [[b, x, w] for b, (x, w) in t.items()]] for (p, a), t in self.d.items()]}

    @classmethod
    def from_dict(cls, t):
        s = cls(t["b"])
        for p, a, l in t["d"]:
            s.d[p, a] = {b: [x, w] for b, x, w in l}
        return s

    def difference(self, arm, control):
        W = 0
        d = 0
        psi = {}
        for p in self.phases():
            X, D = self.totals(p, arm)
            Y, E = self.totals(p, control)
            if D <= 0 or E <= 0:
                continue
            w = D * E / (D + E)
            R = X / D
            Q = Y / E
            W += w
            d += w * (R - Q)
            for b, (x, y) in self.d[p, arm].items():
                psi[b] = psi.get(b, 0) + w * (x - R * y) / D
            for b, (x, y) in self.d[p, control].items():
                psi[b] = psi.get(b, 0) - w * (x - Q * y) / E
        if not W:
            return Estimate(0.0, math.inf, 0, 0)
        B = self.buckets
        s2 = B / (B - 1) * math.fsum(v * v for v in psi.values()) / W**2
        return Estimate(d / W, math.sqrt(s2), B - 1, len(psi))
