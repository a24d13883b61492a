//! Who may see that a repository exists may not read its contents.
use bastide_hub::Hub;
use bastide_hub::access::{Access, See};
use bastide_hub::content::FileFacts;

async fn read(hub: &Hub, access: &Access<See>, facts: &FileFacts) {
    let _ = hub.open_content(access, facts, 0..1).await;
}

fn main() {}
