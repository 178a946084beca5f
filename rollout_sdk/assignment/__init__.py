"""Assigns units to variants: the same in every process and at any time, without stored assignments.

A unit is hashed once, with a keyed 64-bit blake2b digest of (rollout key or layer, unit). The upper 32 bits are its point
on the unit interval, the lowest 9 bits its statistics bucket, and the bits between decide the holdout: three independent
draws, so that a 1 % arm is spread over all 512 buckets. Candidates own lanes of the interval. The lanes of a phase are derived
from the previous ones, so raising a share only ever moves units from the control to that candidate.
"""

from rollout_sdk.assignment.hashing import (
    BUCKETS,
    DEFAULT_SALT,
    INTERVAL,
    LONGEST_ID,
    UnitHash,
    bucket_of,
    canonical,
    holdout_point,
    key_id,
    kind_of,
    point_of,
    pseudonym,
    pseudonyms,
    pseudonyms_of,
    unit_hash,
)
from rollout_sdk.assignment.phases import Phase, Split, lanes, last_step_within
from rollout_sdk.assignment.placement import Lane, moved_units, place
from rollout_sdk.assignment.request import Binder, Outline, RouteRequest
from rollout_sdk.assignment.shares import Layer, Share, parse_share, percent, phase_label

__all__ = [
    "BUCKETS",
    "DEFAULT_SALT",
    "INTERVAL",
    "LONGEST_ID",
    "Binder",
    "Lane",
    "Layer",
    "Outline",
    "Phase",
    "RouteRequest",
    "Share",
    "Split",
    "UnitHash",
    "bucket_of",
    "canonical",
    "holdout_point",
    "key_id",
    "kind_of",
    "lanes",
    "last_step_within",
    "moved_units",
    "parse_share",
    "percent",
    "phase_label",
    "place",
    "point_of",
    "pseudonym",
    "pseudonyms",
    "pseudonyms_of",
    "unit_hash",
]
