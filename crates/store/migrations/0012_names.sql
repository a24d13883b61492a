-- Who brought a commit --------------------------------------------------------------------------------

-- Whose credential a push came by; null for what this hub has written itself, and from before this was kept.
ALTER TABLE git_commit ADD COLUMN pusher_id {int};

-- Where the branch of a pull request stood when its commits were last moved: they are merged by a push when
-- the branch has got them since. Those that are open begin with where their branches stand now.
ALTER TABLE discussion ADD COLUMN base_seen {blob};
UPDATE discussion SET base_seen = (SELECT r.commit_id FROM git_ref r
    WHERE r.repo_id = discussion.repo_id AND r.name = discussion.base_ref)
    WHERE is_pull_request = 1 AND is_open = 1;
-- The pull requests among the refs to a commit.
CREATE INDEX git_ref_by_commit ON git_ref (repo_id, commit_id);
