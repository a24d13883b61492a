-- Locks of git-lfs, quotas, what is stored.

-- Files that somebody works on alone, in every branch.
CREATE TABLE lfs_lock (
    id {id},
    repo_id {int} NOT NULL REFERENCES repo (id) ON DELETE CASCADE,
    path TEXT NOT NULL,
    owner_id {int} NOT NULL REFERENCES namespace (id) ON DELETE CASCADE,
    -- The branch that the client was on.
    ref TEXT,
    created_at {int} NOT NULL
);
CREATE UNIQUE INDEX lfs_lock_by_path ON lfs_lock (repo_id, path);
CREATE INDEX lfs_lock_by_repo ON lfs_lock (repo_id, id);
CREATE INDEX lfs_lock_by_owner ON lfs_lock (owner_id);

-- Content that somebody has deleted for good: it is missing on purpose. The row goes when the content
-- comes again.
CREATE TABLE deleted_content (
    repo_id {int} NOT NULL REFERENCES repo (id) ON DELETE CASCADE,
    sha256 {blob} NOT NULL,
    size {int} NOT NULL,
    deleted_at {int} NOT NULL,
    PRIMARY KEY (repo_id, sha256)
);

CREATE INDEX xet_file_by_repo ON xet_file (repo_id, id);
CREATE INDEX xet_file_by_content ON xet_file (sha256);
-- Which paths a pointer has stood at.
CREATE INDEX git_change_by_object ON git_change (repo_id, object_id);

-- `used_bytes` of a repository are its git packs and the xorbs that it has a right to, as they are
-- stored; those of a namespace are the sum over its repositories. Both change in the transaction that
-- changes what they count. A quota is null where nobody has set one (the settings decide then), and
-- -1 where there is to be none.
ALTER TABLE repo ADD COLUMN quota_bytes {int};
ALTER TABLE namespace ADD COLUMN used_bytes {int} NOT NULL DEFAULT 0;
ALTER TABLE namespace ADD COLUMN quota_bytes {int};

UPDATE repo SET used_bytes =
    COALESCE((SELECT SUM(p.bytes) FROM git_pack p WHERE p.repo_id = repo.id), 0)
    + COALESCE((SELECT SUM(x.stored_bytes) FROM repo_xorb r JOIN xorb x ON x.id = r.xorb_id
        WHERE r.repo_id = repo.id), 0);
UPDATE namespace SET used_bytes =
    COALESCE((SELECT SUM(r.used_bytes) FROM repo r WHERE r.namespace_id = namespace.id), 0);
