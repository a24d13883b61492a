-- Accounts -----------------------------------------------------------------------------------

CREATE TABLE setting (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- Users and organisations share one name space.
CREATE TABLE namespace (
    id {id},
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL UNIQUE,
    full_name TEXT NOT NULL,
    email TEXT,
    is_admin {int} NOT NULL DEFAULT 0,
    default_visibility TEXT,
    created_at {int} NOT NULL,
    disabled_at {int}
);

CREATE TABLE member (
    org_id {int} NOT NULL REFERENCES namespace (id) ON DELETE CASCADE,
    user_id {int} NOT NULL REFERENCES namespace (id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    created_at {int} NOT NULL,
    PRIMARY KEY (org_id, user_id)
);
CREATE INDEX member_by_user ON member (user_id);

CREATE TABLE token (
    id {id},
    user_id {int} NOT NULL REFERENCES namespace (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    hash {blob} NOT NULL UNIQUE,
    hint TEXT NOT NULL,
    created_at {int} NOT NULL,
    expires_at {int},
    revoked_at {int},
    last_used_at {int}
);
CREATE INDEX token_by_user ON token (user_id);

-- Repositories -------------------------------------------------------------------------------

CREATE TABLE repo (
    id {id},
    kind TEXT NOT NULL,
    namespace_id {int} NOT NULL REFERENCES namespace (id),
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    path_key TEXT NOT NULL,
    visibility TEXT NOT NULL,
    gated TEXT NOT NULL DEFAULT 'false',
    disabled {int} NOT NULL DEFAULT 0,
    discussions_disabled {int} NOT NULL DEFAULT 0,
    creator_id {int},
    created_at {int} NOT NULL,
    updated_at {int} NOT NULL,
    downloads {int} NOT NULL DEFAULT 0,
    downloads_all {int} NOT NULL DEFAULT 0,
    likes {int} NOT NULL DEFAULT 0,
    trending {real} NOT NULL DEFAULT 0,
    used_bytes {int} NOT NULL DEFAULT 0,
    epoch {int} NOT NULL DEFAULT 1,
    -- One more with every move of a ref: collection sees that its walk is out of date.
    ref_moves {int} NOT NULL DEFAULT 0,
    sdk TEXT,
    pipeline_tag TEXT,
    library TEXT,
    parameters {int},
    tags TEXT NOT NULL DEFAULT '[]',
    card TEXT,
    facts TEXT NOT NULL DEFAULT '{}'
);
CREATE UNIQUE INDEX repo_by_path ON repo (kind, path_key);
CREATE INDEX repo_by_namespace ON repo (namespace_id, kind);
CREATE INDEX repo_by_trending ON repo (kind, trending, id);
CREATE INDEX repo_by_downloads ON repo (kind, downloads, id);
CREATE INDEX repo_by_likes ON repo (kind, likes, id);
CREATE INDEX repo_by_created ON repo (kind, created_at, id);
CREATE INDEX repo_by_updated ON repo (kind, updated_at, id);

-- Names that a repository had before it was moved.
CREATE TABLE repo_alias (
    kind TEXT NOT NULL,
    path_key TEXT NOT NULL,
    repo_id {int} NOT NULL REFERENCES repo (id) ON DELETE CASCADE,
    PRIMARY KEY (kind, path_key)
);
CREATE INDEX repo_alias_by_repo ON repo_alias (repo_id);

-- Tags and the words of names, alike, in a dictionary for each audience: 0 everybody (words of
-- public repositories), 1 who is signed in (of internal ones), else the namespace whose private
-- repositories have them. So no answer, and no time that it takes, tells of words that its
-- reader may not know. `uses` counts the repositories; a word that none uses is gone.
CREATE TABLE term (
    id {serial},
    audience {int} NOT NULL,
    kind TEXT NOT NULL,
    word TEXT NOT NULL,
    uses {int} NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX term_by_word ON term (audience, kind, word);

-- Where the words of names have which three letters, for looking up parts of words.
CREATE TABLE term_gram (
    audience {int} NOT NULL,
    gram {int} NOT NULL,
    term_id {int} NOT NULL REFERENCES term (id) ON DELETE CASCADE,
    PRIMARY KEY (audience, gram, term_id)
){rowless};
CREATE INDEX term_gram_by_term ON term_gram (term_id);

CREATE TABLE repo_term (
    term_id {int} NOT NULL REFERENCES term (id),
    repo_id {int} NOT NULL REFERENCES repo (id) ON DELETE CASCADE,
    PRIMARY KEY (term_id, repo_id)
){rowless};
CREATE INDEX repo_term_by_repo ON repo_term (repo_id);

-- Git ----------------------------------------------------------------------------------------

-- `target` is what the ref names (a commit or an annotated tag), `commit_id` what it comes to.
CREATE TABLE git_ref (
    repo_id {int} NOT NULL REFERENCES repo (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    target {blob} NOT NULL,
    commit_id {blob} NOT NULL,
    updated_at {int} NOT NULL,
    PRIMARY KEY (repo_id, name)
);

CREATE TABLE git_pack (
    repo_id {int} NOT NULL REFERENCES repo (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    pack_key TEXT NOT NULL,
    index_key TEXT NOT NULL,
    objects {int} NOT NULL,
    bytes {int} NOT NULL,
    created_at {int} NOT NULL,
    PRIMARY KEY (repo_id, name)
);

-- `generation` is one more than the largest of the parents'.
CREATE TABLE git_commit (
    repo_id {int} NOT NULL REFERENCES repo (id) ON DELETE CASCADE,
    commit_id {blob} NOT NULL,
    tree {blob} NOT NULL,
    parents {blob} NOT NULL,
    generation {int} NOT NULL,
    time {int} NOT NULL,
    author TEXT NOT NULL,
    author_id {int},
    title TEXT NOT NULL,
    message TEXT NOT NULL,
    -- Since when collection finds it reached by no ref.
    unused_since {int},
    PRIMARY KEY (repo_id, commit_id)
);

-- One row for each path (files and the folders above them) that a commit changed; `object_id`
-- is what stands there afterwards, null when it is gone.
CREATE TABLE git_change (
    repo_id {int} NOT NULL REFERENCES repo (id) ON DELETE CASCADE,
    path TEXT NOT NULL,
    generation {int} NOT NULL,
    commit_id {blob} NOT NULL,
    object_id {blob},
    PRIMARY KEY (repo_id, path, generation, commit_id)
);

-- Large files --------------------------------------------------------------------------------

-- One row for every repository that has sent the xorb itself, with the bytes that it has sent: what
-- it gets back never depends on what others hold. Rows whose stored bytes are equal are made to name
-- the same blob afterwards. `blob_key` = hash + random suffix, new with every insertion, so that
-- deleting an old copy can never hit a new one. States: live, condemned.
CREATE TABLE xorb (
    id {id},
    hash {blob} NOT NULL,
    blob_key TEXT NOT NULL,
    index_key TEXT NOT NULL,
    stored_bytes {int} NOT NULL,
    raw_bytes {int} NOT NULL,
    chunks {int} NOT NULL,
    state TEXT NOT NULL DEFAULT 'live',
    state_at {int} NOT NULL,
    created_at {int} NOT NULL,
    -- Found damaged: not offered, and replaced by the next upload of the same.
    damaged_at {int},
    -- Compared with the other rows of its hash.
    compared_at {int}
);
CREATE INDEX xorb_by_hash ON xorb (hash);
CREATE INDEX xorb_by_blob ON xorb (blob_key);
CREATE INDEX xorb_by_state ON xorb (state, state_at);
CREATE INDEX xorb_uncompared ON xorb (id) WHERE compared_at IS NULL;

-- Which repositories may use a xorb: the entitlement, never the knowledge of a hash. A repository
-- has one row of each hash at most.
CREATE TABLE repo_xorb (
    repo_id {int} NOT NULL REFERENCES repo (id) ON DELETE CASCADE,
    xorb_id {int} NOT NULL REFERENCES xorb (id),
    hash {blob} NOT NULL,
    origin TEXT NOT NULL,
    created_at {int} NOT NULL,
    touched_at {int} NOT NULL,
    PRIMARY KEY (repo_id, xorb_id)
);
CREATE UNIQUE INDEX repo_xorb_by_hash ON repo_xorb (repo_id, hash);
CREATE INDEX repo_xorb_by_xorb ON repo_xorb (xorb_id);

CREATE TABLE xet_file (
    id {id},
    repo_id {int} NOT NULL REFERENCES repo (id) ON DELETE CASCADE,
    hash {blob} NOT NULL,
    sha256 {blob},
    size {int} NOT NULL,
    terms {blob} NOT NULL,
    created_at {int} NOT NULL,
    touched_at {int} NOT NULL,
    -- Since when collection finds that no commit points at it.
    unused_since {int}
);
CREATE UNIQUE INDEX xet_file_by_hash ON xet_file (repo_id, hash);
CREATE INDEX xet_file_by_sha256 ON xet_file (repo_id, sha256);

CREATE TABLE file_xorb (
    file_id {int} NOT NULL REFERENCES xet_file (id) ON DELETE CASCADE,
    xorb_id {int} NOT NULL REFERENCES xorb (id),
    PRIMARY KEY (file_id, xorb_id)
);
CREATE INDEX file_xorb_by_xorb ON file_xorb (xorb_id);

-- Chunks that a repository may be offered for deduplication (about one in a thousand).
CREATE TABLE dedup_chunk (
    repo_id {int} NOT NULL,
    chunk {blob} NOT NULL,
    xorb_id {int} NOT NULL,
    PRIMARY KEY (repo_id, chunk, xorb_id),
    FOREIGN KEY (repo_id, xorb_id) REFERENCES repo_xorb (repo_id, xorb_id) ON DELETE CASCADE
);
CREATE INDEX dedup_chunk_by_xorb ON dedup_chunk (repo_id, xorb_id);

-- LFS multipart uploads under way.
CREATE TABLE lfs_upload (
    id {id},
    repo_id {int} NOT NULL REFERENCES repo (id) ON DELETE CASCADE,
    oid {blob} NOT NULL,
    size {int} NOT NULL,
    part_bytes {int} NOT NULL,
    created_at {int} NOT NULL,
    expires_at {int} NOT NULL
);
CREATE INDEX lfs_upload_by_expiry ON lfs_upload (expires_at);
CREATE INDEX lfs_upload_by_repo ON lfs_upload (repo_id, expires_at);

CREATE TABLE lfs_part (
    upload_id {int} NOT NULL REFERENCES lfs_upload (id) ON DELETE CASCADE,
    number {int} NOT NULL,
    size {int} NOT NULL,
    etag TEXT NOT NULL,
    terms {blob} NOT NULL,
    PRIMARY KEY (upload_id, number)
);

-- What the parts are made of: kept as long as their upload lives.
CREATE TABLE lfs_part_xorb (
    upload_id {int} NOT NULL,
    number {int} NOT NULL,
    xorb_id {int} NOT NULL REFERENCES xorb (id) ON DELETE CASCADE,
    PRIMARY KEY (upload_id, number, xorb_id),
    FOREIGN KEY (upload_id, number) REFERENCES lfs_part (upload_id, number) ON DELETE CASCADE
);
CREATE INDEX lfs_part_xorb_by_xorb ON lfs_part_xorb (xorb_id);

-- The book -----------------------------------------------------------------------------------

CREATE TABLE event (
    seq {id},
    time_ms {int} NOT NULL,
    actor_kind TEXT NOT NULL,
    actor_id {int},
    actor_name TEXT NOT NULL,
    credential_kind TEXT NOT NULL,
    credential_id {int},
    action TEXT NOT NULL,
    subject_kind TEXT NOT NULL,
    subject_id {int},
    subject_name TEXT NOT NULL,
    address TEXT,
    user_agent TEXT,
    request_id TEXT NOT NULL,
    facts TEXT NOT NULL,
    leaf {blob} NOT NULL,
    CHECK (seq >= 0)
);
CREATE INDEX event_by_actor ON event (actor_id, seq);
CREATE INDEX event_by_credential ON event (credential_id, seq);
CREATE INDEX event_by_subject ON event (subject_kind, subject_id, seq);

-- Hashes of the complete subtrees of the Merkle tree: node (level, position).
CREATE TABLE ledger_node (
    level {int} NOT NULL,
    position {int} NOT NULL,
    hash {blob} NOT NULL,
    PRIMARY KEY (level, position),
    CHECK (level >= 0 AND position >= 0)
);

CREATE TABLE checkpoint (
    size {id},
    root {blob} NOT NULL,
    note TEXT NOT NULL
);

-- Deliveries of content; `segment` and `position` are where the journal had it, so that a batch
-- that is loaded twice counts once.
CREATE TABLE read_record (
    segment {int} NOT NULL,
    position {int} NOT NULL,
    time_ms {int} NOT NULL,
    actor_kind TEXT NOT NULL,
    actor_id {int},
    credential_id {int},
    repo_id {int} NOT NULL,
    commit_id {blob},
    path TEXT,
    object TEXT NOT NULL,
    via TEXT NOT NULL,
    bytes {int} NOT NULL,
    address TEXT,
    user_agent TEXT,
    request_id TEXT NOT NULL,
    PRIMARY KEY (segment, position)
);
CREATE INDEX read_record_by_repo ON read_record (repo_id, time_ms);
CREATE INDEX read_record_by_actor ON read_record (actor_id, time_ms);
CREATE INDEX read_record_by_credential ON read_record (credential_id, time_ms);
CREATE INDEX read_record_by_time ON read_record (time_ms);

-- Work to do ---------------------------------------------------------------------------------

CREATE TABLE job (
    id {id},
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    payload TEXT NOT NULL,
    run_at {int} NOT NULL,
    attempts {int} NOT NULL DEFAULT 0,
    locked_until {int},
    last_error TEXT,
    failed_at {int},
    created_at {int} NOT NULL
);
CREATE UNIQUE INDEX job_pending ON job (kind, key) WHERE locked_until IS NULL AND failed_at IS NULL;
CREATE INDEX job_due ON job (run_at) WHERE failed_at IS NULL;
