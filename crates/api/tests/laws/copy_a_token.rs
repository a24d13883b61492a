//! The text of a token exists once.
use bastide_hub::tokens::TokenText;

fn copy(token: TokenText) -> (TokenText, TokenText) {
    (TokenText::clone(&token), token)
}

fn main() {}
