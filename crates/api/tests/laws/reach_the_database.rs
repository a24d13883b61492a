//! The database is not within a handler's reach: no transaction without the hub's operations.
use bastide_hub::Hub;

async fn write(hub: &Hub) {
    let tx = hub.db.write().await;
}

fn main() {}
