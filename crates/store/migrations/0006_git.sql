-- Rules for branches.

-- What may be done to branches of a name, or of a pattern with `*`. Without a rule: branches but main may be
-- force-pushed and deleted by those who may write.
CREATE TABLE branch_rule (
    repo_id {int} NOT NULL REFERENCES repo (id) ON DELETE CASCADE,
    pattern TEXT NOT NULL,
    allow_force {int} NOT NULL,
    allow_delete {int} NOT NULL,
    created_at {int} NOT NULL,
    PRIMARY KEY (repo_id, pattern)
);
