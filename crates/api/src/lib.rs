//! The Hugging Face wire: JSON routes, resolve, commit, LFS and Xet. Thin: a handler extracts,
//! calls one operation of the hub and chooses how to show the answer.

mod answer;
mod avatars;
mod branch_rules;
mod buffer;
mod cards;
mod cas;
mod client_address;
mod collections;
mod commit;
mod conditions;
mod discussions;
mod extract;
mod git;
mod guard;
mod history;
mod info;
mod lfs;
mod lfs_errors;
mod lfs_files;
mod likes;
mod list;
mod locks;
mod middleware;
mod pages;
mod patience;
mod profiles;
mod refs;
mod repos;
mod resolve;
mod routes;
mod tasks;
mod tree;
mod unread;
mod users;
mod webhooks;
mod xet_tokens;

pub use routes::{Route, router, router_with, routes};
