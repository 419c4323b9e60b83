-- +goose Up

-- By how many microseconds the times of a loaded history go back in its order, at most. EventStoreDB promises only within a
-- stream that they do not; what is appended here never does. No row: nothing goes back.
CREATE TABLE loaded_times (
    back INTEGER NOT NULL
);
