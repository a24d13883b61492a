//! The Hugging Face wire: JSON routes, resolve, commit, LFS and Xet. Thin: a handler extracts,
//! calls one operation of the hub and chooses how to show the answer.

mod answer;
mod extract;
mod middleware;
mod routes;
mod users;

pub use routes::{Route, router, routes};
