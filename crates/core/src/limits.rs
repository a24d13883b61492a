//! Every limit that has no setting, in one place.

/// Longest path of a file in a repository, in bytes.
pub const MAX_PATH_BYTES: usize = 1024;
/// Longest single segment of a path, in bytes: what common file systems take.
pub const MAX_SEGMENT_BYTES: usize = 255;
/// Segments of a path: folders within folders cost a tree and a row each, at every change.
pub const MAX_PATH_SEGMENTS: usize = 64;
/// Folders that one commit can touch.
pub const MAX_COMMIT_FOLDERS: usize = 50_000;
/// Longest repository name (the clients enforce the same).
pub const MAX_REPO_NAME: usize = 96;
/// Longest user or organisation name.
pub const MAX_NAMESPACE_NAME: usize = 42;
/// Longest branch, tag or other ref, in bytes.
pub const MAX_REF_BYTES: usize = 255;

/// Files above this size go to large-file storage; git keeps a pointer.
pub const MAX_REGULAR_FILE_BYTES: u64 = 10 * 1024 * 1024;
/// Largest file that a repository can hold.
pub const MAX_FILE_BYTES: u64 = 5 * 1024 * 1024 * 1024 * 1024;
/// Operations in one commit.
pub const MAX_COMMIT_OPERATIONS: usize = 25_000;
/// Bytes of one commit request.
pub const MAX_COMMIT_BYTES: u64 = 1024 * 1024 * 1024;
/// Files in one preupload call.
pub const MAX_PREUPLOAD_FILES: usize = 1000;
/// Paths in one paths-info call.
pub const MAX_PATHS_INFO: usize = 2000;
/// Entries of one page of a tree, and of one page with `expand`.
pub const TREE_PAGE: usize = 1000;
pub const TREE_PAGE_EXPANDED: usize = 100;
/// Rows of one page of a list.
pub const LIST_PAGE_MAX: usize = 1000;
/// Rows of one page of a list that names commits and files, and all of its files.
pub const LIST_PAGE_FULL: usize = 100;
pub const LIST_PAGE_FILES: usize = 100_000;
/// Accounts and repositories of one page of likes, followers, members.
pub const PEOPLE_PAGE: usize = 100;
/// What one user may like, and whom one user may follow.
pub const MAX_LIKES: u64 = 10_000;
pub const MAX_FOLLOWED: u64 = 10_000;
/// Collections of one owner, items of one collection, and what a list shows of each.
pub const MAX_COLLECTIONS: u64 = 1000;
pub const MAX_COLLECTION_ITEMS: u64 = 1000;
pub const COLLECTIONS_PAGE: usize = 20;
pub const COLLECTIONS_PAGE_MAX: usize = 100;
pub const LISTED_ITEMS: u32 = 4;
/// Changes of one batch.
pub const MAX_ITEM_CHANGES: usize = 100;
/// Characters of a collection's title and description and of an item's note.
pub const MAX_COLLECTION_TITLE: usize = 60;
pub const MAX_COLLECTION_DESCRIPTION: usize = 150;
pub const MAX_ITEM_NOTE: usize = 500;
/// Searches and filters of one list together.
pub const MAX_LIST_TERMS: usize = 32;
/// Bytes of a JSON request that is not a commit.
pub const MAX_JSON_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of a README whose metadata is read.
pub const MAX_CARD_BYTES: usize = 2 * 1024 * 1024;
/// Title and description of a commit.
pub const MAX_COMMIT_TITLE: usize = 1024;
pub const MAX_COMMIT_MESSAGE: usize = 64 * 1024;

/// Characters of a discussion's title.
pub const MIN_DISCUSSION_TITLE: usize = 3;
pub const MAX_DISCUSSION_TITLE: usize = 200;
/// Bytes of one comment, and how often it can be written: once and edited.
pub const MAX_COMMENT_BYTES: usize = 64 * 1024;
pub const MAX_COMMENT_VERSIONS: u64 = 100;
/// Events of one discussion, and bytes of all versions of all of its comments: one answer has them all.
pub const MAX_DISCUSSION_EVENTS: u64 = 5000;
pub const MAX_DISCUSSION_BYTES: u64 = 2 * 1024 * 1024;
/// Names in a comment that make somebody take part.
pub const MAX_MENTIONS: usize = 20;
/// What those without write access may open in a day, anywhere, and say and change in an hour, in the
/// discussions of one repository.
pub const DISCUSSIONS_PER_DAY: u64 = 50;
pub const COMMENTS_PER_HOUR: u64 = 100;

/// Content of one xorb, before compression. Clients count this, and not what they send: of content
/// that does not compress the wire takes a little more.
pub const MAX_XORB_BYTES: usize = 64 * 1024 * 1024;
pub const MAX_XORB_CHUNKS: usize = 8192;
/// Bytes of one xorb on the wire: full of content that does not compress, with a header of 8 bytes
/// before each chunk.
pub const MAX_STORED_XORB_BYTES: usize = MAX_XORB_BYTES + 8 * MAX_XORB_CHUNKS;
pub const MAX_CHUNK_BYTES: usize = 128 * 1024;
/// Bytes of one shard (Xet protocol 1.1.0, as the other limits here).
pub const MAX_SHARD_BYTES: usize = 64 * 1024 * 1024;

/// How long a Xet token, a signed link or an upload link lives, in seconds.
pub const XET_TOKEN_SECONDS: i64 = 15 * 60;
pub const SIGNED_LINK_SECONDS: i64 = 15 * 60;
pub const UPLOAD_LINK_SECONDS: i64 = 6 * 3600;

/// Life of a new token where nobody says otherwise, in days.
pub const TOKEN_DEFAULT_DAYS: i64 = 90;
