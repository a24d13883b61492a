-- Likes, follows and collections.

-- How many repositories of each kind and visibility a namespace has, so that nobody has to count
-- a hundred thousand of them. Changed by every transaction that adds, moves, shows, hides or
-- removes a repository.
CREATE TABLE repo_count (
    namespace_id {int} NOT NULL REFERENCES namespace (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    visibility TEXT NOT NULL,
    repos {int} NOT NULL,
    PRIMARY KEY (namespace_id, kind, visibility)
){rowless};
INSERT INTO repo_count (namespace_id, kind, visibility, repos)
    SELECT namespace_id, kind, visibility, COUNT(*) FROM repo GROUP BY namespace_id, kind, visibility;

-- An owner's repositories by size, and the sum of their sizes.
CREATE INDEX repo_by_size ON repo (namespace_id, used_bytes, id);
CREATE INDEX member_by_org ON member (org_id, created_at, user_id);

-- `repo.likes` is the number of these rows.
CREATE TABLE repo_like (
    repo_id {int} NOT NULL REFERENCES repo (id) ON DELETE CASCADE,
    user_id {int} NOT NULL REFERENCES namespace (id) ON DELETE CASCADE,
    created_at {int} NOT NULL,
    PRIMARY KEY (repo_id, user_id)
){rowless};
CREATE INDEX repo_like_by_repo ON repo_like (repo_id, created_at, user_id);
CREATE INDEX repo_like_by_user ON repo_like (user_id, created_at, repo_id);

CREATE TABLE follow (
    follower_id {int} NOT NULL REFERENCES namespace (id) ON DELETE CASCADE,
    followed_id {int} NOT NULL REFERENCES namespace (id) ON DELETE CASCADE,
    created_at {int} NOT NULL,
    PRIMARY KEY (follower_id, followed_id)
){rowless};
CREATE INDEX follow_by_follower ON follow (follower_id, created_at, followed_id);
CREATE INDEX follow_by_followed ON follow (followed_id, created_at, follower_id);

-- `position` orders the collections of an owner; numbers may be left out.
CREATE TABLE collection (
    id {id},
    owner_id {int} NOT NULL REFERENCES namespace (id) ON DELETE CASCADE,
    title TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    -- What searches look into: both of the above in small letters.
    words TEXT NOT NULL,
    visibility TEXT NOT NULL,
    theme TEXT NOT NULL,
    position {int} NOT NULL,
    created_at {int} NOT NULL,
    updated_at {int} NOT NULL
);
CREATE UNIQUE INDEX collection_by_title ON collection (owner_id, title);
CREATE INDEX collection_by_position ON collection (owner_id, position, id);
CREATE INDEX collection_by_owner ON collection (owner_id, updated_at, id);
CREATE INDEX collection_by_updated ON collection (updated_at, id);

-- A repository, or another collection. `position` as above: what a reader may not see leaves no gap
-- in what it is shown, because places are counted and not read.
CREATE TABLE collection_item (
    id {id},
    collection_id {int} NOT NULL REFERENCES collection (id) ON DELETE CASCADE,
    repo_id {int} REFERENCES repo (id) ON DELETE CASCADE,
    inner_id {int} REFERENCES collection (id) ON DELETE CASCADE,
    note TEXT NOT NULL DEFAULT '',
    position {int} NOT NULL,
    created_at {int} NOT NULL,
    CHECK ((repo_id IS NULL) <> (inner_id IS NULL))
);
CREATE INDEX collection_item_by_position ON collection_item (collection_id, position, id);
CREATE UNIQUE INDEX collection_item_by_repo ON collection_item (repo_id, collection_id);
CREATE UNIQUE INDEX collection_item_by_inner ON collection_item (inner_id, collection_id);

-- Merges: a history without one is a chain, and as long as its head's generation says.
CREATE INDEX git_commit_merges ON git_commit (repo_id, generation) WHERE length(parents) > 20;
