//! What is written is written by this crate's functions, which ask for permits.
use bastide_store::{Reader, WriteTx};

async fn write(tx: &mut WriteTx) {
    let _ = tx.execute("DELETE FROM event", &[]).await;
}

async fn read(reader: &mut Reader) {
    let _ = reader.all("SELECT * FROM token", &[]).await;
}

fn main() {}
