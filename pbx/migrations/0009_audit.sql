-- The audit is a chain: each row's hash is made of its content and of the hash before it. Rows of before have none
-- until the daemon opens the store, which makes them up in their order.

ALTER TABLE audit ADD COLUMN hash BLOB;

CREATE INDEX audit_by_time ON audit (at);
CREATE INDEX audit_by_object ON audit (object, id);

-- Where the chain begins after old rows were removed: the last of them, how many there have been, and its hash.
CREATE TABLE audit_checkpoints (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    through INTEGER NOT NULL,
    rows    INTEGER NOT NULL,
    hash    BLOB    NOT NULL
) STRICT;

-- Appended to, and nothing else: a row that has its hash never changes, and goes only when a checkpoint stands for it.
CREATE TRIGGER audit_never_changes BEFORE UPDATE ON audit WHEN OLD.hash IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, 'the audit is appended to and never changed');
END;
CREATE TRIGGER audit_goes_behind_checkpoints BEFORE DELETE ON audit
    WHEN OLD.id > (SELECT ifnull(max(through), 0) FROM audit_checkpoints)
BEGIN
    SELECT RAISE(ABORT, 'the audit is appended to, and pruned behind checkpoints only');
END;
CREATE TRIGGER audit_checkpoints_never_change BEFORE UPDATE ON audit_checkpoints
BEGIN
    SELECT RAISE(ABORT, 'checkpoints of the audit never change');
END;
CREATE TRIGGER audit_checkpoints_never_go BEFORE DELETE ON audit_checkpoints
BEGIN
    SELECT RAISE(ABORT, 'checkpoints of the audit never go');
END;
