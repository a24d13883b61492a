//! There is no way to end a transaction well without an event.
use bastide_store::WriteTx;

async fn end(tx: WriteTx) {
    let _ = tx.commit().await;
}

fn main() {}
