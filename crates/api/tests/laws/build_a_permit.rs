//! A permit's fields are its own.
use bastide_hub::access::{Access, Read};

fn main() {
    let _: Access<Read> = Access { target: todo!(), level: todo!() };
}
