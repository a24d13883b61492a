-- Who brought a commit --------------------------------------------------------------------------------

-- Whose credential a push came by; null for what this hub has written itself, and from before this was kept.
ALTER TABLE git_commit ADD COLUMN pusher_id {int};
