-- The certificate of the web server: one row, made by the daemon itself until somebody gives another one.
CREATE TABLE web_certificate (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    chain      TEXT    NOT NULL,
    sealed_key BLOB    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
