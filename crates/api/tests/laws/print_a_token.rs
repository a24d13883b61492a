//! The text of a token is not printed by accident.
use bastide_hub::tokens::TokenText;

fn show(token: &TokenText) -> String {
    format!("{token}")
}

fn main() {}
