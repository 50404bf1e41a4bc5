-- Version 6: the hosts on which a job's teacher computes.
CREATE TABLE teachers (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    host TEXT NOT NULL,
    position INTEGER NOT NULL,               -- order in the plan: which part of the work is its own
    state TEXT NOT NULL DEFAULT 'planned',   -- planned, provisioning, loading, scoring, answering, done, gone or lost
    reason TEXT NOT NULL DEFAULT '',
    environment TEXT,                        -- JSON: where things lie there, once provisioned
    launch INTEGER NOT NULL DEFAULT 1,       -- of its run, counted apart from the students' generations
    done INTEGER NOT NULL DEFAULT 0,         -- tokens of its part that are scored, or questions answered
    total INTEGER NOT NULL DEFAULT 0,
    hits INTEGER NOT NULL DEFAULT 0,         -- of these, found in a cache
    tokens_per_s REAL,
    eta_s REAL,
    PRIMARY KEY (job, host)
) STRICT;
