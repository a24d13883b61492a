//! Cards as people and trainers write them, and what becomes of each.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use bastide_core::RepoKind;
use bastide_inspect::card;
use bastide_inspect::metadata::{Derived, derive};
use serde_json::{Value, json};

/// A README, what lies beside it, and what is expected. Tags are one text, in order.
#[derive(Default)]
struct Case {
    readme: &'static str,
    files: &'static [&'static str],
    config: Value,
    tags: &'static str,
    pipeline: Option<&'static str>,
    library: Option<&'static str>,
    /// The start of the only error, of the only warning.
    error: Option<&'static str>,
    warning: Option<&'static str>,
}

fn found(kind: RepoKind, case: &Case) -> (card::Card, Derived) {
    let card = card::read(case.readme, kind);
    let data = card.data.clone().unwrap_or_default();
    let config = Some(&case.config).filter(|config| !config.is_null());
    let derived = derive(kind, &data, card::split(case.readme).1, case.files, config);
    (card, derived)
}

fn check(kind: RepoKind, cases: &[Case]) {
    for case in cases {
        let (card, derived) = found(kind, case);
        let name = case.readme;
        for (said, expected) in [(&card.errors, case.error), (&card.warnings, case.warning)] {
            assert_eq!(said.len(), usize::from(expected.is_some()), "{said:?} in {name}");
            assert!(said.iter().all(|text| text.starts_with(expected.unwrap())), "{said:?} in {name}");
        }
        assert_eq!(derived.tags.join(" "), case.tags, "{name}");
        assert_eq!(derived.pipeline_tag.as_deref(), case.pipeline, "{name}");
        assert_eq!(derived.library.as_deref(), case.library, "{name}");
    }
}

#[test]
fn models() {
    check(
        RepoKind::Model,
        &[
            // An embedding model with its modules.
            Case {
                readme: "---\nlanguage: en\nlicense: apache-2.0\ntags:\n- feature-extraction\n- sentence-similarity\n\
                    datasets:\n- s2orc\n- ms_marco\n---\n\n# Small\n\nSee [the paper](https://arxiv.org/abs/1904.06472).\n",
                files: &[
                    "config.json",
                    "modules.json",
                    "model.safetensors",
                    "pytorch_model.bin",
                    "onnx/model.onnx",
                ],
                config: json!({ "architectures": ["BertModel"], "model_type": "bert", "vocab_size": 30522 }),
                tags: "sentence-transformers pytorch onnx safetensors bert sentence-similarity en dataset:s2orc \
                    dataset:ms_marco feature-extraction license:apache-2.0 arxiv:1904.06472 region:us",
                pipeline: Some("sentence-similarity"),
                library: Some("sentence-transformers"),
                ..Case::default()
            },
            // A fine-tune of a large model, with the licence of its makers.
            Case {
                readme: "---\nlibrary_name: transformers\nlanguage: [en, de, no]\nlicense: llama3.1\n\
                    base_model: meta-llama/Llama-3.1-8B\npipeline_tag: text-generation\ntags:\n- chat\n\
                    extra_gated_prompt: >-\n  Do you agree?\n---\n",
                files: &[
                    "config.json",
                    "model-00001-of-00002.safetensors",
                    "model-00002-of-00002.safetensors",
                ],
                config: json!({ "architectures": ["LlamaForCausalLM"], "model_type": "llama" }),
                tags: "transformers safetensors llama text-generation en de no base_model:meta-llama/Llama-3.1-8B \
                    base_model:finetune:meta-llama/Llama-3.1-8B chat license:llama3.1 region:us",
                pipeline: Some("text-generation"),
                library: Some("transformers"),
                ..Case::default()
            },
            // Quantized for llama.cpp.
            Case {
                readme: "---\nbase_model: ann/big\nquantized_by: bob\nlicense: other\nlicense_name: big\nlicense_link: LICENSE\n---\n",
                files: &["big.Q4_K_M.gguf", "big.Q8_0.gguf"],
                tags: "gguf base_model:ann/big base_model:quantized:ann/big license:other region:us",
                ..Case::default()
            },
            // An adapter, as the training library writes it.
            Case {
                readme: "---\nbase_model: ann/big\nlibrary_name: peft\ntags:\n- generated_from_trainer\nmodel-index:\n\
                    - name: out\n  results: []\n---\n\n<!-- This model card has been generated automatically. -->\n",
                files: &["adapter_config.json", "adapter_model.safetensors", "runs/x/events.out.tfevents.1"],
                tags: "peft safetensors tensorboard model-index base_model:ann/big base_model:adapter:ann/big \
                    generated_from_trainer region:us",
                library: Some("peft"),
                ..Case::default()
            },
            // A merge of two.
            Case {
                readme: "---\nbase_model:\n- ann/one\n- bob/two\ntags: [mergekit, merge]\n---\n",
                files: &["mergekit_config.yml"],
                tags: "base_model:ann/one base_model:bob/two base_model:merge:ann/one base_model:merge:bob/two \
                    mergekit merge region:us",
                ..Case::default()
            },
            // Pictures, with the relation said and a task that no file tells.
            Case {
                readme: "---\nbase_model: ann/pictures\nbase_model_relation: adapter\npipeline_tag: text-to-image\n\
                    instance_prompt: a cat\nwidget:\n- text: a cat\n  output:\n    url: cat.png\nlicense: openrail++\n\
                    tags: [text-to-image, lora, diffusers]\n---\n",
                files: &["cat.safetensors", "cat.png"],
                tags: "safetensors text-to-image base_model:ann/pictures base_model:adapter:ann/pictures lora diffusers \
                    license:openrail++ region:us",
                pipeline: Some("text-to-image"),
                ..Case::default()
            },
            // Results of a trainer that diverged, in Norwegian.
            Case {
                readme: "---\nlanguage: no\nlicense: mit\nmetrics: [wer]\nmodel-index:\n- name: w\n  results:\n  - task:\n      \
                    type: automatic-speech-recognition\n    metrics:\n    - type: wer\n      value: .nan\n---\n",
                files: &["config.json", "model.safetensors"],
                config: json!({ "architectures": ["WhisperForConditionalGeneration"], "model_type": "whisper" }),
                tags: "transformers safetensors whisper automatic-speech-recognition model-index no license:mit region:us",
                pipeline: Some("automatic-speech-recognition"),
                library: Some("transformers"),
                warning: Some("numbers that are not finite"),
                ..Case::default()
            },
            // Code of its own, a byte order mark, lines of Windows.
            Case {
                readme: "\u{feff}---\r\nlicense: bsd-3-clause\r\ndatasets: pile\r\n---\r\n\r\nText.\r\n",
                files: &["config.json", "modeling_x.py", "pytorch_model.bin"],
                config: json!({ "architectures": ["XForCausalLM"], "model_type": "x",
                    "auto_map": { "AutoModelForCausalLM": "modeling_x.XForCausalLM" } }),
                tags: "transformers pytorch x text-generation custom_code dataset:pile license:bsd-3-clause region:us",
                pipeline: Some("text-generation"),
                library: Some("transformers"),
                ..Case::default()
            },
            // Images, by a library that says so in the configuration only.
            Case {
                readme: "---\nlicense: cc-by-nc-4.0\ndatasets:\n- imagenet-1k\n---\narxiv.org/pdf/2010.11929v2.pdf\n",
                files: &["config.json", "model.safetensors"],
                config: json!({ "architecture": "vit_base", "pretrained_cfg": {} }),
                tags: "timm safetensors image-classification dataset:imagenet-1k license:cc-by-nc-4.0 arxiv:2010.11929 region:us",
                pipeline: Some("image-classification"),
                library: Some("timm"),
                ..Case::default()
            },
            // Nobody wrote a card.
            Case {
                readme: "# A model\n\nJust text.\n",
                tags: "region:us",
                warning: Some("empty or missing yaml metadata"),
                ..Case::default()
            },
            // Two people merged their cards.
            Case {
                readme: "---\nlicense: mit\ntags: [a]\nlicense: apache-2.0\n---\n",
                tags: "a license:apache-2.0 region:us",
                warning: Some("\"license\" is given more than once"),
                ..Case::default()
            },
            // What does not pass.
            Case {
                readme: "---\nlicense: apache2\n---\n",
                tags: "license:apache2 region:us",
                error: Some("\"license\" must be one of ["),
                ..Case::default()
            },
            Case {
                readme: "---\ntags:\n- 2024\n- x\n---\n",
                tags: "x region:us",
                error: Some("\"tags\" must be a string or an array of strings"),
                ..Case::default()
            },
            Case {
                readme: "---\ntitle: a: b\n---\n",
                tags: "region:us",
                error: Some("Invalid YAML: "),
                ..Case::default()
            },
        ],
    );
}

#[test]
fn data_sets() {
    check(
        RepoKind::Dataset,
        &[
            Case {
                readme: "---\nannotations_creators:\n- crowdsourced\nlanguage_creators: [found]\nlanguage:\n- en\n- 'no'\n\
                    license:\n- cc-by-4.0\n- mit\nmultilinguality:\n- multilingual\nsize_categories:\n- 100K<n<1M\n\
                    source_datasets:\n- extended|wikipedia\ntask_categories:\n- question-answering\ntask_ids:\n\
                    - extractive-qa\npretty_name: Questions\ntags: [quiz]\nconfigs:\n- config_name: default\n  \
                    data_files:\n  - split: train\n    path: data/train-*\ndataset_info:\n  features:\n  - name: id\n    \
                    dtype: string\n  splits:\n  - name: train\n    num_bytes: 123456789012\n---\n\
                    https://huggingface.co/papers/1606.05250 and huggingface.co/papers/top\n",
                files: &["data/train-00000.parquet", "model.safetensors"],
                tags: "language:en language:no task_categories:question-answering task_ids:extractive-qa \
                    size_categories:100K<n<1M multilinguality:multilingual language_creators:found \
                    annotations_creators:crowdsourced source_datasets:extended|wikipedia quiz license:cc-by-4.0 license:mit \
                    arxiv:1606.05250 region:us",
                ..Case::default()
            },
            Case {
                readme: "---\nlanguage: en\nsize_categories: n<1K\nviewer: false\n---\n",
                tags: "language:en size_categories:n<1K region:us",
                ..Case::default()
            },
            Case {
                readme: "---\nlanguage:\n  en: yes\n---\n",
                tags: "region:us",
                error: Some("\"language\" must be"),
                ..Case::default()
            },
        ],
    );
}

#[test]
fn spaces() {
    check(
        RepoKind::Space,
        &[
            Case {
                readme: "---\ntitle: Chat\nemoji: 💬\ncolorFrom: yellow\ncolorTo: purple\nsdk: gradio\nsdk_version: 5.0.1\n\
                    app_file: app.py\npinned: false\nmodels: [ann/big]\ntags: [demo]\nlicense: mit\n---\n",
                tags: "gradio demo license:mit region:us",
                ..Case::default()
            },
            Case {
                readme: "---\ntitle: Server\nsdk: docker\napp_port: 99999\n---\n",
                tags: "docker region:us",
                error: Some("\"app_port\" must be"),
                ..Case::default()
            },
            Case {
                readme: "---\ntitle: Odd\nsdk: flask\n---\n",
                tags: "flask region:us",
                error: Some("\"sdk\" must be one of [gradio, streamlit, docker, static]"),
                ..Case::default()
            },
        ],
    );
}

#[test]
fn what_programs_run_a_model_follows_from_its_format_and_task() {
    let apps = |readme: &'static str, files: &'static [&'static str]| {
        found(RepoKind::Model, &Case { readme, files, ..Case::default() }).1.apps
    };
    assert!(apps("", &["x.gguf"]).contains(&"ollama"));
    let chat = "---\nlibrary_name: transformers\npipeline_tag: text-generation\n---\n";
    assert_eq!(apps(chat, &["model.safetensors"]), ["vllm", "sglang", "tgi"]);
    assert_eq!(apps(chat, &["pytorch_model.bin"]), [""; 0]);
    assert_eq!(apps("---\nlibrary_name: mlx\n---\n", &["model.safetensors"]), ["mlx-lm", "lmstudio"]);
    let pictures = "---\npipeline_tag: text-to-image\n---\n";
    assert!(apps(pictures, &["model_index.json"]).contains(&"drawthings"));
}
