-- Version 3: what earlier jobs and the doctor measured, for later plans.
CREATE TABLE speeds (                        -- how fast a device computed, the newest of each model
    inventory TEXT NOT NULL,
    host TEXT NOT NULL,
    gpu INTEGER NOT NULL,                    -- its index; -1 for the CPU
    cpu_cores INTEGER NOT NULL,              -- that its ranks may use; 0 for all
    model TEXT NOT NULL,
    parameters INTEGER NOT NULL,             -- of the base model
    tokens_per_s REAL NOT NULL,              -- of one rank
    job TEXT NOT NULL,                       -- which measured it
    at REAL NOT NULL,
    PRIMARY KEY (inventory, host, gpu, cpu_cores, model)
) STRICT;

CREATE TABLE links (                         -- what the doctor measured of a pair of hosts
    inventory TEXT NOT NULL,
    origin TEXT NOT NULL,
    target TEXT NOT NULL,
    bytes_per_s REAL NOT NULL,               -- payload
    latency_s REAL NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (inventory, origin, target)
) STRICT;
