-- What the guard keeps. Times are milliseconds since the Unix epoch, UTC; prefixes are their printed form.

-- Why sources were blocked, or would have been: kept for a while after the block is over.
CREATE TABLE evidence (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    prefix     TEXT    NOT NULL,
    detector   TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    until      INTEGER NOT NULL,
    enforced   INTEGER NOT NULL CHECK (enforced IN (0, 1)),
    sure       INTEGER NOT NULL CHECK (sure IN (0, 1)),
    before     INTEGER NOT NULL,
    rule       TEXT    NOT NULL,
    limit_was  INTEGER NOT NULL,
    period_ms  INTEGER NOT NULL,
    count      INTEGER NOT NULL,
    counters   TEXT    NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen  INTEGER NOT NULL,
    messages   TEXT    NOT NULL
) STRICT;

CREATE INDEX evidence_by_prefix ON evidence (prefix, id);
CREATE INDEX evidence_by_end ON evidence (until);

-- Who was blocked before, so that the next block is longer.
CREATE TABLE offences (
    prefix TEXT    NOT NULL PRIMARY KEY,
    sure   INTEGER NOT NULL,
    unsure INTEGER NOT NULL,
    last   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
