//! A transaction ends well with an event and in no other way.
use bastide_store::WriteTx;

async fn forgets(tx: WriteTx) {
    let _ = tx.commit().await;
}

async fn finds_a_door(tx: WriteTx) {
    let _ = tx.commit_upkeep().await;
}

fn main() {}
