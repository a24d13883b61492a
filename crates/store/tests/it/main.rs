//! One suite, run on SQLite always and on PostgreSQL when `BASTIDE_TEST_POSTGRES` names one.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and make their own permits"
)]

mod discussions;
mod proposals;
mod rows;
mod schema;
mod social;
mod storage;
mod suite;
mod webhooks;

use bastide_store::Db;

/// What does not compile here, no crate that uses this one can do.
#[test]
fn nobody_goes_round_the_transaction() {
    trybuild::TestCases::new().compile_fail("tests/laws/*.rs");
}

macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                let folder = tempfile::tempdir().unwrap();
                let db = bastide_store::Db::open_sqlite(&folder.path().join("test.db")).await.unwrap();
                crate::suite::$name(&db).await;
            })+
        }

        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                let Some(url) = crate::postgres_database(stringify!($name)).await else { return };
                let db = bastide_store::Db::open_postgres(&url).await.unwrap();
                crate::suite::$name(&db).await;
            })+
        }
    };
}

on_both!(
    names_are_one_space_in_any_case,
    tokens_are_found_by_hash_and_end,
    refs_move_by_compare_and_swap,
    jobs_retry_and_do_not_double,
    a_job_belongs_to_who_claimed_it_last,
    a_job_that_kills_its_worker_is_put_aside_with_an_event,
    writers_follow_each_other_and_nothing_stays_of_what_was_dropped,
    lists_find_by_words_and_pages_do_not_overlap,
    what_leads_to_a_model_is_told_to_who_may_see_it,
    entitlements_decide_about_xorbs_and_files,
    read_records_count_once,
    packs_commits_and_short_ids,
    the_ledger_grows_without_gaps,
    uploads_in_parts_are_their_repositorys_and_end,
    old_paths_lead_to_moved_repositories,
    metadata_and_times_are_kept,
    a_copied_history_is_the_copys_own,
    checkpoints_are_kept_once_and_in_order,
    files_are_found_in_their_own_repository,
    refs_clash_where_git_needs_a_file_and_a_folder,
    a_copy_takes_the_words_and_the_gate,
    what_goes_was_marked_a_grace_before,
    xorbs_that_nobody_may_use_are_condemned_and_removed_with_their_own_blobs,
    a_bad_copy_is_replaced_and_a_good_one_is_not,
    a_right_lasts_as_long_as_an_upload_in_parts_that_needs_it,
    a_moving_ref_voids_a_walk_and_takes_marks_off,
    a_thousand_events_that_nobody_watches_are_one_look,
    watchers_are_found_by_what_is_and_was_watched,
    a_delivery_belongs_to_who_claimed_it_last,
    a_log_keeps_its_newest_lines,
    webhooks_take_turns_and_slow_ones_leave_room,
    likes_are_counted_once_and_paged_by_what_the_reader_sees,
    numbers_of_repositories_follow_every_change,
    followers_are_rows_of_their_own,
    collections_are_found_ordered_and_hidden,
    items_keep_their_order_whatever_is_hidden,
    discussions_are_numbered_once_and_listed_with_pinned_ones_first,
    comments_keep_every_version_and_hidden_ones_are_not_read,
    refs_of_pull_requests_move_for_who_proposes_and_nothing_else_does,
    what_proposers_bring_counts_until_it_is_gone_or_taken_over,
    what_a_repository_lost_is_noted_until_it_is_pruned,
    a_permit_to_propose_replaces_nothing,
    pull_requests_are_counted_by_author_and_day,
    what_is_used_follows_packs_and_rights,
    quotas_and_what_uploads_in_parts_may_bring,
    a_path_is_locked_once,
    content_is_listed_and_deleted_for_good,
);

/// A fresh database of its own for one test.
async fn postgres_database(name: &str) -> Option<String> {
    let Ok(base) = std::env::var("BASTIDE_TEST_POSTGRES") else {
        use std::io::Write;
        // Not by a macro of printing: those are silent in tests that pass.
        let _ = writeln!(std::io::stderr(), "PostgreSQL tests were skipped: set BASTIDE_TEST_POSTGRES");
        return None;
    };
    let (client, connection) = tokio_postgres::connect(&base, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let name = format!("bastide_{}_{}", std::process::id(), name.chars().take(30).collect::<String>());
    client.batch_execute(&format!("DROP DATABASE IF EXISTS {name}")).await.unwrap();
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    let (server, _) = base.rsplit_once('/').unwrap();
    Some(format!("{server}/{name}"))
}

#[tokio::test]
async fn two_servers_can_start_on_one_empty_database_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    let (one, two) = tokio::join!(Db::open_sqlite(&path), Db::open_sqlite(&path));
    one.unwrap();
    two.unwrap();
    if let Some(url) = postgres_database("two_servers").await {
        let (one, two) = tokio::join!(Db::open_postgres(&url), Db::open_postgres(&url));
        one.unwrap();
        two.unwrap();
    }
}
