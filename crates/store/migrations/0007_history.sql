-- History.

-- Which commits come before others is found from the latest generation down.
CREATE INDEX git_commit_by_generation ON git_commit (repo_id, generation);
