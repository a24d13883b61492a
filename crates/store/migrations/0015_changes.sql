-- Which changed paths are found by what stands there ----------------------------------------------

-- Only pointers are looked for by their id. `may_point` is 0 where the object is known to be none: a push
-- writes many rows, and few of them are pointers.
ALTER TABLE git_change ADD COLUMN may_point {int} NOT NULL DEFAULT 1;
DROP INDEX git_change_by_object;
CREATE INDEX git_change_by_pointer ON git_change (repo_id, object_id) WHERE may_point = 1;
