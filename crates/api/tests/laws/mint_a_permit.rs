//! Permits come from the gate only.
use bastide_hub::access::{Access, Read};

fn main() {
    let _: Access<Read> = bastide_store::permit::grant_repo(todo!());
}
