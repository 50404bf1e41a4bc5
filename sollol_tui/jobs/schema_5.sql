-- Version 5: how long the sums of earlier jobs took, for later plans.
CREATE TABLE sums (
    inventory TEXT NOT NULL,
    crew TEXT NOT NULL,                      -- JSON list of its hosts, in the order of their names
    hosts TEXT NOT NULL,                     -- the same in the order of their ring
    ranks INTEGER NOT NULL,
    sum_bytes INTEGER NOT NULL,              -- that each rank gave to a sum
    adding_s REAL NOT NULL,
    rest_s REAL NOT NULL,                    -- of a step, beside computing and adding
    job TEXT NOT NULL,                       -- which measured it
    at REAL NOT NULL,
    PRIMARY KEY (inventory, crew, ranks)
) STRICT;
