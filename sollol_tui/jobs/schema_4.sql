-- Version 4: hosts that join and leave a running job, and lost ones that come back to it.
ALTER TABLE requests ADD COLUMN host TEXT NOT NULL DEFAULT '';   -- whom a join or a leave is about
ALTER TABLE workers ADD COLUMN tries INTEGER NOT NULL DEFAULT 0; -- to come back, since it was last well
ALTER TABLE workers ADD COLUMN tried_at REAL;                    -- when it was last launched, or tried to be
