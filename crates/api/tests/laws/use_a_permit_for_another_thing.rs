//! A permit for a namespace is none for a repository.
use bastide_hub::access::{Access, Admin, Namespace};
use bastide_hub::{Context, Hub};

async fn delete(hub: &Hub, context: &Context, access: &Access<Admin, Namespace>) {
    let _ = hub.delete_repo(context, access).await;
}

fn main() {}
