"""Lines of journals, written by hand."""

import time

__all__ = ["NOW", "SECRET", "about", "breaker", "decision", "record", "shadow", "transition"]

NOW = time.time()
SECRET = "s3cret-0123456789abcdef"


def record(event, t=NOW - 10, **fields):
    return {"event": event, "v": 1, "t": t, **fields}


def decision(variant="control", *, rollout="r", served=None, **fields):
    usual = {"id": "d", "strategy": "ab", "phase": "0:50%", "reason": "split", "propensity": 0.5, "bucket": 7}
    runs = fields.pop("runs", [[served or variant, 0.1, None, None]])
    return record(
        "decision", **{**usual, "rollout": rollout, "variant": variant, "served": served or variant, "runs": runs, **fields}
    )


def about(rollout="r", *, phase="0:50%", status="running", **fields):
    shares = {"control": 0.5, "v2": 0.5}
    return record(
        "rollout", rollout=rollout, strategy="ab", control="control", phase=phase, status=status, shares=shares, **fields
    )


def shadow(end, *, variant="v2", **fields):
    return record("shadow", rollout="r", id="d", phase="0:50%", variant=variant, end=end, bucket=3, **fields)


def transition(action, status, *, to_phase="1:100%", **fields):
    shares = {"control": 0.0, "v2": 1.0}
    return record("transition", rollout="r", action=action, status=status, to_phase=to_phase, shares=shares, **fields)


def breaker(action, *, t=NOW - 10, **fields):
    usual = {"failures": 20, "runs": 25, "cooldown_s": 30.0}
    return record("breaker", t, rollout="r", variant="v2", action=action, **{**usual, **fields})
