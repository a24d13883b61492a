-- Packs are pruned of what nothing needs ----------------------------------------------------------

-- One more with every pruning: whoever has built upon what was in the packs before sees it.
ALTER TABLE repo ADD COLUMN prunings {int} NOT NULL DEFAULT 0;

-- What repositories have lost since their packs were last pruned. `commits` is 0 where something is to be
-- freed that collection has not dropped yet; `urgent` is 1 where somebody has asked for that.
CREATE TABLE git_loss (
    repo_id {int} NOT NULL REFERENCES repo (id) ON DELETE CASCADE,
    commits {int} NOT NULL,
    since {int} NOT NULL,
    urgent {int} NOT NULL,
    PRIMARY KEY (repo_id)
);

-- Nobody has noted what was lost until now: each repository is looked at once.
INSERT INTO git_loss (repo_id, commits, since, urgent)
    SELECT r.id, 1, 0, 0 FROM repo r WHERE EXISTS (SELECT 1 FROM git_pack p WHERE p.repo_id = r.id);

-- Where the ref of a pull request was when it was deleted: its bytes count until that is gone.
ALTER TABLE proposal_commit ADD COLUMN head {blob};
