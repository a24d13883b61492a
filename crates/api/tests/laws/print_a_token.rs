//! The text of a token is not printed by accident, nor copied.
use bastide_hub::tokens::TokenText;

fn show(token: &TokenText) -> String {
    let copy = token.clone();
    format!("{token}")
}

fn main() {}
