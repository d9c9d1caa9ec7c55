-- Version 2 of a run's journal. docs/events.md explains every table. The episodes table is made from the run's own columns.
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE attempts (
    attempt INTEGER PRIMARY KEY,
    started REAL NOT NULL,
    ended REAL,
    status TEXT,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    start_step INTEGER NOT NULL,
    config TEXT NOT NULL
);

CREATE TABLE stream (
    id INTEGER PRIMARY KEY,
    step INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    time REAL NOT NULL,
    metrics TEXT NOT NULL,
    superseded_by INTEGER
);
CREATE UNIQUE INDEX stream_history ON stream (step) WHERE superseded_by IS NULL;

CREATE TABLE moves (
    id INTEGER PRIMARY KEY,
    step INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    episode INTEGER NOT NULL,
    move INTEGER NOT NULL,
    action TEXT NOT NULL,
    reward REAL NOT NULL,
    residual REAL NOT NULL,
    superseded_by INTEGER
);
CREATE UNIQUE INDEX moves_history ON moves (step) WHERE superseded_by IS NULL;

CREATE TABLE table_marks (
    id INTEGER PRIMARY KEY,
    step INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    superseded_by INTEGER
);
CREATE UNIQUE INDEX table_marks_history ON table_marks (step) WHERE superseded_by IS NULL;

CREATE TABLE files (
    id INTEGER PRIMARY KEY,
    step INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    time REAL NOT NULL,
    kind TEXT NOT NULL,
    path TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    seconds REAL NOT NULL,
    aliases TEXT NOT NULL,
    superseded_by INTEGER
);

CREATE TABLE notes (
    id INTEGER PRIMARY KEY,
    step INTEGER,
    attempt INTEGER NOT NULL,
    time REAL NOT NULL,
    level TEXT NOT NULL,
    text TEXT NOT NULL
);

CREATE TABLE system (
    id INTEGER PRIMARY KEY,
    step INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    time REAL NOT NULL,
    metrics TEXT NOT NULL
);

-- Summaries of consecutive rows of the stream's history, for readers of long runs; every row is in `stream` all the same.
CREATE TABLE stream_blocks (
    first_id INTEGER PRIMARY KEY,
    last_id INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    metrics TEXT NOT NULL
);
