-- Who may register and where: tenants, extensions, transports; and what has registered. Times are milliseconds since
-- the Unix epoch, UTC. Columns named sealed_… are encrypted with a key that is not in this file.

-- Companies on this appliance. The realm is fixed when the tenant is made: passwords are hashed with it.
CREATE TABLE tenants (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    name            TEXT    NOT NULL UNIQUE COLLATE NOCASE,
    domains         TEXT    NOT NULL CHECK (json_valid(domains)),
    realm           TEXT    NOT NULL,
    password_policy TEXT    NOT NULL CHECK (json_valid(password_policy)),
    is_default      INTEGER NOT NULL CHECK (is_default IN (0, 1)),
    created_at      INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX tenants_one_default ON tenants (is_default) WHERE is_default = 1;

-- Users with a number.
CREATE TABLE extensions (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant          INTEGER NOT NULL REFERENCES tenants (id),
    number          TEXT    NOT NULL,
    name            TEXT    NOT NULL,
    caller_id       TEXT    NOT NULL,
    enabled         INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    sealed_password BLOB    NOT NULL,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    UNIQUE (tenant, number)
) STRICT;

-- Where phones reach the appliance. TCP and TLS share their ports; UDP has its own.
CREATE TABLE transports (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    protocol      TEXT    NOT NULL CHECK (protocol IN ('UDP', 'TCP', 'TLS')),
    port          INTEGER NOT NULL CHECK (port BETWEEN 1 AND 65535),
    external_port INTEGER CHECK (external_port BETWEEN 1 AND 65535),
    algorithms    TEXT    NOT NULL,
    verification  TEXT    NOT NULL,
    chain         TEXT,
    sealed_key    BLOB,
    created_at    INTEGER NOT NULL,
    CHECK ((chain IS NULL) = (sealed_key IS NULL))
) STRICT;

CREATE UNIQUE INDEX transports_by_port ON transports (port, protocol = 'UDP');

-- What is registered, for the time after a restart. Written in batches, after the phone has its answer: a row may
-- outlive its extension, and is not read then.
CREATE TABLE bindings (
    id         INTEGER PRIMARY KEY,
    extension  INTEGER NOT NULL,
    contact    TEXT    NOT NULL,
    q          INTEGER NOT NULL,
    instance   TEXT,
    reg_id     INTEGER,
    call_id    TEXT    NOT NULL,
    cseq       INTEGER NOT NULL,
    path       TEXT,
    user_agent TEXT    NOT NULL,
    transport  INTEGER NOT NULL,
    protocol   TEXT    NOT NULL,
    local      TEXT    NOT NULL,
    remote     TEXT    NOT NULL,
    behind_nat INTEGER NOT NULL CHECK (behind_nat IN (0, 1)),
    since      INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

CREATE INDEX bindings_by_extension ON bindings (extension);

-- Addresses from which an extension proved its password, and when last.
CREATE TABLE known (
    address      TEXT    NOT NULL,
    extension    INTEGER NOT NULL,
    last_success INTEGER NOT NULL,
    PRIMARY KEY (address, extension)
) STRICT, WITHOUT ROWID;

CREATE INDEX known_by_age ON known (last_success);

-- The networks that are local mean more than the guard now.
UPDATE settings SET key = 'network.local_networks' WHERE key = 'guard.local_networks';
