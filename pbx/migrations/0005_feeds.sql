-- Block lists that others keep, and what each of them holds; and who is told what happens. Times are milliseconds since
-- the Unix epoch, UTC; columns named sealed_… are encrypted with a key that is not in this file.

-- A rule may come from a feed. SQLite cannot widen a CHECK, so the table is made anew; ids stay and are not used twice.
CREATE TABLE rules_wider (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    prefix      TEXT    NOT NULL,
    action      TEXT    NOT NULL CHECK (action IN ('allow', 'block')),
    zone        TEXT    NOT NULL CHECK (zone IN ('any')),
    origin      TEXT    NOT NULL CHECK (origin IN ('manual', 'import', 'guard', 'feed')),
    description TEXT    NOT NULL CHECK (length(description) <= 255),
    created_at  INTEGER NOT NULL,
    created_by  TEXT    NOT NULL,
    expires_at  INTEGER,
    UNIQUE (prefix, action)
) STRICT;

INSERT INTO rules_wider (id, prefix, action, zone, origin, description, created_at, created_by, expires_at)
SELECT id, prefix, action, zone, origin, description, created_at, created_by, expires_at FROM rules;

DELETE FROM sqlite_sequence WHERE name = 'rules_wider';
INSERT INTO sqlite_sequence (name, seq) SELECT 'rules_wider', seq FROM sqlite_sequence WHERE name = 'rules';

DROP TABLE rules;
ALTER TABLE rules_wider RENAME TO rules;
CREATE INDEX rules_by_expiry ON rules (expires_at) WHERE expires_at IS NOT NULL;

-- Lists, where they are, and how the last attempts to read them went (JSON).
CREATE TABLE feeds (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT    NOT NULL UNIQUE,
    source      TEXT    NOT NULL,
    interval_ms INTEGER NOT NULL,
    most        INTEGER NOT NULL,
    enabled     INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    created_at  INTEGER NOT NULL,
    created_by  TEXT    NOT NULL,
    next_at     INTEGER NOT NULL,
    state       TEXT    NOT NULL CHECK (json_valid(state))
) STRICT;

-- What a feed wants to have blocked. Released: somebody removed the block by hand, and it stays away as long as the feed
-- goes on listing it.
CREATE TABLE feed_entries (
    prefix   TEXT    NOT NULL,
    feed     INTEGER NOT NULL REFERENCES feeds (id) ON DELETE CASCADE,
    released INTEGER NOT NULL CHECK (released IN (0, 1)),
    PRIMARY KEY (prefix, feed)
) STRICT, WITHOUT ROWID;

CREATE INDEX feed_entries_by_feed ON feed_entries (feed);

-- Who is told: the mail server and the webhook. The configuration is JSON without secrets. Tested: when this very
-- configuration delivered a message; nothing is switched on before.
CREATE TABLE notify_targets (
    target        TEXT    NOT NULL PRIMARY KEY CHECK (target IN ('mail', 'webhook')),
    config        TEXT    NOT NULL CHECK (json_valid(config)),
    sealed_secret BLOB,
    tested_at     INTEGER,
    enabled       INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    CHECK (enabled = 0 OR tested_at IS NOT NULL)
) STRICT, WITHOUT ROWID;

-- What was told, newest last; the oldest are dropped.
CREATE TABLE notify_history (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    at       INTEGER NOT NULL,
    target   TEXT    NOT NULL,
    summary  TEXT    NOT NULL,
    outcome  TEXT    NOT NULL,
    attempts INTEGER NOT NULL,
    problem  TEXT
) STRICT;
