-- Pull requests that are merged by a push -----------------------------------------------------------

-- Where the branch of a pull request stood when its commits were last moved: a push of them merges it when they
-- were not in the branch by then. Those from before begin with where their branches stand now.
ALTER TABLE discussion ADD COLUMN base_seen {blob};
UPDATE discussion SET base_seen = (SELECT r.commit_id FROM git_ref r
    WHERE r.repo_id = discussion.repo_id AND r.name = discussion.base_ref)
    WHERE is_pull_request = 1 AND status <> 'merged';
-- The pull requests among the refs to a commit.
CREATE INDEX git_ref_by_commit ON git_ref (repo_id, commit_id);
