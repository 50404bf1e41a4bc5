-- Version 2: jobs that wait for their workers, and jobs that pause and go on.
ALTER TABLE jobs ADD COLUMN turn INTEGER NOT NULL DEFAULT 0;   -- a queued job goes before higher ones
ALTER TABLE jobs ADD COLUMN same_hosts TEXT;                   -- JSON list: it goes on with all of these

CREATE TABLE claims (                        -- what a queued job could use: nobody behind it takes it
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    resource TEXT NOT NULL,
    PRIMARY KEY (job, resource)
) STRICT;

CREATE TABLE slots (                         -- given once: a slot stays with its device for the job's life
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    slot INTEGER NOT NULL,
    host TEXT NOT NULL,
    gpu INTEGER,
    PRIMARY KEY (job, slot)
) STRICT;

-- A job of version 1 took its leases when it was submitted: it does not wait.
UPDATE jobs SET state = 'planning' WHERE state = 'queued';
INSERT INTO slots
    SELECT jobs.id, json_extract(rank.value, '$.slot'), json_extract(worker.value, '$.host'),
        json_extract(rank.value, '$.gpu')
    FROM jobs, json_each(jobs.plan, '$.workers') AS worker,
        json_each(worker.value, '$.ranks') AS rank
    WHERE jobs.generation > 0;
