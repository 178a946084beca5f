-- Lines of a journal as typed events, in the dialect of DuckDB. Input: lines(file, line), one JSON text each, or NULL where it
-- is not JSON; and key_of(text), a number of 63 bits that is the same in every engine, version and process. What is written
-- otherwise than the SDK writes it (`is_plain` is false) is read by the Python reader.
WITH parsed AS (
    SELECT
        file,
        line,
        json_transform(line, '{
            "event": "VARCHAR", "t": "DOUBLE", "rollout": "VARCHAR", "id": "VARCHAR", "strategy": "VARCHAR", "phase": "VARCHAR",
            "fingerprint": "VARCHAR", "variant": "VARCHAR", "served": "VARCHAR", "reason": "VARCHAR", "share": "DOUBLE",
            "bucket": "BIGINT", "unit": "VARCHAR", "runs": [["JSON"]], "shadows": ["VARCHAR"], "blend": "JSON", "teams": "JSON",
            "rule": "JSON", "closed_early": "BOOLEAN", "excluded": "BOOLEAN", "withheld": "VARCHAR", "unmeasured": "VARCHAR",
            "rate": "DOUBLE", "metric": "VARCHAR", "value": "DOUBLE", "item": "VARCHAR", "position": "BIGINT",
            "event_id": "VARCHAR", "end": "VARCHAR", "duration_s": "DOUBLE", "error": "VARCHAR", "match": "BIGINT",
            "difference": "DOUBLE", "difference_reason": "VARCHAR", "comparator": "VARCHAR",
            "control_duration_s": "DOUBLE", "decided": "DOUBLE", "answered": "BOOLEAN", "no_evidence": "BOOLEAN", "segments": "MAP(VARCHAR, VARCHAR)"
        }') AS j,
        -- A value of another kind than its field's, an escape, and what JSON of others may have.
        coalesce(NOT regexp_matches(line, concat(
            '"(?:event|rollout|id|strategy|phase|fingerprint|variant|served|reason|unit|withheld|unmeasured|metric|item|event_id|end',
            '|error|difference_reason|comparator|control_error|source)":[^"]',
            '|"(?:t|share|bucket|rate|value|duration_s|wait_s|match|difference|propensity|position|cov|decided|call_rate',
            '|first_item_s|control_duration_s|control_first_item_s)":[^-0-9]',
            '|"(?:bucket|position|match)":-?[0-9]+[.eE]|"v":(?:[^1]|1[^,}])|"(?:excluded|closed_early|answered|no_evidence)":[^tf]',
            '|"(?:runs|shadows|blend|items|teams)":[^\[]|"(?:shadows|blend)":\[[^"]|"(?:rule|details)":[^{]',
            '|"(?:fields|labels|items)":|"shadow":[^f]|,[\]}]|:-?(?:NaN|Infinity)|\\'))
            AND (NOT contains(line, '"segments":') OR regexp_matches(line, '"segments":\{(?:"[^"]*":"[^"]*",?)+\}')), false) AS is_clean
    FROM lines
),
typed AS (
    SELECT *, CAST(j.runs AS VARCHAR[][]) AS runs FROM parsed
),
split AS (
    -- What is no evidence for the judge is in no segment.
    SELECT *, CASE WHEN NOT coalesce(j.no_evidence, false) AND coalesce(j.withheld, '') NOT IN ('aborted', 'disabled')
        AND NOT (j.unmeasured IS NOT NULL AND j.withheld IS NULL AND coalesce(len(runs), 0) > 0 AND coalesce(runs[1][3], 'null') = 'null')
        THEN map_entries(j.segments) END AS pairs
    FROM typed
),
checked AS (
    SELECT *,
        len(runs[1]) = 4 AND runs[1][1][1] = '"' AND isfinite(try_cast(runs[1][2] AS DOUBLE)) AND runs[1][2][1] <> '"'
            AND (coalesce(runs[1][3], 'null') = 'null' OR runs[1][3][1] = '"')
            AND (coalesce(runs[1][4], 'null') = 'null' OR isfinite(try_cast(runs[1][4] AS DOUBLE))) AS is_first_run,
        len(runs[2]) = 4 AND runs[2][1][1] = '"' AND isfinite(try_cast(runs[2][2] AS DOUBLE)) AND runs[2][2][1] <> '"'
            AND (coalesce(runs[2][3], 'null') = 'null' OR runs[2][3][1] = '"')
            AND (coalesce(runs[2][4], 'null') = 'null' OR isfinite(try_cast(runs[2][4] AS DOUBLE))) AS is_second_run,
        is_clean AND (j.rate IS NULL OR j.rate BETWEEN 0.0002 AND 1) AND coalesce(isfinite(j.t), true) AND CASE j.event
            WHEN 'decision' THEN
                j.t IS NOT NULL AND j.rollout IS NOT NULL AND j.id IS NOT NULL AND j.strategy IS NOT NULL AND j.phase IS NOT NULL
                AND j.variant IS NOT NULL AND j.served IS NOT NULL AND j.reason IS NOT NULL AND j.bucket IS NOT NULL
                AND j.blend IS NULL AND j.teams IS NULL AND j.rule IS NULL AND coalesce(len(j.shadows), 0) <= 1
                AND coalesce(cardinality(j.segments), 0) <= 4 AND coalesce(isfinite(j.share), true)
            WHEN 'shadow' THEN
                j.rollout IS NOT NULL AND j.id IS NOT NULL AND j.phase IS NOT NULL AND j.variant IS NOT NULL AND j.end IS NOT NULL
                AND coalesce(isfinite(j.duration_s), true) AND coalesce(isfinite(j.difference), true)
                AND coalesce(isfinite(j.control_duration_s), true)
            WHEN 'outcome' THEN
                j.t IS NOT NULL AND j.rollout IS NOT NULL AND j.metric IS NOT NULL AND isfinite(j.value) AND j.id IS NOT NULL
            ELSE false END AS is_whole
    FROM split
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
    CASE WHEN j.rate IS NULL OR NOT j.rate BETWEEN 0.0002 AND 1 THEN 1 ELSE CAST(round(1 / j.rate) AS BIGINT) END AS many,
    j.share AS share,
    coalesce(j.excluded, false) AS excluded,
    j.reason AS reason,
    CASE WHEN j.variant <> j.served THEN 1 ELSE 0 END AS fell_back,
    CASE WHEN j.closed_early THEN 1 ELSE 0 END AS closed,
    j.withheld AS withheld,
    -- A control that ran after a failure is not a sample of the control's latency.
    CASE WHEN trim(runs[1][1], '"') = j.variant THEN j.variant END AS ran,
    CASE WHEN trim(runs[1][1], '"') = j.variant AND j.unmeasured IS NULL AND NOT coalesce(j.closed_early, false)
        THEN try_cast(runs[1][2] AS DOUBLE) END AS run_s,
    CASE WHEN trim(runs[1][1], '"') = j.variant AND coalesce(runs[1][3], 'null') <> 'null' THEN trim(runs[1][3], '"') END AS run_error,
    j.shadows[1] AS shadow,
    CASE WHEN j.withheld IS NOT NULL OR (coalesce(runs[1][3], 'null') <> 'null' AND NOT coalesce(j.answered, false))
        THEN 1 ELSE 0 END AS failed,
    pairs[1].key || '=' || pairs[1].value AS segment_1,
    pairs[2].key || '=' || pairs[2].value AS segment_2,
    pairs[3].key || '=' || pairs[3].value AS segment_3,
    pairs[4].key || '=' || pairs[4].value AS segment_4,
    CASE WHEN j.event = 'outcome' THEN j.id END AS id,
    CASE WHEN j.event = 'outcome' THEN coalesce(j.item, CAST(j.position AS VARCHAR)) END AS item,
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
    coalesce(is_whole AND (j.event <> 'decision' OR runs IS NULL OR len(runs) = 0 OR (len(runs) = 1 AND is_first_run)), false)
        AS is_plain,
    -- What a judge makes of the line is in these columns, also of a call that fell back to the control.
    j.decided AS decided,
    coalesce(j.excluded, false) OR coalesce(j.no_evidence, false) OR coalesce(j.withheld, '') IN ('aborted', 'disabled') AS is_left_out,
    CASE WHEN NOT coalesce(j.closed_early, false)
        THEN try_cast(runs[1][2] AS DOUBLE) + coalesce(try_cast(runs[2][2] AS DOUBLE), 0) END AS waited_s,
    coalesce(is_whole AND j.rate IS NULL AND j.t BETWEEN 1 AND 1e11 AND j.bucket BETWEEN 0 AND 511 AND CASE j.event
        WHEN 'decision' THEN
            is_first_run AND (len(runs) = 1 OR (len(runs) = 2 AND is_second_run)) AND j.unmeasured IS NULL AND coalesce(abs(waited_s) <= 1e15, true)
            AND NOT contains(line, '"cov":') AND regexp_full_match(j.unit, '[0-9a-f]{1,16}')
        WHEN 'outcome' THEN
            j.phase IS NOT NULL AND j.variant IS NOT NULL AND j.fingerprint IS NOT NULL AND abs(j.value) <= 1e15
            AND j.decided IS NOT NULL AND NOT contains(line, '"details":') AND NOT contains(line, '"call_rate":')
            AND NOT contains(line, '"source":')
        ELSE false END, false) AS is_summable,
    line
FROM checked
