-- A source may be blocked as a whole and, beside that, from the web alone: two rows, of which each ends by itself.
CREATE TABLE automatic_wider (
    prefix     TEXT    NOT NULL,
    web_only   INTEGER NOT NULL CHECK (web_only IN (0, 1)),
    reason     TEXT    NOT NULL,
    since      INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    enforced   INTEGER NOT NULL CHECK (enforced IN (0, 1)),
    PRIMARY KEY (prefix, web_only)
) STRICT, WITHOUT ROWID;

-- Of the web's detector, blocks always were of the web alone.
INSERT INTO automatic_wider (prefix, web_only, reason, since, expires_at, enforced)
SELECT prefix, reason = 'web', reason, since, expires_at, enforced FROM automatic;

DROP TABLE automatic;
ALTER TABLE automatic_wider RENAME TO automatic;
