-- The packet filter's state. Times are milliseconds since the Unix epoch, UTC; prefixes are their printed form.

-- Manual rules. The same prefix may have an allow and a block; allow wins while it lives.
CREATE TABLE rules (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    prefix      TEXT    NOT NULL,
    action      TEXT    NOT NULL CHECK (action IN ('allow', 'block')),
    zone        TEXT    NOT NULL CHECK (zone IN ('any')),
    origin      TEXT    NOT NULL CHECK (origin IN ('manual', 'import', 'guard')),
    description TEXT    NOT NULL CHECK (length(description) <= 255),
    created_at  INTEGER NOT NULL,
    created_by  TEXT    NOT NULL,
    expires_at  INTEGER,
    UNIQUE (prefix, action)
) STRICT;

CREATE INDEX rules_by_expiry ON rules (expires_at) WHERE expires_at IS NOT NULL;

-- Settings that differ from their defaults, as text in the setting's own unit.
CREATE TABLE settings (
    key      TEXT    NOT NULL PRIMARY KEY,
    value    TEXT    NOT NULL,
    revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Who changed what.
CREATE TABLE audit (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    at     INTEGER NOT NULL,
    actor  TEXT    NOT NULL,
    origin TEXT    NOT NULL,
    what   TEXT    NOT NULL,
    object TEXT    NOT NULL,
    before TEXT,
    after  TEXT
) STRICT;

-- What happened, newest last; the oldest are dropped.
CREATE TABLE events (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    at        INTEGER NOT NULL,
    kind      TEXT    NOT NULL,
    prefix    TEXT,
    interface TEXT,
    message   TEXT    NOT NULL
) STRICT;

CREATE INDEX events_by_prefix ON events (prefix) WHERE prefix IS NOT NULL;

-- Blocks that the kernel made, as last seen: they survive a reboot.
CREATE TABLE automatic (
    prefix     TEXT    NOT NULL PRIMARY KEY,
    reason     TEXT    NOT NULL,
    since      INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    enforced   INTEGER NOT NULL CHECK (enforced IN (0, 1))
) STRICT, WITHOUT ROWID;

-- Single values: the settings' revision, whether the filter ever enforced, a projection that is under way.
CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
