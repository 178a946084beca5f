import math
from attrs import frozen


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
