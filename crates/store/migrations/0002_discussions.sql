-- Discussions and pull requests -----------------------------------------------------------------

-- How many of which there are, and the last number that was given: no number is given twice, also
-- not that of a discussion that was removed.
CREATE TABLE discussion_count (
    repo_id {int} PRIMARY KEY REFERENCES repo (id) ON DELETE CASCADE,
    last_num {int} NOT NULL DEFAULT 0,
    open_discussions {int} NOT NULL DEFAULT 0,
    closed_discussions {int} NOT NULL DEFAULT 0,
    open_pulls {int} NOT NULL DEFAULT 0,
    closed_pulls {int} NOT NULL DEFAULT 0
);

-- `is_open` says of the status what lists ask for: open and draft are, closed and merged are not.
-- An author whose account is gone is null.
CREATE TABLE discussion (
    id {id},
    repo_id {int} NOT NULL REFERENCES repo (id) ON DELETE CASCADE,
    num {int} NOT NULL,
    is_pull_request {int} NOT NULL,
    status TEXT NOT NULL,
    is_open {int} NOT NULL,
    pinned {int} NOT NULL DEFAULT 0,
    locked {int} NOT NULL DEFAULT 0,
    title TEXT NOT NULL,
    -- In lower case, to be searched.
    title_key TEXT NOT NULL,
    author_id {int} REFERENCES namespace (id) ON DELETE SET NULL,
    created_at {int} NOT NULL,
    updated_at {int} NOT NULL,
    -- The last place that an event has; comments that are shown; bytes of all versions of all comments.
    events {int} NOT NULL DEFAULT 0,
    comments {int} NOT NULL DEFAULT 0,
    content_bytes {int} NOT NULL DEFAULT 0,
    -- Of pull requests: the branch that it is for, and what merging did.
    base_ref TEXT,
    base_commit {blob},
    merge_commit {blob},
    ref_deleted_at {int}
);
CREATE UNIQUE INDEX discussion_by_num ON discussion (repo_id, num);
CREATE INDEX discussion_by_pin ON discussion (repo_id, pinned, num);
CREATE INDEX discussion_by_open ON discussion (repo_id, is_open, pinned, num);
CREATE INDEX discussion_by_kind ON discussion (repo_id, is_pull_request, pinned, num);
CREATE INDEX discussion_by_kind_open ON discussion (repo_id, is_pull_request, is_open, pinned, num);
CREATE INDEX discussion_by_author_in_repo ON discussion (repo_id, author_id, pinned, num);
CREATE INDEX discussion_by_author ON discussion (author_id, created_at);

-- What happened in a discussion, in the order of `place`, from 1. The first is its description, a comment.
-- `data` is JSON; what a comment says is in its versions, the newest of which is `versions`.
CREATE TABLE discussion_event (
    id {id},
    discussion_id {int} NOT NULL REFERENCES discussion (id) ON DELETE CASCADE,
    place {int} NOT NULL,
    kind TEXT NOT NULL,
    author_id {int} REFERENCES namespace (id) ON DELETE SET NULL,
    created_at {int} NOT NULL,
    data TEXT NOT NULL DEFAULT '{}',
    versions {int} NOT NULL DEFAULT 0,
    -- Never taken back.
    hidden_at {int},
    hidden_by {int}
);
CREATE UNIQUE INDEX discussion_event_by_place ON discussion_event (discussion_id, place);
CREATE INDEX discussion_event_by_author ON discussion_event (author_id, created_at);

-- Everything that a comment ever said.
CREATE TABLE comment_version (
    event_id {int} NOT NULL REFERENCES discussion_event (id) ON DELETE CASCADE,
    version {int} NOT NULL,
    content TEXT NOT NULL,
    author_id {int} REFERENCES namespace (id) ON DELETE SET NULL,
    created_at {int} NOT NULL,
    PRIMARY KEY (event_id, version)
);
CREATE INDEX comment_version_by_author ON comment_version (author_id, created_at);

-- Who takes part: who wrote, and whom others named.
CREATE TABLE discussion_participant (
    discussion_id {int} NOT NULL REFERENCES discussion (id) ON DELETE CASCADE,
    user_id {int} NOT NULL REFERENCES namespace (id) ON DELETE CASCADE,
    wrote_at {int},
    mentioned_at {int},
    PRIMARY KEY (discussion_id, user_id)
);
CREATE INDEX discussion_participant_by_user ON discussion_participant (user_id);

-- What those who may only propose have brought to a repository: a xorb and the row of a file for as long as the
-- repository has them, the commits of a pull request as long as its ref is there.
CREATE TABLE proposal_xorb (
    repo_id {int} NOT NULL,
    xorb_id {int} NOT NULL,
    user_id {int} NOT NULL,
    bytes {int} NOT NULL,
    PRIMARY KEY (repo_id, xorb_id),
    FOREIGN KEY (repo_id, xorb_id) REFERENCES repo_xorb (repo_id, xorb_id) ON DELETE CASCADE
);
CREATE INDEX proposal_xorb_by_user ON proposal_xorb (repo_id, user_id);

CREATE TABLE proposal_file (
    file_id {int} NOT NULL PRIMARY KEY REFERENCES xet_file (id) ON DELETE CASCADE,
    repo_id {int} NOT NULL REFERENCES repo (id) ON DELETE CASCADE,
    user_id {int} NOT NULL,
    bytes {int} NOT NULL
);
CREATE INDEX proposal_file_by_user ON proposal_file (repo_id, user_id);

CREATE TABLE proposal_commit (
    repo_id {int} NOT NULL REFERENCES repo (id) ON DELETE CASCADE,
    number {int} NOT NULL,
    user_id {int} NOT NULL,
    bytes {int} NOT NULL,
    PRIMARY KEY (repo_id, number, user_id)
);
CREATE INDEX proposal_commit_by_user ON proposal_commit (repo_id, user_id);
