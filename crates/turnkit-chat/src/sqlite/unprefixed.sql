-- A database as the binary before turnkit-chat left it, at version 3 of its schema.
CREATE TABLE sessions (
    id          TEXT NOT NULL PRIMARY KEY,
    tenant_id   TEXT NOT NULL,
    user_id     TEXT NOT NULL,
    created_at  INTEGER NOT NULL  -- Unix milliseconds, as every time here
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_of_user ON sessions (tenant_id, user_id, created_at, id);

CREATE TABLE turns (
    session_id       TEXT NOT NULL REFERENCES sessions (id),
    turn_index       INTEGER NOT NULL,
    turn_id          TEXT NOT NULL,
    execution_id     TEXT NOT NULL UNIQUE,
    agent            TEXT NOT NULL,
    state            TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'complete', 'stopped', 'failed')),
    dispatched       INTEGER NOT NULL DEFAULT 0 CHECK (dispatched IN (0, 1)),
    lease            TEXT,        -- the worker that drives the turn
    failure_code     TEXT,
    failure_message  TEXT,
    created_at       INTEGER NOT NULL,
    ended_at         INTEGER,
    PRIMARY KEY (session_id, turn_index),
    UNIQUE (session_id, turn_id)
) STRICT;
CREATE UNIQUE INDEX open_turn_of_session ON turns (session_id) WHERE state = 'open';

CREATE TABLE messages (
    execution_id  TEXT NOT NULL REFERENCES turns (execution_id),
    role          TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
    session_id    TEXT NOT NULL,
    turn_index    INTEGER NOT NULL,
    text          TEXT NOT NULL,
    status        TEXT NOT NULL CHECK (status IN ('complete', 'stopped', 'failed')),
    created_at    INTEGER NOT NULL,
    PRIMARY KEY (execution_id, role)
) STRICT;
CREATE UNIQUE INDEX messages_of_session ON messages (session_id, turn_index, role);
-- Whether a user has asked to stop the turn; set before the substrate is told.
ALTER TABLE turns ADD COLUMN stop_asked INTEGER NOT NULL DEFAULT 0 CHECK (stop_asked IN (0, 1));
CREATE TABLE sign_ins (
    secret      BLOB NOT NULL UNIQUE,  -- SHA-256 of what the cookie holds
    token       BLOB NOT NULL,         -- SHA-256 of the user's token
    created_at  INTEGER NOT NULL,
    ends_at     INTEGER NOT NULL
) STRICT;
CREATE INDEX sign_ins_of_token ON sign_ins (token, created_at);
CREATE INDEX sign_ins_by_end ON sign_ins (ends_at);
PRAGMA user_version = 3;

INSERT INTO sessions VALUES ('s', 'tenant', 'user', 1000), ('empty', 'tenant', 'user', 2000);
INSERT INTO turns (session_id, turn_index, turn_id, execution_id, agent, state, dispatched, lease, failure_code,
        failure_message, created_at, ended_at, stop_asked) VALUES
    ('s', 0, 'first', 'tenant:s:0', 'default', 'complete', 1, 'w', NULL, NULL, 1001, 1002, 0),
    ('s', 1, 'second', 'tenant:s:1', 'default', 'failed', 1, 'w', 'agent_failed', 'it failed', 1003, 1004, 0),
    ('s', 2, 'third', 'tenant:s:2', 'default', 'open', 1, 'w', NULL, NULL, 1005, NULL, 1);
INSERT INTO messages VALUES
    ('tenant:s:0', 'user', 's', 0, 'first question', 'complete', 1001),
    ('tenant:s:0', 'assistant', 's', 0, 'first answer', 'complete', 1002),
    ('tenant:s:1', 'user', 's', 1, 'second question', 'complete', 1003),
    ('tenant:s:1', 'assistant', 's', 1, 'half an answ', 'failed', 1004),
    ('tenant:s:2', 'user', 's', 2, 'third question', 'complete', 1005);
INSERT INTO sign_ins VALUES
    (x'0101010101010101010101010101010101010101010101010101010101010101',
     x'0202020202020202020202020202020202020202020202020202020202020202', 1000, 9223372036854775807);
