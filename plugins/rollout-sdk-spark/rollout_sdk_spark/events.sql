-- Lines of a journal as typed events, in the dialect of Spark: the columns of rollout_sdk/analysis/sql/events.sql, which is
-- DuckDB's. Input: lines(file, line, number), and key_of(text). Everything that is not surely written as the SDK writes it is left
-- to the Python reader (`is_plain` is false), also what is not JSON.
WITH parsed AS (
    SELECT
        file,
        line,
        number,
        from_json(line, 'event STRING, t DOUBLE, rollout STRING, id STRING, strategy STRING, phase STRING, fingerprint STRING,
            variant STRING, served STRING, reason STRING, share DOUBLE, bucket BIGINT, unit STRING, runs ARRAY<ARRAY<STRING>>,
            shadows ARRAY<STRING>, blend STRING, teams STRING, rule STRING, closed_early BOOLEAN, excluded BOOLEAN, withheld STRING,
            unmeasured STRING, rate DOUBLE, metric STRING, value DOUBLE, item STRING, position BIGINT, event_id STRING, end STRING,
            duration_s DOUBLE, error STRING, match BIGINT, difference DOUBLE, difference_reason STRING, comparator STRING,
            control_duration_s DOUBLE, answered BOOLEAN, no_evidence BOOLEAN, segments MAP<STRING, STRING>, _corrupt_record STRING', map('mode', 'PERMISSIVE')) AS j,
        -- A value of another kind than its field's, an escape, and what JSON of others may have.
        line IS NOT NULL
        -- The only object inside another: texts by name.
        AND NOT regexp_replace(line, r'"segments":\{(?:"[^"]*":"[^"]*",?)+\}', '"segments":0') RLIKE concat(
            r'"(?:event|rollout|id|strategy|phase|fingerprint|variant|served|reason|unit|withheld|unmeasured|metric|item|event_id|end',
            r'|error|difference_reason|comparator|control_error|source)":[^"]',
            r'|"(?:t|share|bucket|rate|value|duration_s|wait_s|match|difference|propensity|position|cov|decided|call_rate',
            r'|first_item_s|control_duration_s|control_first_item_s)":[^-0-9]',
            r'|"(?:bucket|position|match)":-?[0-9]+[.eE]|"v":(?:[^1]|1[^,}])|"(?:excluded|closed_early|answered|no_evidence)":[^tf]',
            r'|"(?:runs|shadows|blend|items|teams)":[^\[]|"(?:shadows|blend)":\[[^"]|"(?:rule|details)":[^{]',
            r'|"(?:fields|labels|items)":|"shadow":[^f]|,[\]}]|:-?(?:NaN|Infinity)|\\',
            -- Other runs than one; bytes that are not text; and what stands before or after an object.
            r'|"runs":(?!\[\]|\[\["[^"]*",-?[0-9.eE+-]+,(?:null|"[^"]*"),(?:null|-?[0-9.eE+-]+)\]\])',
            '|\uFFFD', r'|^[^{]|[^}]$|\}.|"segments":[^0]') AS is_clean
    FROM lines
),
typed AS (
    SELECT *,
        -- What is no evidence for the judge is in no segment.
        CASE WHEN NOT coalesce(j.no_evidence, false) AND coalesce(j.withheld, '') NOT IN ('aborted', 'disabled')
            AND NOT (j.unmeasured IS NOT NULL AND j.withheld IS NULL AND size(j.runs) > 0 AND j.runs[0][2] IS NULL)
            THEN map_entries(j.segments) END AS pairs
    FROM parsed
)
SELECT
    file,
    j.event AS event,
    j.rollout AS rollout,
    coalesce(j.fingerprint, '') AS fingerprint,
    j.phase AS phase,
    j.variant AS variant,
    j.strategy AS strategy,
    j.t AS t,
    key_of(j.id) AS call,
    j.unit AS unit,
    coalesce(j.unit, j.id) AS cluster,
    j.bucket AS bucket,
    CASE WHEN j.rate IS NULL OR NOT j.rate BETWEEN 0.0002D AND 1.0D THEN 1L ELSE CAST(round(1 / j.rate) AS BIGINT) END AS many,
    j.share AS share,
    coalesce(j.excluded, false) AS excluded,
    j.reason AS reason,
    CASE WHEN j.variant <> j.served THEN 1 ELSE 0 END AS fell_back,
    CASE WHEN j.closed_early THEN 1 ELSE 0 END AS closed,
    j.withheld AS withheld,
    -- A control that ran after a failure is not a sample of the control's latency.
    CASE WHEN j.runs[0][0] = j.variant THEN j.variant END AS ran,
    CASE WHEN j.runs[0][0] = j.variant AND j.unmeasured IS NULL AND NOT coalesce(j.closed_early, false)
        THEN CAST(j.runs[0][1] AS DOUBLE) END AS run_s,
    CASE WHEN j.runs[0][0] = j.variant THEN j.runs[0][2] END AS run_error,
    j.shadows[0] AS shadow,
    CASE WHEN j.withheld IS NOT NULL OR (j.runs[0][2] IS NOT NULL AND NOT coalesce(j.answered, false)) THEN 1 ELSE 0 END AS failed,
    pairs[0].key || '=' || pairs[0].value AS segment_1,
    pairs[1].key || '=' || pairs[1].value AS segment_2,
    pairs[2].key || '=' || pairs[2].value AS segment_3,
    pairs[3].key || '=' || pairs[3].value AS segment_4,
    CASE WHEN j.event = 'outcome' THEN j.id END AS id,
    CASE WHEN j.event = 'outcome' THEN coalesce(j.item, CAST(j.position AS STRING)) END AS item,
    j.position IS NOT NULL AND j.item IS NULL AS is_position,
    j.metric AS metric,
    j.value AS value,
    CASE WHEN j.event = 'outcome' THEN key_of(j.event_id) END AS named,
    j.end AS ended,
    j.duration_s AS duration_s,
    j.error AS error,
    j.match AS matched,
    j.difference AS difference,
    j.difference_reason AS difference_reason,
    coalesce(j.comparator, 'default') AS comparator,
    j.control_duration_s AS control_duration_s,
    coalesce(is_clean AND j._corrupt_record IS NULL AND (j.rate IS NULL OR j.rate BETWEEN 0.0002D AND 1.0D) AND coalesce(is_number(j.t), true) AND CASE j.event
        WHEN 'decision' THEN
            j.t IS NOT NULL AND j.rollout IS NOT NULL AND j.id IS NOT NULL AND j.strategy IS NOT NULL AND j.phase IS NOT NULL
            AND j.variant IS NOT NULL AND j.served IS NOT NULL AND j.reason IS NOT NULL AND j.bucket IS NOT NULL
            AND j.blend IS NULL AND j.teams IS NULL AND j.rule IS NULL AND coalesce(size(j.shadows), 0) <= 1
            AND coalesce(size(j.segments), 0) <= 4
            AND coalesce(is_number(j.share), true)
            AND (j.runs IS NULL OR size(j.runs) = 0 OR coalesce(is_number(CAST(j.runs[0][1] AS DOUBLE)), false))
        WHEN 'shadow' THEN
            j.rollout IS NOT NULL AND j.id IS NOT NULL AND j.phase IS NOT NULL AND j.variant IS NOT NULL AND j.end IS NOT NULL
            AND coalesce(is_number(j.duration_s), true) AND coalesce(is_number(j.difference), true)
            AND coalesce(is_number(j.control_duration_s), true)
        WHEN 'outcome' THEN
            j.t IS NOT NULL AND j.rollout IS NOT NULL AND j.metric IS NOT NULL AND is_number(j.value) AND j.id IS NOT NULL
        ELSE false END, false) AS is_plain,
    line,
    number
FROM typed
