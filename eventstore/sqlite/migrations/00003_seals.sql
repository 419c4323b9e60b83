-- +goose Up

-- Commands without events stand at no position of their own: a number tells in which order they were accepted, so that a seal
-- can say which of them it covers.
CREATE TABLE silent_commands (
    n          INTEGER PRIMARY KEY,
    command_id BLOB    NOT NULL
);

INSERT INTO silent_commands (n, command_id)
SELECT row_number() OVER (ORDER BY c.recorded_at, c.command_id), c.command_id FROM commands c
WHERE NOT EXISTS (
    SELECT 1 FROM events e WHERE e.position = c.position AND instr(e.metadata, CAST(lower(
        substr(hex(c.command_id), 1, 8) || '-' || substr(hex(c.command_id), 9, 4) || '-' || substr(hex(c.command_id), 13, 4) || '-' ||
        substr(hex(c.command_id), 17, 4) || '-' || substr(hex(c.command_id), 21)) AS BLOB)) > 0
);

-- Append-only: see audit/seal for what a note says. through and silent_through are positions and numbers of this store.
CREATE TABLE seals (
    block          INTEGER PRIMARY KEY,
    through        INTEGER NOT NULL,
    silent_through INTEGER NOT NULL,
    note           BLOB    NOT NULL,
    outline        BLOB    NOT NULL
);
