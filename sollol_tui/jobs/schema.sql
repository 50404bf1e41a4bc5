-- Version 1 of the coordinator's state. Times are seconds since the epoch on the coordinator's clock.
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    nonce TEXT NOT NULL,                     -- tells it from a job of the same id elsewhere
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    stage TEXT NOT NULL DEFAULT '',          -- what the state is busy with, for people
    traceback TEXT NOT NULL DEFAULT '',
    spec TEXT NOT NULL,                      -- JSON of JobSpec
    plan TEXT NOT NULL,                      -- JSON of Plan
    inventory TEXT NOT NULL,                 -- JSON of the Inventory at submit: its hosts, packages, network
    model TEXT NOT NULL,
    dataset TEXT NOT NULL,
    output_dir TEXT NOT NULL,
    generation INTEGER NOT NULL DEFAULT 0,   -- of the newest launch
    main_port INTEGER,                       -- of that launch
    created_at REAL NOT NULL,
    started_at REAL,                         -- first step
    ended_at REAL,
    updated_at REAL NOT NULL,
    step INTEGER NOT NULL DEFAULT 0,
    max_steps INTEGER NOT NULL DEFAULT 0,
    samples_done INTEGER NOT NULL DEFAULT 0,
    samples_total INTEGER NOT NULL DEFAULT 0,
    loss REAL,
    first_loss REAL,
    samples_per_s REAL,
    eta_s REAL,
    world_size INTEGER
) STRICT;

CREATE TABLE transitions (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    at REAL NOT NULL,
    old TEXT,
    new TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;

CREATE TABLE workers (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    host TEXT NOT NULL,
    position INTEGER NOT NULL,               -- order in the plan
    state TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    slots TEXT NOT NULL,                     -- JSON list
    share REAL,
    unseen_since REAL,
    environment TEXT,                        -- JSON: interpreter and payload there, once provisioned
    run_dir TEXT,
    PRIMARY KEY (job, host)
) STRICT;

CREATE TABLE events (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    host TEXT NOT NULL,
    file TEXT NOT NULL,
    position INTEGER NOT NULL,               -- byte offset of the line in its file
    at REAL NOT NULL,                        -- the worker's clock
    seen_at REAL NOT NULL,
    slot INTEGER,
    attempt INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,                      -- JSON
    PRIMARY KEY (job, host, file, position)
) STRICT;

CREATE TABLE positions (                     -- how far each copied events file was read
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    host TEXT NOT NULL,
    file TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (job, host, file)
) STRICT;

CREATE TABLE requests (                      -- what people ask of a job
    id INTEGER PRIMARY KEY,
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    created_at REAL NOT NULL,
    handled_at REAL
) STRICT;

CREATE TABLE leases (                        -- what a live job holds: one row per device or port
    resource TEXT PRIMARY KEY,
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE
) STRICT;

CREATE TABLE readings (                      -- the last that was heard of a host
    inventory TEXT NOT NULL,
    host TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    since REAL NOT NULL,
    at REAL NOT NULL,
    data TEXT NOT NULL,                      -- JSON of the figures
    PRIMARY KEY (inventory, host)
) STRICT;
