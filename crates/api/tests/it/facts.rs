//! What is known of a repository from its files: counted weights, cards, lists that show it.

use bastide_testkit::{Client, TestHub};
use serde_json::{Value, json};

use crate::uploads::{noise, upload};
use crate::{commit, commit_to, create, delete, put};

/// A safetensors file with one tensor of this many bytes.
fn weights(len: usize) -> Vec<u8> {
    let header = json!({ "w": { "dtype": "U8", "shape": [len], "data_offsets": [0, len] } }).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; len]].concat()
}

fn index(files: &[&str]) -> String {
    let map: Value = files.iter().enumerate().map(|(n, file)| (format!("w{n}"), json!(file))).collect();
    json!({ "metadata": {}, "weight_map": map }).to_string()
}

async fn model(client: &Client, id: &str) -> Value {
    client.get(&format!("/api/models/{id}")).await.expect(200).json()
}

async fn expanded(client: &Client, address: &str, field: &str) -> Value {
    let mut info = client.get(&format!("{address}?expand={field}")).await.expect(200).json();
    let keys: Vec<_> = info.as_object().unwrap().keys().cloned().collect();
    assert!(keys.iter().any(|key| key == field), "{field} is not in {keys:?}");
    info[field].take()
}

async fn ids(client: &Client, address: &str) -> Vec<String> {
    let rows = client.get(address).await.expect(200).json();
    let mut ids: Vec<_> =
        rows.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn parameters_are_those_of_the_model_and_not_of_every_file_beside_it() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let total = async || model(&ann, "ann/m").await["safetensors"]["total"].clone();
    // Nothing else says what the model is: all files of the root are.
    commit(&ann, "ann/m", &[put("a.safetensors", weights(5)), put("b.safetensors", weights(6))])
        .await
        .expect(200);
    assert_eq!(total().await, 11);
    commit(&ann, "ann/m", &[put("adapter_model.safetensors", weights(7))]).await.expect(200);
    assert_eq!(total().await, 7);
    // The index counts each of its shards once, and says nothing when one is missing or broken.
    let shards = ["x-1-of-2.safetensors", "x-2-of-2.safetensors", "x-1-of-2.safetensors"];
    let listed = put("model.safetensors.index.json", index(&shards));
    commit(&ann, "ann/m", &[listed, put(shards[0], weights(100))]).await.expect(200);
    assert_eq!(model(&ann, "ann/m").await.get("safetensors"), None);
    commit(&ann, "ann/m", &[put(shards[1], weights(23))]).await.expect(200);
    assert_eq!(total().await, 123);
    assert_eq!(ids(&ann, "/api/models?num_parameters=min:123,max:123").await, ["ann/m"]);
    commit(&ann, "ann/m", &[put(shards[1], "no weights")]).await.expect(200);
    assert_eq!(model(&ann, "ann/m").await.get("safetensors"), None);
    assert_eq!(ids(&ann, "/api/models?num_parameters=min:1").await, [""; 0]);
    commit(&ann, "ann/m", &[put("model.safetensors.index.json", "{")]).await.expect(200);
    assert_eq!(model(&ann, "ann/m").await.get("safetensors"), None);
    // The whole model in one file stands above all.
    commit(&ann, "ann/m", &[put("model.safetensors", weights(200))]).await.expect(200);
    let info = model(&ann, "ann/m").await;
    assert_eq!(info["safetensors"], json!({ "parameters": { "U8": 200 }, "total": 200 }));
    assert_eq!(ids(&ann, "/api/models?num_parameters=min:200,max:200").await, ["ann/m"]);
    hub.finish().await;
}

#[tokio::test]
async fn too_many_shards_are_not_half_counted() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let names: Vec<String> = (0..201).map(|n| format!("s{n}.safetensors")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut operations: Vec<Value> = names.iter().map(|name| put(name, weights(1))).collect();
    operations.push(put("model.safetensors.index.json", index(&names)));
    commit(&ann, "ann/m", &operations).await.expect(200);
    assert_eq!(model(&ann, "ann/m").await.get("safetensors"), None);
    commit(&ann, "ann/m", &[put("model.safetensors.index.json", index(&names[1..]))]).await.expect(200);
    assert_eq!(model(&ann, "ann/m").await["safetensors"]["total"], 200);
    hub.finish().await;
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A GGUF file whose header is as long as its vocabulary, and then some data.
fn gguf(tokens: usize, tensor: u64) -> Vec<u8> {
    let value =
        |key: &str, kind: u32, value: Vec<u8>| [text(key), kind.to_le_bytes().to_vec(), value].concat();
    let vocabulary: Vec<u8> = (0..tokens).flat_map(|n| text(&format!("token {n}"))).collect();
    let vocabulary =
        [8u32.to_le_bytes().to_vec(), (tokens as u64).to_le_bytes().to_vec(), vocabulary].concat();
    let values = [
        value("general.architecture", 8, text("llama")),
        value("llama.context_length", 4, 4096u32.to_le_bytes().to_vec()),
        value("tokenizer.ggml.tokens", 9, vocabulary),
        value("tokenizer.ggml.eos_token_id", 4, (tokens as u32 - 1).to_le_bytes().to_vec()),
    ];
    let tensor =
        [text("w"), 1u32.to_le_bytes().to_vec(), tensor.to_le_bytes().to_vec(), vec![0; 12]].concat();
    let counts = [1u64.to_le_bytes(), (values.len() as u64).to_le_bytes()].concat();
    let head = [b"GGUF".to_vec(), 3u32.to_le_bytes().to_vec(), counts, values.concat(), tensor].concat();
    [head, noise(100_000, 5)].concat()
}

#[tokio::test]
async fn a_gguf_file_says_what_model_it_is() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    // A header of several steps in a large file.
    upload(&ann, "ann/m", "m-Q4.gguf", &gguf(150_000, 7_000_000)).await;
    commit(&ann, "ann/m", &[put("a/mmproj.gguf", "x"), put("b.gguf.txt", "x")]).await.expect(200);
    let expected = json!({ "total": 7_000_000, "architecture": "llama", "context_length": 4096,
        "eos_token": "token 149999" });
    assert_eq!(model(&ann, "ann/m").await["gguf"], expected);
    assert_eq!(expanded(&ann, "/api/models/ann/m", "gguf").await, expected);
    assert_eq!(ids(&ann, "/api/models?num_parameters=min:7M,max:7M").await, ["ann/m"]);
    for app in ["llama.cpp", "LMStudio", "ollama", "jan"] {
        assert_eq!(ids(&ann, &format!("/api/models?apps={app}")).await, ["ann/m"], "{app}");
    }
    assert_eq!(ids(&ann, "/api/models?apps=vllm").await, [""; 0]);
    assert_eq!(ids(&ann, "/api/models?apps=ollama&apps=vllm").await, [""; 0]);
    // The parts of a split model are one model; without one of them nobody knows its size.
    let parts = ["s-00001-of-00002.gguf", "s-00002-of-00002.gguf"];
    commit(&ann, "ann/m", &[delete("m-Q4.gguf"), put(parts[0], gguf(10, 5))]).await.expect(200);
    assert_eq!(model(&ann, "ann/m").await.get("gguf"), None);
    commit(&ann, "ann/m", &[put(parts[1], gguf(10, 6))]).await.expect(200);
    assert_eq!(model(&ann, "ann/m").await["gguf"]["total"], 11);
    // A file that lies keeps no commit out.
    commit(&ann, "ann/m", &[put(parts[1], "GGUF\u{3}\0\0\0\u{7f}")]).await.expect(200);
    assert_eq!(model(&ann, "ann/m").await.get("gguf"), None);
    hub.finish().await;
}

#[tokio::test]
async fn every_field_of_a_model_that_can_be_asked_for_says_something() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let card = "---\nbase_model: ann/base\nwidget:\n- text: Paris is the [MASK].\n---\n";
    let config = json!({ "architectures": ["BertForMaskedLM"], "model_type": "bert", "vocab_size": 9 });
    let tokenizer = json!({ "mask_token": "[MASK]", "added_tokens_decoder": { "1": {} } });
    let files = [
        put("README.md", card),
        put("config.json", config.to_string()),
        put("tokenizer_config.json", tokenizer.to_string()),
    ];
    commit(&ann, "ann/m", &files).await.expect(200);
    let refused = ann.get("/api/models/ann/m?expand=nope").await.expect(400).json();
    let fields =
        refused["error"].as_str().unwrap().split_once('[').unwrap().1.trim_end_matches(']').to_owned();
    for field in fields.split(", ") {
        expanded(&ann, "/api/models/ann/m", field).await;
    }
    let of = async |field: &str| expanded(&ann, "/api/models/ann/m", field).await;
    assert_eq!(of("baseModels").await, json!({ "relation": "finetune", "models": [{ "id": "ann/base" }] }));
    assert_eq!(of("widgetData").await, json!([{ "text": "Paris is the [MASK]." }]));
    assert_eq!(of("mask_token").await, "[MASK]");
    assert_eq!(of("config").await["tokenizer_config"], json!({ "mask_token": "[MASK]" }));
    assert_eq!(of("pipeline_tag").await, "fill-mask");
    let info = json!({ "auto_model": "AutoModelForMaskedLM", "pipeline_tag": "fill-mask", "processor": "AutoTokenizer" });
    assert_eq!(of("transformersInfo").await, info);
    assert_eq!((of("evalResults").await, of("inferenceProviderMapping").await), (json!([]), json!([])));
    assert_eq!((of("inference").await, of("gguf").await), (Value::Null, Value::Null));
    // They are for those who ask.
    assert_eq!(model(&ann, "ann/m").await.get("evalResults"), None);
    hub.finish().await;
}

#[tokio::test]
async fn data_sets_and_spaces_say_what_their_cards_do() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "dataset", "d").await.expect(200);
    let card = "---\npaperswithcode_id: squares\n---\n\n# Squares\n\nA set of\nsquares.\n\n```\n@misc{x, title={Y}}\n```\n";
    commit_to(&ann, "datasets/ann/d", &[put("README.md", card)]).await.expect(200);
    let of = async |field: &str| expanded(&ann, "/api/datasets/ann/d", field).await;
    assert_eq!(of("description").await, "A set of squares.");
    assert_eq!(of("citation").await, "@misc{x, title={Y}}");
    assert_eq!(of("paperswithcode_id").await, "squares");
    assert_eq!(of("mainSize").await, Value::Null);

    ann.post("/api/repos/create", json!({ "name": "s", "type": "space", "sdk": "static" })).await.expect(200);
    let of = async |field: &str| expanded(&ann, "/api/spaces/ann/s", field).await;
    assert_eq!((of("models").await, of("region").await), (json!([]), json!("us")));
    assert_eq!(ids(&ann, "/api/spaces?linked=true").await, [""; 0]);
    let card = "---\nsdk: static\nmodels: ann/One\n---\n";
    commit_to(&ann, "spaces/ann/s", &[put("README.md", card)]).await.expect(200);
    assert_eq!(of("models").await, json!(["ann/One"]));
    assert!(of("runtime").await["hardware"].is_object());
    assert_eq!(ids(&ann, "/api/spaces?linked=true").await, ["ann/s"]);
    assert_eq!(ids(&ann, "/api/spaces?models=ann/one").await, ["ann/s"]);
    hub.finish().await;
}

#[tokio::test]
async fn full_rows_name_commits_and_files() {
    let hub = TestHub::open().await;
    let (ann, anyone) = (hub.user("ann").await, hub.anonymous());
    for name in ["a", "b"] {
        create(&ann, "model", name).await.expect(200);
    }
    commit(&ann, "ann/b", &[put("x/y.txt", "1")]).await.expect(200);
    let sha = model(&ann, "ann/b").await["sha"].clone();
    let files = json!([{ "rfilename": ".gitattributes" }, { "rfilename": "x/y.txt" }]);
    for query in ["full=true", "expand=sha&expand=siblings"] {
        let rows = anyone.get(&format!("/api/models?search=b&{query}")).await.expect(200).json();
        assert_eq!((&rows[0]["sha"], &rows[0]["siblings"]), (&sha, &files), "{query}");
    }
    let row = anyone.get("/api/models?search=b&expand=sha").await.expect(200).json()[0].clone();
    assert_eq!((row["sha"].clone(), row.get("siblings")), (sha, None));
    let row = anyone.get("/api/models?search=b").await.expect(200).json()[0].clone();
    assert_eq!((row.get("sha"), row.get("siblings")), (None, None));
    hub.finish().await;
}

#[tokio::test]
async fn full_pages_are_short_and_lead_on() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    for n in 0..102 {
        create(&ann, "dataset", &format!("d{n}")).await.expect(200);
    }
    let first = ann.get("/api/datasets?limit=1000&full=true").await.expect(200);
    assert_eq!(first.json().as_array().unwrap().len(), 100);
    let next =
        first.header("link").split_once('>').unwrap().0.trim_start_matches("<http://hub.test").to_owned();
    let second = ann.get(&next).await.expect(200);
    assert_eq!((second.json().as_array().unwrap().len(), second.header("link")), (2, ""));
    assert_eq!(ann.get("/api/datasets?limit=1000").await.expect(200).json().as_array().unwrap().len(), 102);
    hub.finish().await;
}

#[tokio::test]
async fn no_filter_of_a_list_is_passed_over() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    for (name, card) in [
        ("task", "pipeline_tag: text-generation\nlibrary_name: transformers"),
        ("tag", "pipeline_tag: fill-mask\ntags: [text-generation]"),
    ] {
        create(&ann, "model", name).await.expect(200);
        let readme = put("README.md", format!("---\n{card}\n---\n"));
        commit(&ann, &format!("ann/{name}"), &[readme, put("model.safetensors", weights(1))])
            .await
            .expect(200);
    }
    let of = async |query: &str| ids(&ann, &format!("/api/models?{query}")).await;
    // A tag that is called like a task makes no model one for it.
    assert_eq!(of("pipeline_tag=text-generation").await, ["ann/task"]);
    assert_eq!(of("filter=text-generation").await, ["ann/tag", "ann/task"]);
    assert_eq!(of("apps=vllm").await, ["ann/task"]);
    assert_eq!(of("apps=tgi,vllm&pipeline_tag=text-generation").await, ["ann/task"]);
    assert_eq!(of("apps=unheard-of").await, [""; 0]);
    // Nothing is served for inference here.
    for query in ["inference=warm", "inference_provider=all", "inference_provider[]=hf-inference"] {
        assert_eq!(of(query).await, [""; 0], "{query}");
    }
    ann.get("/api/models?pipeline_tag=a%00b").await.expect(400);
    hub.finish().await;
}

#[tokio::test]
async fn what_leads_to_a_model_is_told_to_who_may_see_it() {
    let hub = TestHub::open().await;
    let (ann, bob, anyone) = (hub.user("ann").await, hub.user("bob").await, hub.anonymous());
    for name in ["Base", "child"] {
        create(&ann, "model", name).await.expect(200);
    }
    for visibility in ["public", "private"] {
        hub.advance_seconds(1);
        let body = json!({ "name": visibility, "type": "space", "sdk": "static", "visibility": visibility });
        ann.post("/api/repos/create", body).await.expect(200);
        let card = put("README.md", "---\nsdk: static\nmodels: [ann/base]\n---\n");
        commit_to(&ann, &format!("spaces/ann/{visibility}"), &[card]).await.expect(200);
    }
    commit(&ann, "ann/child", &[put("README.md", "---\nbase_model: ann/Base\n---\n")]).await.expect(200);
    for (reader, spaces) in [(&ann, json!(["ann/private", "ann/public"])), (&bob, json!(["ann/public"]))] {
        assert_eq!(model(reader, "ann/Base").await["spaces"], spaces);
        assert_eq!(expanded(reader, "/api/models/ann/Base", "spaces").await, spaces);
        let row = reader.get("/api/models?search=base&expand=spaces").await.expect(200).json()[0].clone();
        assert_eq!(row["spaces"], spaces);
    }
    assert_eq!(expanded(&anyone, "/api/models/ann/Base", "childrenModelCount").await, 1);
    ann.put("/api/models/ann/child/settings", json!({ "private": true })).await.expect(200);
    assert_eq!(expanded(&anyone, "/api/models/ann/Base", "childrenModelCount").await, 0);
    assert_eq!(expanded(&ann, "/api/models/ann/Base", "childrenModelCount").await, 1);
    assert_eq!(expanded(&ann, "/api/models/ann/child", "spaces").await, json!([]));
    hub.finish().await;
}

#[tokio::test]
async fn a_card_with_what_python_writes_is_taken_and_words_that_no_database_takes_are_dropped() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let card = "---\nlanguage: no\nlicense: mit\nlicense: apache-2.0\ntags: [good, \"a\\0b\", \"c\\nd\"]\n\
        pipeline_tag: \"x\\0\"\nlibrary_name: \"y\\0\"\ndatasets: [\"z\\0\", glue]\nbase_model: \"q\\0\"\n\
        model-index:\n- name: m\n  results:\n  - metrics:\n    - value: .nan\n    - value: -.inf\n---\n";
    let checked = ann.post("/api/validate-yaml", json!({ "content": card, "repoType": "model" })).await;
    assert_eq!(checked.expect(200).json()["warnings"].as_array().unwrap().len(), 2);
    commit(&ann, "ann/m", &[put("README.md", card)]).await.expect(200);
    let info = model(&ann, "ann/m").await;
    let metrics = &info["cardData"]["model-index"][0]["results"][0]["metrics"];
    assert_eq!(*metrics, json!([{ "value": null }, { "value": null }]));
    assert_eq!(
        info["tags"],
        json!(["model-index", "no", "dataset:glue", "good", "license:apache-2.0", "region:us"])
    );
    assert_eq!((&info["pipeline_tag"], &info["library_name"]), (&Value::Null, &Value::Null));
    assert_eq!(ids(&ann, "/api/models?filter=no,license:apache-2.0").await, ["ann/m"]);
    hub.finish().await;
}

#[tokio::test]
async fn a_large_file_of_any_name_gets_one_line_of_attributes() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let lines =
        async || ann.get("/ann/m/resolve/main/.gitattributes").await.expect(200).text().lines().count();
    let before = lines().await;
    for (n, path) in ["\u{3000}wide\u{3000}", "#note", "!not", "a \"b\"", "d/ e"].into_iter().enumerate() {
        for version in 0..2 {
            upload(&ann, "ann/m", path, &noise(2000, 10 + version)).await;
            assert_eq!(lines().await, before + n + 1, "{path}");
        }
    }
    hub.finish().await;
}
