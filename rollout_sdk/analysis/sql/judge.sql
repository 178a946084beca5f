-- What the judge would have seen of a journal, as sums by set of arms, batch, arm and bucket, in the dialect of DuckDB. Input:
-- events (docs/journal.md), and sources(file, process, part): the files of each process in the order of its writing. Lines are
-- put in the order in which the line-by-line reader takes them. A batch ends where that reader looks, where a phase has its
-- first call, and where a line is of a rollout or of a transition; within a batch, the order of lines changes nothing.
-- looks_before(calls) is how many looks are taken at up to so many calls, cell_of(digest) the cell of a unit, and slot_of(time)
-- a number that grows with it: within most slots of time no batch ends, so their lines need not be sorted.

-- name: unusual
SELECT COUNT(*) AS lines
FROM events
WHERE NOT coalesce(is_summable, false) AND (line IS NOT NULL OR is_plain)
    AND coalesce(event, '') NOT IN ('journal', 'rollout', 'transition', 'lost');

-- table: judged_sets
SELECT *, CAST(row_number() OVER (ORDER BY rollout, fingerprint) AS INTEGER) AS of_set
FROM (
    SELECT DISTINCT rollout, fingerprint
    FROM events
    WHERE event IN ('decision', 'rollout', 'transition', 'outcome') AND rollout IS NOT NULL
) each_set;

-- name: declared
SELECT s.of_set, e.file, e.line
FROM events e JOIN judged_sets s ON e.rollout = s.rollout AND e.fingerprint = s.fingerprint
WHERE e.event = 'rollout' AND e.line IS NOT NULL;

-- name: how_many_sets
SELECT COUNT(*) AS sets FROM judged_sets;

-- name: first_lines
SELECT file, line FROM events WHERE event = 'journal' AND line IS NOT NULL;

-- table: judged_arms
SELECT *, CAST(row_number() OVER (ORDER BY of_set, phase, variant) AS INTEGER) AS arm
FROM (
    SELECT DISTINCT s.of_set, e.rollout, e.fingerprint, e.phase, e.variant
    FROM events e JOIN judged_sets s ON e.rollout = s.rollout AND e.fingerprint = s.fingerprint
    WHERE e.event IN ('decision', 'outcome')
) each_arm;

-- table: judged_metrics
SELECT *, CAST(row_number() OVER (ORDER BY metric) AS INTEGER) AS of_metric
FROM (SELECT DISTINCT metric FROM events WHERE event = 'outcome') each_metric;

-- table: placed
SELECT of_set, arm, kind, process, place,
    coalesce(MAX(CASE WHEN kind IN (0, 2) THEN t END) OVER (PARTITION BY process ORDER BY place), 0.0) AS seen_s,
    t, excluded, failed, bucket, cell, of_metric, value, call, decided
FROM (
    SELECT a.of_set, a.arm, 0 AS kind, sources.process, (CAST(sources.part AS BIGINT) << 40 | e.number) * 2 AS place, e.t,
        e.is_left_out AS excluded, e.failed, CAST(e.bucket AS SMALLINT) AS bucket, cell_of(TRY_CAST('0x' || e.unit AS UBIGINT)) AS cell,
        NULL AS of_metric, e.waited_s AS value, e.call, NULL AS decided
    FROM events e
    JOIN sources ON e.file = sources.file
    JOIN judged_arms a ON e.rollout = a.rollout AND e.fingerprint = a.fingerprint AND e.phase = a.phase AND e.variant = a.variant
    WHERE e.event = 'decision'
    UNION ALL
    SELECT a.of_set, a.arm, 1 AS kind, sources.process, (CAST(sources.part AS BIGINT) << 40 | e.number) * 2 AS place, e.t,
        e.is_left_out AS excluded, NULL AS failed, CAST(e.bucket AS SMALLINT) AS bucket, NULL AS cell, m.of_metric, e.value, e.call, e.decided
    FROM events e
    JOIN sources ON e.file = sources.file
    JOIN judged_metrics m ON e.metric = m.metric
    JOIN judged_arms a ON e.rollout = a.rollout AND e.fingerprint = a.fingerprint AND e.phase = a.phase AND e.variant = a.variant
    WHERE e.event = 'outcome'
    UNION ALL
    SELECT s.of_set, NULL AS arm, CASE e.event WHEN 'transition' THEN 2 ELSE 3 END AS kind, sources.process,
        (CAST(sources.part AS BIGINT) << 40 | e.number) * 2 AS place, e.t, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
    FROM events e
    JOIN sources ON e.file = sources.file
    JOIN judged_sets s ON e.rollout = s.rollout AND e.fingerprint = s.fingerprint
    WHERE e.event IN ('transition', 'rollout')
) every_line;

-- table: markers
WITH earliest AS (
    SELECT p.of_set, a.phase, MIN(p.seen_s) AS seen_s
    FROM placed p JOIN judged_arms a ON p.arm = a.arm
    WHERE p.kind = 0
    GROUP BY p.of_set, a.phase
)
SELECT p.of_set, e.phase,
    MIN({'process': p.process, 'place': p.place, 'arm': p.arm, 't': p.t, 'excluded': p.excluded}) AS first, p.seen_s
FROM placed p JOIN judged_arms a ON p.arm = a.arm JOIN earliest e ON a.of_set = e.of_set AND a.phase = e.phase AND p.seen_s = e.seen_s
WHERE p.kind = 0
GROUP BY p.of_set, e.phase, p.seen_s;

-- view: marked
SELECT of_set, arm, kind, process, place, seen_s, t, excluded, failed, bucket, cell, of_metric, value, call, slot_of(seen_s) AS slot
FROM placed
UNION ALL
SELECT of_set, first.arm, 4, first.process, first.place - 1, seen_s, first.t, first.excluded, NULL, NULL, NULL, NULL, NULL, NULL,
    slot_of(seen_s)
FROM markers;

-- table: slots
SELECT *, has_specials OR looks_before(calls_before) <> looks_before(calls_before + calls) AS is_split,
    specials_before + looks_before(calls_before) AS batch
FROM (
    SELECT of_set, slot, calls, specials > 0 AS has_specials,
        CAST(SUM(calls) OVER before AS INTEGER) - calls AS calls_before,
        CAST(SUM(specials) OVER before AS INTEGER) - specials AS specials_before
    FROM (
        SELECT of_set, slot, CAST(COUNT(CASE WHEN kind = 0 THEN 1 END) AS INTEGER) AS calls,
            CAST(COUNT(CASE WHEN kind >= 2 THEN 1 END) AS INTEGER) AS specials
        FROM marked
        GROUP BY of_set, slot
    ) each_slot
    WINDOW before AS (PARTITION BY of_set ORDER BY slot)
) counted;

-- table: ordered
SELECT *, specials + looks_before(CASE WHEN kind = 0 THEN calls - 1 ELSE calls END) AS batch
FROM (
    SELECT m.*, s.specials_before + CAST(SUM(CASE WHEN kind >= 2 THEN 1 ELSE 0 END) OVER in_order AS INTEGER) AS specials,
        s.calls_before + CAST(SUM(CASE WHEN kind = 0 THEN 1 ELSE 0 END) OVER in_order AS INTEGER) AS calls
    FROM marked m JOIN slots s ON m.of_set = s.of_set AND m.slot = s.slot
    WHERE s.is_split
    WINDOW in_order AS (PARTITION BY m.of_set, m.slot ORDER BY m.seen_s, m.process, m.place ROWS UNBOUNDED PRECEDING)
) counted;

-- table: batched
SELECT of_set, batch, arm, kind, process, place, seen_s, t, excluded, failed, bucket, cell, of_metric, value, call FROM ordered
UNION ALL
SELECT m.of_set, s.batch, m.arm, m.kind, m.process, m.place, m.seen_s, m.t, m.excluded, m.failed, m.bucket, m.cell, m.of_metric,
    m.value, m.call
FROM marked m JOIN slots s ON m.of_set = s.of_set AND m.slot = s.slot
WHERE NOT s.is_split;

-- view: occurred
SELECT of_set, batch, arm, 0 AS label, cell, CAST(floor(t / 60) AS INTEGER) AS minute, bucket
FROM batched
WHERE kind = 0 AND NOT excluded
UNION ALL
SELECT of_set, batch, arm, 1 AS label, cell, CAST(floor(t / 60) AS INTEGER) AS minute, bucket
FROM batched
WHERE kind = 0 AND NOT excluded AND failed = 1
UNION ALL
SELECT b.of_set, b.batch, b.arm, c.label, b.cell, CAST(floor(b.t / 60) AS INTEGER) AS minute, b.bucket
FROM batched b JOIN thresholds c ON b.of_set = c.of_set AND b.value > c.threshold_s
WHERE b.kind = 0 AND NOT b.excluded
UNION ALL
SELECT b.of_set, b.batch, b.arm, -c.label AS label, b.cell, 0 AS minute, b.bucket
FROM batched b JOIN thresholds c ON b.of_set = c.of_set
WHERE b.kind = 0 AND NOT b.excluded AND b.value IS NULL;

-- name: unplaced
SELECT (SELECT COUNT(*) FROM events WHERE event IN ('decision', 'outcome', 'transition', 'rollout')) - COUNT(*) AS lines
FROM placed;

-- name: early
SELECT COUNT(*) AS outcomes
FROM placed o LEFT JOIN placed c ON o.call = c.call AND c.kind = 0
WHERE o.kind = 1 AND NOT coalesce(o.decided <= o.seen_s AND (c.seen_s < o.seen_s OR (c.seen_s = o.seen_s
    AND (c.process < o.process OR (c.process = o.process AND c.place < o.place)))), false);

-- name: latest_behind
SELECT coalesce(MAX(seen_s - t), 0) AS behind_s FROM placed WHERE kind = 0;

-- name: times
SELECT MIN(seen_s) AS first_s, MAX(seen_s) AS last_s FROM placed WHERE seen_s > 0;

-- name: sets
SELECT s.of_set, s.rollout, s.fingerprint, COUNT(CASE WHEN b.kind = 0 THEN 1 END) AS calls, coalesce(MAX(CASE WHEN b.kind <> 2 THEN b.seen_s END), 0) AS last_s
FROM judged_sets s LEFT JOIN batched b ON s.of_set = b.of_set
GROUP BY s.of_set, s.rollout, s.fingerprint
ORDER BY s.of_set;

-- name: each_arm
SELECT arm, phase, variant, of_set FROM judged_arms;

-- name: each_metric
SELECT of_metric, metric FROM judged_metrics;

-- name: lines_between
SELECT sources.process, (CAST(sources.part AS BIGINT) << 40 | events.number) * 2 AS place, events.file, line
FROM events JOIN sources ON events.file = sources.file
WHERE event IN ('rollout', 'transition') AND line IS NOT NULL;

-- name: ends_of_batches
SELECT of_set, CASE WHEN kind = 0 THEN batch + 1 ELSE batch END AS batch, kind, calls, seen_s, process, place, arm, t, excluded
FROM ordered
WHERE kind >= 2 OR (kind = 0 AND looks_before(calls) > looks_before(calls - 1))
ORDER BY of_set, batch;

-- name: processes
SELECT of_set, process, MIN(t) AS first_s, MAX(t) AS last_s FROM batched WHERE kind = 0 GROUP BY of_set, process;

-- name: calls_of_arms
SELECT of_set, batch, arm, COUNT(*) AS calls, MAX(t) AS last_s FROM batched WHERE kind = 0 GROUP BY of_set, batch, arm;

-- name: calls_of_buckets
SELECT of_set, batch, arm, bucket, COUNT(*) AS calls, SUM(failed) AS failed, COUNT(value) AS timed,
    SUM(CASE WHEN value IS NOT NULL THEN ln(greatest(value, 1e-9)) END) AS log_s
FROM batched
WHERE kind = 0 AND NOT excluded
GROUP BY of_set, batch, arm, bucket;

-- name: slow_of_buckets
SELECT of_set, batch, arm, label, bucket, COUNT(*) AS calls
FROM occurred
WHERE label NOT IN (0, 1)
GROUP BY of_set, batch, arm, label, bucket;

-- name: minutes
SELECT of_set, batch, arm, label, minute, COUNT(*) AS calls, bit_or(CAST(1 AS UBIGINT) << (bucket & 63)) AS bits
FROM occurred
WHERE label >= 0
GROUP BY of_set, batch, arm, label, minute;

-- name: new_cells
SELECT of_set, arm, label, batch, least(bit_count((CAST(cell AS BIGINT) & -CAST(cell AS BIGINT)) - 1), 32) AS zeros,
    COUNT(*) AS cells
FROM (SELECT of_set, arm, label, cell, MIN(batch) AS batch FROM occurred GROUP BY of_set, arm, label, cell) each_cell
GROUP BY of_set, arm, label, batch, zeros;

-- name: sampled_cells
SELECT o.of_set, o.batch, o.arm, o.label, o.cell, MIN(o.minute) AS minute
FROM occurred o JOIN levels l ON o.of_set = l.of_set AND o.arm = l.arm AND o.label = l.label AND o.batch = l.batch
WHERE o.cell & l.mask = 0
GROUP BY o.of_set, o.batch, o.arm, o.label, o.cell;

-- name: first_outcomes
WITH earliest AS (
    SELECT of_set, of_metric, MIN(seen_s) AS seen_s FROM batched WHERE kind = 1 GROUP BY of_set, of_metric
)
SELECT b.of_set, MIN(b.batch) AS batch, m.metric
FROM batched b
JOIN earliest e ON b.of_set = e.of_set AND b.of_metric = e.of_metric AND b.seen_s = e.seen_s
JOIN judged_metrics m ON b.of_metric = m.of_metric
WHERE b.kind = 1
GROUP BY b.of_set, m.metric
ORDER BY b.of_set, MIN({'seen_s': b.seen_s, 'process': b.process, 'place': b.place});

-- name: outcomes_of_buckets
SELECT o.of_set, o.batch, o.arm, m.metric, o.bucket, COUNT(*) AS outcomes,
    SUM(CASE WHEN o.copy = 1 OR coalesce(r.is_label, 0) = 0 THEN o.kept ELSE 0 END) AS value,
    SUM(CASE WHEN o.copy = 1 THEN 1 ELSE 0 END) AS decisions,
    SUM(CASE WHEN (o.copy = 1 OR coalesce(r.is_label, 0) = 0) AND o.kept NOT IN (0, 1) THEN 1 ELSE 0 END) AS others
FROM (
    SELECT b.of_set, b.batch, b.arm, b.of_metric, b.bucket,
        least(greatest(b.value, coalesce(r.low, b.value)), coalesce(r.high, b.value)) AS kept,
        row_number() OVER (PARTITION BY b.of_set, b.call, b.of_metric ORDER BY b.seen_s, b.process, b.place) AS copy
    FROM batched b LEFT JOIN recorded r ON b.of_set = r.of_set AND b.of_metric = r.of_metric
    WHERE b.kind = 1 AND NOT b.excluded
) o
JOIN judged_metrics m ON o.of_metric = m.of_metric
LEFT JOIN recorded r ON o.of_set = r.of_set AND o.of_metric = r.of_metric
GROUP BY o.of_set, o.batch, o.arm, m.metric, o.bucket;
