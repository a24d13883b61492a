//! A permit can be lowered and never raised.
use bastide_hub::access::{Access, Read, Write};

fn raise(access: &Access<Read>) -> Access<Write> {
    access.lower::<Write>()
}

fn main() {}
