//! The kinds of task that models and data sets are for, by name: what clients show in menus.

use axum::Json;
use http::Method;
use serde_json::{Map, Value, json};

use crate::routes::Routes;

pub fn routes(routes: Routes) -> Routes {
    routes.add(Method::GET, "/api/tasks", tasks)
}

const TASKS: &[(&str, &str)] = &[
    ("audio-classification", "Audio Classification"),
    ("automatic-speech-recognition", "Automatic Speech Recognition"),
    ("depth-estimation", "Depth Estimation"),
    ("document-question-answering", "Document Question Answering"),
    ("feature-extraction", "Feature Extraction"),
    ("fill-mask", "Fill-Mask"),
    ("image-classification", "Image Classification"),
    ("image-segmentation", "Image Segmentation"),
    ("image-text-to-text", "Image-Text-to-Text"),
    ("image-to-image", "Image-to-Image"),
    ("image-to-text", "Image-to-Text"),
    ("object-detection", "Object Detection"),
    ("question-answering", "Question Answering"),
    ("reinforcement-learning", "Reinforcement Learning"),
    ("sentence-similarity", "Sentence Similarity"),
    ("summarization", "Summarization"),
    ("table-question-answering", "Table Question Answering"),
    ("tabular-classification", "Tabular Classification"),
    ("tabular-regression", "Tabular Regression"),
    ("text-classification", "Text Classification"),
    ("text-generation", "Text Generation"),
    ("text-ranking", "Text Ranking"),
    ("text-to-image", "Text-to-Image"),
    ("text-to-speech", "Text-to-Speech"),
    ("text-to-video", "Text-to-Video"),
    ("token-classification", "Token Classification"),
    ("translation", "Translation"),
    ("video-classification", "Video Classification"),
    ("visual-question-answering", "Visual Question Answering"),
    ("zero-shot-classification", "Zero-Shot Classification"),
    ("zero-shot-image-classification", "Zero-Shot Image Classification"),
];

async fn tasks() -> Json<Value> {
    let entry = |(id, label): &(&str, &str)| ((*id).to_owned(), json!({ "id": id, "label": label }));
    Json(Value::Object(TASKS.iter().map(entry).collect::<Map<_, _>>()))
}
