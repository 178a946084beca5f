"""The statements. Each is its own transaction, so that a pooler may change the session between two of them, and a frozen client
holds no lock.
"""

from __future__ import annotations

__all__ = ["CLAIM", "CREATE", "FORGET_CLAIMS", "GATHER", "HISTORY", "KEYS", "LOAD", "NOTE", "NOTED", "PUBLISH", "REPLACE"]

LOAD = "SELECT revision, document FROM {schema}.documents WHERE key = %(key)s"

CREATE = """
WITH done AS (
    INSERT INTO {schema}.documents (key, revision, epoch, document)
    VALUES (%(key)s, %(revision)s, %(epoch)s, %(document)s) ON CONFLICT DO NOTHING RETURNING key
), fenced AS (
    INSERT INTO {schema}.fences (key, epoch, cursor) SELECT key, %(epoch)s, 0 FROM done
    ON CONFLICT (key) DO UPDATE SET epoch = excluded.epoch
), recorded AS (
    INSERT INTO {schema}.history (key, record) SELECT key, %(record)s FROM done
)
SELECT count(pg_notify(%(channel)s, '')) FROM done
"""

# Parts that a concurrent publication adds in the old epoch may stay: no other epoch gathers them, and the next change of
# epoch deletes them.
REPLACE = """
WITH done AS (
    UPDATE {schema}.documents SET revision = %(revision)s, epoch = %(epoch)s, document = %(document)s
    WHERE key = %(key)s AND revision = %(expected)s AND epoch <= %(epoch)s RETURNING key
), fenced AS (
    UPDATE {schema}.fences SET epoch = %(epoch)s FROM done
    WHERE fences.key = done.key AND fences.epoch <> %(epoch)s RETURNING fences.key
), recorded AS (
    INSERT INTO {schema}.history (key, record) SELECT key, %(record)s FROM done
), without_parts AS (
    DELETE FROM {schema}.parts USING fenced WHERE parts.key = fenced.key AND parts.epoch <> %(epoch)s
), without_claims AS (
    DELETE FROM {schema}.claims USING fenced WHERE claims.key = fenced.key AND claims.epoch <> %(epoch)s
)
SELECT count(pg_notify(%(channel)s, '')) FROM done
"""

# Only one publication of a rollout at a time holds its fence, so that cursors become visible in order. The cursor follows the
# clock, so that cursors from before a loss or a restore are behind later ones. A publication that was sent earlier and arrives
# later, over another connection after the server was frozen, changes nothing.
PUBLISH = """
WITH moved AS (
    UPDATE {schema}.fences
    SET cursor = greatest(cursor + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
    WHERE key = %(key)s AND epoch = %(epoch)s RETURNING cursor
), written AS (
    INSERT INTO {schema}.parts AS old (key, writer, part, epoch, cursor, sent, text)
    SELECT %(key)s, %(writer)s, new.part, %(epoch)s, moved.cursor, %(sent)s, new.text
    FROM moved, unnest(%(names)s::bytea[], %(texts)s::bytea[]) AS new (part, text)
    ON CONFLICT (key, writer, part) DO UPDATE SET
        epoch = excluded.epoch, sent = excluded.sent, text = excluded.text,
        cursor = CASE WHEN old.epoch = excluded.epoch AND old.text = excluded.text THEN old.cursor ELSE excluded.cursor END
    WHERE old.epoch < excluded.epoch OR (old.epoch = excluded.epoch AND old.sent <= excluded.sent)
)
SELECT count(*) FROM moved
"""

# A cursor that is ahead belongs to another database: returning a part twice is better than never.
GATHER = """
SELECT fences.cursor, parts.writer, parts.part, parts.text
FROM {schema}.fences LEFT JOIN {schema}.parts ON parts.key = fences.key AND parts.epoch = fences.epoch
    AND fences.epoch = %(epoch)s
    AND parts.cursor > CASE WHEN %(after)s <= fences.cursor THEN %(after)s ELSE 0 END
WHERE fences.key = %(key)s
"""

# Names are sorted, so that two processes never wait for each other. Updating an existing row returns its claimant, even if
# another process claims it at the same moment.
CLAIM = """
WITH claimed AS (
    INSERT INTO {schema}.claims AS old (key, epoch, name, claimant)
    SELECT %(key)s, %(epoch)s, wanted.name, %(claimant)s FROM unnest(%(names)s::bytea[]) AS wanted (name)
    WHERE EXISTS (SELECT FROM {schema}.fences WHERE key = %(key)s AND epoch = %(epoch)s)
    ON CONFLICT (key, epoch, name) DO UPDATE SET claimant = old.claimant RETURNING name, claimant
)
SELECT name FROM claimed WHERE claimant = %(claimant)s
"""

FORGET_CLAIMS = "DELETE FROM {schema}.claims WHERE number <= (SELECT max(number) FROM {schema}.claims) - %(most)s"

NOTE = """
INSERT INTO {schema}.notes (key, name, text) VALUES (%(key)s, %(name)s, %(text)s)
ON CONFLICT (key, name) DO UPDATE SET text = excluded.text
"""

NOTED = "SELECT text FROM {schema}.notes WHERE key = %(key)s AND name = %(name)s"

HISTORY = "SELECT record FROM {schema}.history WHERE key = %(key)s ORDER BY number"

KEYS = "SELECT key FROM {schema}.documents"
