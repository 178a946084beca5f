-- Sufficient statistics of a journal, in plain SQL: it runs as it is on DuckDB and on Spark.
-- Input: events, one row for each line (docs/journal.md has the columns); listed, the ids of the rows of batches; and two functions:
-- key_of(text), a number of 63 bits, and number_of(text), a number of 64 bits that is the same in one session. `many` is how many
-- calls a row stands for: 1, or more where calls were drawn under overload; `happening` is a number of what an outcome was
-- recorded of, equal where it was recorded twice.
-- What the Python reader has read is added before units are counted: read_units, with arm, cluster, calls, first_s and bucket, and
-- read_outcomes, with arm, metric, cluster, total, outcomes, low and high; their arms are numbers of places, which has every arm
-- with its set, phase, variant and its place in the order of these two. looks has the numbers of units at which shares are
-- looked at, and beside the pairs of sets of which units are compared.
-- For the statements of segments also asked, one row for each recorded metric of a set of arms whose calls are split into segments:
-- rollout, fingerprint, metric, is_label (1: a call has one outcome, the first), is_windowed, window_s, until_s, low and high; without
-- a limit they are infinite; and joined, the outcomes of units with the number of the call that each goes to. Tables and views are made in this order, `once` in place of `numbered` where no outcome is there
-- twice. Arms have a number: grouping by it takes a third of the time that their four names take; and so have units.

-- table: special
SELECT call FROM events WHERE event = 'decision' AND NOT is_plain AND call IS NOT NULL
UNION ALL
SELECT key_of(id) AS call FROM listed;

-- table: arms
SELECT *, ROW_NUMBER() OVER (ORDER BY rollout, fingerprint, phase, variant, excluded) AS arm
FROM (
    SELECT rollout, fingerprint, phase, variant, excluded, MAX(strategy) AS strategy, MAX(share) AS share, COUNT(*) AS kept,
        SUM(closed * many) AS closed, SUM(CASE WHEN fell_back = 1 THEN many ELSE 0 END) AS fell_back, MIN(t) AS first_s,
        MAX(t) AS last_s
    FROM events
    WHERE event = 'decision' AND is_plain
    GROUP BY rollout, fingerprint, phase, variant, excluded
) each_arm;

-- table: calls
SELECT CAST(a.arm AS INTEGER) AS arm, a.excluded, d.call, number_of(d.cluster) AS unit, LENGTH(d.cluster) <= 16 AS is_short, CAST(d.bucket & 511 AS SMALLINT) AS bucket,
    CAST(d.many AS SMALLINT) AS many, d.t, d.run_s
FROM events d
JOIN arms a ON d.rollout = a.rollout AND d.fingerprint = a.fingerprint AND d.phase = a.phase AND d.variant = a.variant
    AND d.excluded = a.excluded
WHERE d.event = 'decision' AND d.is_plain;

-- view: numbered
SELECT *, ROW_NUMBER() OVER (PARTITION BY happening ORDER BY file, number) AS copy FROM events WHERE event = 'outcome';

-- view: once
SELECT *, 1 AS copy FROM events WHERE event = 'outcome';

-- view: outcomes
SELECT numbered.*, special.call IS NOT NULL AS is_of_rows
FROM numbered LEFT JOIN (SELECT DISTINCT call FROM special) special ON numbered.call = special.call
WHERE copy = 1 AND is_plain;

-- table: paired
SELECT c.arm, c.excluded, CASE WHEN c.arm IS NULL THEN o.rollout END AS rollout,
    CASE WHEN c.arm IS NULL THEN o.fingerprint END AS fingerprint, o.metric, c.unit, c.bucket, o.value,
    CAST(GREATEST(c.many, o.many) AS INTEGER) AS many
FROM outcomes o LEFT JOIN calls c ON o.call = c.call
WHERE c.arm IS NOT NULL OR NOT o.is_of_rows;

-- table: each_unit
SELECT arm, unit, is_short, CAST(SUM(calls) AS BIGINT) AS calls, MIN(first_s) AS first_s, MIN(bucket) AS bucket
FROM (
    SELECT arm, unit, is_short, many AS calls, t AS first_s, bucket FROM calls WHERE NOT excluded
    UNION ALL
    SELECT arm, number_of(cluster) AS unit, LENGTH(cluster) <= 16 AS is_short, calls, first_s, bucket FROM read_units
) every_call
GROUP BY arm, unit, is_short;

-- table: each_value
SELECT arm, metric, unit, SUM(total) AS total, SUM(outcomes) AS outcomes, MIN(low) AS low, MAX(high) AS high
FROM (
    SELECT arm, metric, unit, value * many AS total, CAST(many AS DOUBLE) AS outcomes, value AS low, value AS high
    FROM paired
    WHERE NOT excluded
    UNION ALL
    SELECT arm, metric, number_of(cluster) AS unit, total, outcomes, low, high FROM read_outcomes
) every_outcome
GROUP BY arm, metric, unit;

-- table: each_person
SELECT p.of_set, u.unit, u.is_short, COUNT(*) AS arms, MIN(u.first_s) AS first_s, MIN(u.bucket) AS bucket, MIN(p.place) AS place
FROM each_unit u JOIN places p ON u.arm = p.arm
GROUP BY p.of_set, u.unit, u.is_short;

-- table: crossing
SELECT p.of_set, p.phase, p.variant, p.place, u.unit, u.first_s, e.first_s AS began_s, e.bucket, e.is_short
FROM each_unit u JOIN places p ON u.arm = p.arm JOIN each_person e ON e.unit = u.unit AND e.of_set = p.of_set
WHERE e.arms > 1;

-- name: lines
SELECT (SELECT COUNT(*) FROM events) AS lines,
    (SELECT COUNT(*) FROM events WHERE event IS NULL AND NOT is_plain AND line IS NULL) AS damaged;

-- Groups go to the disk where memory is short; COUNT(DISTINCT) must have all of its numbers in memory.
-- name: repeated_outcomes
SELECT SUM(kept - 1) AS copies FROM (SELECT COUNT(*) AS kept FROM events WHERE event = 'outcome' GROUP BY happening) happenings;

-- name: repeated_calls
SELECT SUM(kept - 1) AS copies
FROM (
    SELECT COUNT(*) AS kept FROM (SELECT call FROM calls UNION ALL SELECT call FROM special) every_call GROUP BY call
) each_call;

-- name: repeated_shadows
SELECT SUM(kept - 1) AS copies
FROM (
    SELECT COUNT(*) AS kept FROM events WHERE event = 'shadow' AND call IS NOT NULL GROUP BY call, variant
) runs;

-- name: of_shadows
SELECT COUNT(*) AS outcomes FROM events WHERE event = 'outcome' AND NOT is_plain AND line LIKE '%"shadow"%';

-- name: metrics
SELECT COUNT(DISTINCT metric) AS metrics FROM events;

-- name: duplicates
SELECT rollout, fingerprint, COUNT(*) AS copies FROM numbered WHERE copy > 1 GROUP BY rollout, fingerprint;

-- name: special_outcomes
SELECT file, line FROM numbered WHERE NOT is_plain AND line IS NOT NULL AND copy = 1 ORDER BY file, number;

-- name: special_lines
SELECT file, line FROM events WHERE NOT is_plain AND line IS NOT NULL AND (event IS NULL OR event <> 'outcome') ORDER BY file, number;

-- name: of_rows
SELECT rollout, fingerprint, id, metric, value, item, is_position, many, t FROM outcomes WHERE is_of_rows;

-- name: visits
SELECT events.rollout, events.unit, t, fingerprint, phase, variant, excluded, bucket, call
FROM events JOIN waiting ON events.rollout = waiting.rollout AND events.unit = waiting.unit
WHERE event = 'decision' AND is_plain;

-- name: of_plain_calls
SELECT sought.id, rollout, fingerprint, phase, variant, cluster, bucket, many, excluded
FROM events JOIN sought ON events.call = key_of(sought.id)
WHERE event = 'decision' AND is_plain;

-- name: arm_sums
SELECT arm, rollout, fingerprint, phase, variant, strategy, share, kept, closed, fell_back, first_s, last_s
FROM arms
WHERE NOT excluded;

-- name: excluded
SELECT rollout, fingerprint, MAX(strategy) AS strategy, reason, COUNT(*) AS kept, SUM(many) AS calls
FROM events
WHERE event = 'decision' AND is_plain AND excluded
GROUP BY rollout, fingerprint, reason;

-- name: units
SELECT arm, calls, COUNT(*) AS units FROM each_unit GROUP BY arm, calls;

-- name: arrivals
SELECT of_set, look, place, COUNT(*) AS units
FROM (
    SELECT of_set, place, ROW_NUMBER() OVER (PARTITION BY of_set ORDER BY first_s, bucket, place) AS number
    FROM (
        SELECT of_set, place, first_s, bucket FROM each_person WHERE arms = 1
        UNION ALL
        SELECT of_set, MIN(place) AS place, MIN(began_s) AS first_s, MIN(bucket) AS bucket
        FROM crossing
        WHERE first_s = began_s
        GROUP BY of_set, unit
    ) first_seen
) arrived JOIN looks ON arrived.number > looks.after_units AND arrived.number <= looks.until_units
GROUP BY of_set, look, place;

-- name: persons
SELECT of_set, COUNT(*) AS units FROM each_person WHERE is_short GROUP BY of_set;

-- name: crossed
SELECT of_set, SUM(CASE WHEN most > 1 THEN 1 ELSE 0 END) AS in_phase,
    SUM(CASE WHEN most = 1 AND low <> high THEN 1 ELSE 0 END) AS between_phases
FROM (
    SELECT of_set, unit, MAX(arms) AS most, MIN(low) AS low, MAX(high) AS high
    FROM (
        SELECT of_set, unit, phase, COUNT(*) AS arms, MIN(variant) AS low, MAX(variant) AS high
        FROM crossing
        WHERE is_short
        GROUP BY of_set, unit, phase
    ) each_phase
    GROUP BY of_set, unit
) each_crossing
GROUP BY of_set;

-- name: shared
SELECT b.of_set, b.other_set, COUNT(*) AS units,
    SUM(CASE WHEN one.low = one.high AND other.low = other.high AND one.low = other.low THEN 0 ELSE 1 END) AS switched
FROM beside b
JOIN (
    SELECT p.of_set, u.unit, MIN(p.variant) AS low, MAX(p.variant) AS high
    FROM each_unit u JOIN places p ON u.arm = p.arm
    WHERE u.is_short
    GROUP BY p.of_set, u.unit
) one ON one.of_set = b.of_set
JOIN (
    SELECT p.of_set, u.unit, MIN(p.variant) AS low, MAX(p.variant) AS high
    FROM each_unit u JOIN places p ON u.arm = p.arm
    WHERE u.is_short
    GROUP BY p.of_set, u.unit
) other ON other.of_set = b.other_set AND other.unit = one.unit
GROUP BY b.of_set, b.other_set;

-- name: faults
SELECT rollout, fingerprint, phase, variant, 'error' AS kind, run_error AS name, SUM(many) AS calls
FROM events
WHERE event = 'decision' AND is_plain AND NOT excluded AND run_error IS NOT NULL
GROUP BY rollout, fingerprint, phase, variant, run_error
UNION ALL
SELECT rollout, fingerprint, phase, variant, 'withheld' AS kind, withheld AS name, SUM(many) AS calls
FROM events
WHERE event = 'decision' AND is_plain AND NOT excluded AND withheld IS NOT NULL
GROUP BY rollout, fingerprint, phase, variant, withheld;

-- name: planned
SELECT rollout, fingerprint, phase, shadow, SUM(many) AS calls
FROM events
WHERE event = 'decision' AND is_plain AND NOT excluded AND shadow IS NOT NULL
GROUP BY rollout, fingerprint, phase, shadow;

-- name: latencies
SELECT arm, bucket, many, ARRAY_SORT(ARRAY_AGG(run_s)) AS runs_s
FROM calls
WHERE NOT excluded AND run_s IS NOT NULL
GROUP BY arm, bucket, many;

-- name: strays
SELECT COALESCE(arms.rollout, p.rollout) AS rollout, COALESCE(arms.fingerprint, p.fingerprint) AS fingerprint, p.excluded,
    COUNT(*) AS outcomes
FROM paired p LEFT JOIN arms ON p.arm = arms.arm
WHERE p.arm IS NULL OR p.excluded
GROUP BY COALESCE(arms.rollout, p.rollout), COALESCE(arms.fingerprint, p.fingerprint), p.excluded;

-- name: per_call
SELECT v.arm, v.metric, u.calls, COUNT(*) AS units, AVG(CASE WHEN ABS(v.total) <= 1e140 THEN v.total END) AS mean,
    COALESCE(VAR_POP(CASE WHEN ABS(v.total) <= 1e140 THEN v.total END), 0) * COUNT(*) AS squares, MIN(v.total) AS low,
    MAX(v.total) AS high, SUM(CASE WHEN v.total = 0 THEN 1 ELSE 0 END) AS zeros,
    SUM(CASE WHEN v.total = u.calls THEN 1 ELSE 0 END) AS whole, SUM(CASE WHEN v.outcomes > u.calls THEN 1 ELSE 0 END) AS several
FROM each_value v JOIN each_unit u ON v.arm = u.arm AND v.unit = u.unit
GROUP BY v.arm, v.metric, u.calls;

-- name: per_outcome
SELECT arm, metric, outcomes, COUNT(*) AS units, AVG(CASE WHEN ABS(total) <= 1e140 THEN total END) AS mean,
    COALESCE(VAR_POP(CASE WHEN ABS(total) <= 1e140 THEN total END), 0) * COUNT(*) AS squares, MIN(total) AS low_total,
    MAX(total) AS high_total, SUM(CASE WHEN total = 0 THEN 1 ELSE 0 END) AS zeros,
    SUM(CASE WHEN total = outcomes THEN 1 ELSE 0 END) AS whole, MIN(low) AS low, MAX(high) AS high
FROM each_value
GROUP BY arm, metric, outcomes;

-- name: graded
SELECT arm, metric, bucket, many, ARRAY_SORT(ARRAY_AGG(value)) AS each_value
FROM paired
WHERE NOT excluded
    AND metric IN (SELECT metric FROM events WHERE event = 'outcome' AND (NOT is_plain OR (value <> 0 AND value <> 1)))
GROUP BY arm, metric, bucket, many;

-- name: ends
SELECT rollout, fingerprint, phase, variant, ended, CASE WHEN ended IN ('error', 'dropped_snapshot') THEN error END AS error,
    CASE WHEN matched IS NOT NULL THEN difference_reason END AS reason,
    COUNT(*) AS kept, SUM(many) AS runs
FROM events
WHERE event = 'shadow' AND is_plain AND NOT excluded
GROUP BY rollout, fingerprint, phase, variant, ended, CASE WHEN ended IN ('error', 'dropped_snapshot') THEN error END,
    CASE WHEN matched IS NOT NULL THEN difference_reason END;

-- name: comparators
SELECT rollout, fingerprint, phase, variant, comparator, SUM(many) AS runs
FROM events
WHERE event = 'shadow' AND is_plain AND NOT excluded AND matched IS NOT NULL AND comparator <> 'error'
GROUP BY rollout, fingerprint, phase, variant, comparator;

-- name: compared
SELECT rollout, fingerprint, phase, variant, cluster, SUM(matched * many) AS matched, SUM(many) AS compared,
    SUM(difference * many) AS difference, SUM(CASE WHEN difference IS NOT NULL THEN many ELSE 0 END) AS differences
FROM events
WHERE event = 'shadow' AND is_plain AND NOT excluded AND matched IS NOT NULL AND comparator <> 'error'
GROUP BY rollout, fingerprint, phase, variant, cluster;

-- name: shadow_latencies
SELECT rollout, fingerprint, phase, variant, many, ARRAY_AGG(duration_s) AS runs_s,
    ARRAY_AGG(control_duration_s) FILTER (WHERE control_duration_s IS NOT NULL) AS controls_s
FROM events
WHERE event = 'shadow' AND is_plain AND NOT excluded AND ended IN ('ok', 'error') AND duration_s IS NOT NULL
GROUP BY rollout, fingerprint, phase, variant, many;

-- name: buckets
SELECT rollout, fingerprint, phase, variant, '' AS metric, bucket, SUM(many) AS calls, 0 AS outcomes, 0.0 AS total
FROM events
WHERE event = 'decision' AND is_plain AND NOT excluded
GROUP BY rollout, fingerprint, phase, variant, bucket
UNION ALL
SELECT d.rollout, d.fingerprint, d.phase, d.variant, o.metric, d.bucket, 0 AS calls, SUM(GREATEST(d.many, o.many)) AS outcomes,
    SUM(o.value * GREATEST(d.many, o.many)) AS total
FROM outcomes o JOIN events d ON o.call = d.call
WHERE d.event = 'decision' AND d.is_plain AND NOT d.excluded
GROUP BY d.rollout, d.fingerprint, d.phase, d.variant, o.metric, d.bucket;

-- name: segments
WITH asking AS (
    SELECT DISTINCT rollout, fingerprint FROM asked
),
split AS (
    SELECT d.call, d.rollout, d.fingerprint, d.phase, d.variant, d.bucket, d.t, d.many, d.failed,
        CASE n.number WHEN 1 THEN d.segment_1 WHEN 2 THEN d.segment_2 WHEN 3 THEN d.segment_3 ELSE d.segment_4 END AS segment
    FROM events d
    JOIN asking ON d.rollout = asking.rollout AND d.fingerprint = asking.fingerprint
    CROSS JOIN (SELECT 1 AS number UNION ALL SELECT 2 AS number UNION ALL SELECT 3 AS number UNION ALL SELECT 4 AS number) n
    WHERE d.event = 'decision' AND d.is_plain AND NOT d.excluded AND d.segment_1 IS NOT NULL
),
timed AS (
    SELECT d.call, a.metric, a.is_label, LEAST(GREATEST(o.value, a.low), a.high) AS value,
        CAST(GREATEST(d.many, o.many) AS DOUBLE) / d.many AS factor,
        ROW_NUMBER() OVER (PARTITION BY d.call, a.metric ORDER BY o.t, o.value) AS place
    FROM (
        SELECT call, metric, value, many, t FROM outcomes
        UNION ALL
        SELECT call, metric, value, many, t FROM joined
    ) o
    JOIN events d ON o.call = d.call
    JOIN asked a ON d.rollout = a.rollout AND d.fingerprint = a.fingerprint AND o.metric = a.metric
    WHERE d.event = 'decision' AND d.is_plain AND NOT d.excluded AND d.segment_1 IS NOT NULL
        AND o.t - d.t <= a.window_s AND d.t < a.until_s
),
valued AS (
    SELECT call, metric, SUM(value * factor) AS value, SUM(is_label * factor) AS weight,
        SUM(CASE WHEN value * factor = 0 OR value * factor = 1 THEN 0 ELSE 1 END) + COUNT(*) - 1 AS others
    FROM timed
    WHERE is_label = 0 OR place = 1
    GROUP BY call, metric
)
SELECT rollout, fingerprint, segment, '' AS metric, phase, variant, bucket, 0.0 AS value, COUNT(*) AS weight, 0 AS others
FROM split
WHERE segment IS NOT NULL
GROUP BY rollout, fingerprint, segment, phase, variant, bucket
UNION ALL
SELECT rollout, fingerprint, segment, 'error_rate' AS metric, phase, variant, bucket, SUM(failed) AS value, 0 AS weight, 0 AS others
FROM split
WHERE segment IS NOT NULL AND failed = 1
GROUP BY rollout, fingerprint, segment, phase, variant, bucket
UNION ALL
SELECT s.rollout, s.fingerprint, s.segment, a.metric, s.phase, s.variant, s.bucket, 0.0 AS value, COUNT(*) AS weight, 0 AS others
FROM split s JOIN asked a ON s.rollout = a.rollout AND s.fingerprint = a.fingerprint
WHERE s.segment IS NOT NULL AND a.is_windowed = 1 AND a.is_label = 0 AND s.t < a.until_s
GROUP BY s.rollout, s.fingerprint, s.segment, a.metric, s.phase, s.variant, s.bucket
UNION ALL
SELECT s.rollout, s.fingerprint, s.segment, v.metric, s.phase, s.variant, s.bucket, SUM(v.value) AS value,
    SUM(v.weight) AS weight, SUM(v.others) AS others
FROM split s JOIN valued v ON s.call = v.call
WHERE s.segment IS NOT NULL
GROUP BY s.rollout, s.fingerprint, s.segment, v.metric, s.phase, s.variant, s.bucket;

-- name: segment_units
SELECT DISTINCT d.rollout, d.fingerprint, d.variant, d.cluster, d.segment_1, d.segment_2, d.segment_3, d.segment_4
FROM events d JOIN asked a ON d.rollout = a.rollout AND d.fingerprint = a.fingerprint
WHERE d.event = 'decision' AND d.is_plain AND NOT d.excluded AND d.segment_1 IS NOT NULL;
