-- Calls: what was called by whom and how it ended, and where calls to an extension go that it does not take. Times are
-- milliseconds since the Unix epoch, UTC; what is blank, or not known yet, is NULL.

-- A row an attempt: written when the call is routed, and again when it is answered and when it ends. The id is 64 bits
-- without a sign. Numbers and names are as they were then, of extensions and tenants that may be gone.
CREATE TABLE cdrs (
    id            INTEGER PRIMARY KEY,
    tenant        INTEGER NOT NULL,
    caller        INTEGER NOT NULL,
    caller_number TEXT    NOT NULL COLLATE NOCASE,
    caller_name   TEXT    COLLATE NOCASE,
    dialled       TEXT    NOT NULL COLLATE NOCASE,
    callee_number TEXT    COLLATE NOCASE,
    started       INTEGER NOT NULL,
    ringing       INTEGER,
    answered      INTEGER,
    ended         INTEGER,
    billed        INTEGER NOT NULL CHECK (billed >= 0),
    disposition   TEXT    NOT NULL,
    status        INTEGER,
    cause         INTEGER,
    ended_by      TEXT,
    why           TEXT    COLLATE NOCASE,
    codec         TEXT    COLLATE NOCASE
) STRICT;

CREATE INDEX cdrs_by_start ON cdrs (started, id);
CREATE INDEX cdrs_by_caller ON cdrs (caller_number, started);
CREATE INDEX cdrs_by_dialled ON cdrs (dialled, started);
CREATE INDEX cdrs_by_callee ON cdrs (callee_number, started);
-- What a start has to close.
CREATE INDEX cdrs_open ON cdrs (disposition) WHERE disposition = 'open';

-- A phone's part in a call, in the order in which they were made: the caller's is at 0. What went through it is known
-- shortly after its end, all of it or nothing; jitter is in microseconds.
CREATE TABLE cdr_legs (
    cdr        INTEGER NOT NULL REFERENCES cdrs (id) ON DELETE CASCADE,
    position   INTEGER NOT NULL,
    kind       TEXT    NOT NULL,
    number     TEXT    NOT NULL,
    remote     TEXT    NOT NULL,
    started    INTEGER NOT NULL,
    ringing    INTEGER,
    answered   INTEGER,
    ended      INTEGER,
    status     INTEGER,
    codec      TEXT,
    packets    INTEGER,
    bytes      INTEGER,
    lost       INTEGER,
    jitter     INTEGER,
    refused    INTEGER,
    sent       INTEGER,
    sent_bytes INTEGER,
    PRIMARY KEY (cdr, position)
) STRICT, WITHOUT ROWID;

-- Where calls go that the extension does not take; a key that is missing has its default.
ALTER TABLE extensions ADD COLUMN forwarding TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(forwarding));
