//! Changing needs a permit to change.
use bastide_hub::Context;
use bastide_hub::Hub;
use bastide_hub::access::{Access, Read};

async fn delete(hub: &Hub, context: &Context, access: &Access<Read>) {
    let _ = hub.delete_repo(context, access).await;
}

fn main() {}
