-- Sufficient statistics of a journal, in plain SQL: it runs as it is on DuckDB and on Spark.
-- Input: events, one row for each plain line (docs/journal.md has the columns), and outcomes, the rows of events that are outcomes,
-- each once. `many` is how many calls a row stands for: 1, or more where calls were drawn under overload.

-- name: arms
SELECT rollout, fingerprint, phase, variant, MAX(strategy) AS strategy, MAX(share) AS share, COUNT(*) AS kept,
    SUM(closed * many) AS closed, SUM(CASE WHEN fell_back = 1 THEN many ELSE 0 END) AS fell_back, MIN(t) AS first_s, MAX(t) AS last_s
FROM events
WHERE event = 'decision' AND is_plain AND NOT excluded
GROUP BY rollout, fingerprint, phase, variant;

-- name: excluded
SELECT rollout, fingerprint, MAX(strategy) AS strategy, reason, COUNT(*) AS kept, SUM(many) AS calls
FROM events
WHERE event = 'decision' AND is_plain AND excluded
GROUP BY rollout, fingerprint, reason;

-- name: units
SELECT rollout, fingerprint, phase, variant, cluster, SUM(many) AS calls, MIN(t) AS first_s
FROM events
WHERE event = 'decision' AND is_plain AND NOT excluded
GROUP BY rollout, fingerprint, phase, variant, cluster;

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

-- name: values
SELECT d.rollout, d.fingerprint, d.phase, d.variant, o.metric, d.cluster,
    SUM(o.value * GREATEST(d.many, o.many)) AS total, SUM(GREATEST(d.many, o.many)) AS outcomes,
    MIN(o.value) AS low, MAX(o.value) AS high
FROM outcomes o JOIN events d ON o.call = d.call
WHERE d.event = 'decision' AND d.is_plain AND NOT d.excluded
GROUP BY d.rollout, d.fingerprint, d.phase, d.variant, o.metric, d.cluster;

-- name: of_excluded
SELECT d.rollout, d.fingerprint, COUNT(*) AS outcomes
FROM outcomes o JOIN events d ON o.call = d.call
WHERE d.event = 'decision' AND d.is_plain AND d.excluded
GROUP BY d.rollout, d.fingerprint;

-- name: unknown
SELECT o.rollout, o.fingerprint, COUNT(*) AS outcomes
FROM outcomes o LEFT JOIN events d ON o.call = d.call AND d.event = 'decision'
WHERE d.call IS NULL AND NOT o.is_of_rows
GROUP BY o.rollout, o.fingerprint;

-- name: ends
SELECT rollout, fingerprint, phase, variant, ended, CASE WHEN ended = 'error' THEN error END AS error,
    CASE WHEN matched IS NOT NULL THEN difference_reason END AS reason,
    COUNT(*) AS kept, SUM(many) AS runs
FROM events
WHERE event = 'shadow' AND is_plain AND NOT excluded
GROUP BY rollout, fingerprint, phase, variant, ended, CASE WHEN ended = 'error' THEN error END,
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
