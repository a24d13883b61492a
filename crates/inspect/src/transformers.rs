//! From a `config.json` to how the transformers library loads the model: the auto class, the
//! task, the processor.

use serde_json::{Map, Value, json};

/// How a class of models is loaded, by how the class is called.
struct Class {
    /// The end of the name, or its whole.
    name: &'static str,
    auto_model: &'static str,
    pipeline: Option<&'static str>,
    processor: Option<&'static str>,
}

const TOKENIZER: Option<&str> = Some("AutoTokenizer");
const IMAGES: Option<&str> = Some("AutoImageProcessor");
const SOUND: Option<&str> = Some("AutoFeatureExtractor");
const MIXED: Option<&str> = Some("AutoProcessor");

const fn class(
    name: &'static str,
    auto_model: &'static str,
    pipeline: &'static str,
    processor: Option<&'static str>,
) -> Class {
    Class { name, auto_model, pipeline: Some(pipeline), processor }
}

/// The first that fits counts: whole names and longer ends stand before what they end in.
const CLASSES: &[Class] = &[
    class(
        "WhisperForConditionalGeneration",
        "AutoModelForSpeechSeq2Seq",
        "automatic-speech-recognition",
        MIXED,
    ),
    class(
        "Speech2TextForConditionalGeneration",
        "AutoModelForSpeechSeq2Seq",
        "automatic-speech-recognition",
        MIXED,
    ),
    class("ForSpeechSeq2Seq", "AutoModelForSpeechSeq2Seq", "automatic-speech-recognition", MIXED),
    class("ForSpeechToText", "AutoModelForSpeechSeq2Seq", "automatic-speech-recognition", MIXED),
    class("ForTextToSpeech", "AutoModelForTextToWaveform", "text-to-audio", MIXED),
    class("MusicgenForConditionalGeneration", "AutoModelForTextToWaveform", "text-to-audio", MIXED),
    class("VitsModel", "AutoModelForTextToWaveform", "text-to-audio", TOKENIZER),
    class("VisionEncoderDecoderModel", "AutoModelForImageTextToText", "image-to-text", MIXED),
    class("SpeechEncoderDecoderModel", "AutoModelForSpeechSeq2Seq", "automatic-speech-recognition", MIXED),
    class("EncoderDecoderModel", "AutoModelForSeq2SeqLM", "text2text-generation", TOKENIZER),
    class("CLIPModel", "AutoModelForZeroShotImageClassification", "zero-shot-image-classification", MIXED),
    class("SiglipModel", "AutoModelForZeroShotImageClassification", "zero-shot-image-classification", MIXED),
    class("AlignModel", "AutoModelForZeroShotImageClassification", "zero-shot-image-classification", MIXED),
    class("LMHeadModel", "AutoModelForCausalLM", "text-generation", TOKENIZER),
    class("ForCausalLM", "AutoModelForCausalLM", "text-generation", TOKENIZER),
    class("ForMaskedLM", "AutoModelForMaskedLM", "fill-mask", TOKENIZER),
    class("ForSeq2SeqLM", "AutoModelForSeq2SeqLM", "text2text-generation", TOKENIZER),
    class("ForAudioClassification", "AutoModelForAudioClassification", "audio-classification", SOUND),
    class(
        "ForAudioFrameClassification",
        "AutoModelForAudioFrameClassification",
        "audio-classification",
        SOUND,
    ),
    class("ForXVector", "AutoModelForAudioXVector", "audio-classification", SOUND),
    class("ForCTC", "AutoModelForCTC", "automatic-speech-recognition", MIXED),
    class(
        "ForZeroShotImageClassification",
        "AutoModelForZeroShotImageClassification",
        "zero-shot-image-classification",
        MIXED,
    ),
    class(
        "ForImageClassificationWithTeacher",
        "AutoModelForImageClassification",
        "image-classification",
        IMAGES,
    ),
    class("ForImageClassification", "AutoModelForImageClassification", "image-classification", IMAGES),
    class("ForVideoClassification", "AutoModelForVideoClassification", "video-classification", IMAGES),
    class(
        "ForZeroShotObjectDetection",
        "AutoModelForZeroShotObjectDetection",
        "zero-shot-object-detection",
        MIXED,
    ),
    class(
        "GroundingDinoForObjectDetection",
        "AutoModelForZeroShotObjectDetection",
        "zero-shot-object-detection",
        MIXED,
    ),
    class(
        "OwlViTForObjectDetection",
        "AutoModelForZeroShotObjectDetection",
        "zero-shot-object-detection",
        MIXED,
    ),
    class(
        "Owlv2ForObjectDetection",
        "AutoModelForZeroShotObjectDetection",
        "zero-shot-object-detection",
        MIXED,
    ),
    class("ForObjectDetection", "AutoModelForObjectDetection", "object-detection", IMAGES),
    class("ForDepthEstimation", "AutoModelForDepthEstimation", "depth-estimation", IMAGES),
    class("ForSemanticSegmentation", "AutoModelForSemanticSegmentation", "image-segmentation", IMAGES),
    class("ForInstanceSegmentation", "AutoModelForInstanceSegmentation", "image-segmentation", IMAGES),
    class("ForUniversalSegmentation", "AutoModelForUniversalSegmentation", "image-segmentation", IMAGES),
    class("ForImageSegmentation", "AutoModelForImageSegmentation", "image-segmentation", IMAGES),
    class("ForMaskGeneration", "AutoModelForMaskGeneration", "mask-generation", IMAGES),
    class("SamModel", "AutoModelForMaskGeneration", "mask-generation", IMAGES),
    class("ForImageToImage", "AutoModelForImageToImage", "image-to-image", IMAGES),
    class("ForImageSuperResolution", "AutoModelForImageToImage", "image-to-image", IMAGES),
    class("ForKeypointDetection", "AutoModelForKeypointDetection", "keypoint-detection", IMAGES),
    class(
        "ForDocumentQuestionAnswering",
        "AutoModelForDocumentQuestionAnswering",
        "document-question-answering",
        MIXED,
    ),
    class(
        "ForVisualQuestionAnswering",
        "AutoModelForVisualQuestionAnswering",
        "visual-question-answering",
        MIXED,
    ),
    class(
        "TapasForQuestionAnswering",
        "AutoModelForTableQuestionAnswering",
        "table-question-answering",
        TOKENIZER,
    ),
    class(
        "ForTableQuestionAnswering",
        "AutoModelForTableQuestionAnswering",
        "table-question-answering",
        TOKENIZER,
    ),
    class("ForQuestionAnsweringSimple", "AutoModelForQuestionAnswering", "question-answering", TOKENIZER),
    class("ForQuestionAnswering", "AutoModelForQuestionAnswering", "question-answering", TOKENIZER),
    class("ForTokenClassification", "AutoModelForTokenClassification", "token-classification", TOKENIZER),
    class(
        "ForSequenceClassification",
        "AutoModelForSequenceClassification",
        "text-classification",
        TOKENIZER,
    ),
    class("ForMultipleChoice", "AutoModelForMultipleChoice", "multiple-choice", TOKENIZER),
    class("ForImageTextToText", "AutoModelForImageTextToText", "image-text-to-text", MIXED),
    // The heads that models are trained with before they have a task.
    Class {
        name: "ForPreTraining",
        auto_model: "AutoModelForPreTraining",
        pipeline: None,
        processor: TOKENIZER,
    },
    Class {
        name: "ForNextSentencePrediction",
        auto_model: "AutoModelForNextSentencePrediction",
        pipeline: None,
        processor: TOKENIZER,
    },
];

/// Text from text, as T5 and BART do it.
const TEXT_TO_TEXT: Class = class("", "AutoModelForSeq2SeqLM", "text2text-generation", TOKENIZER);
const IMAGE_TO_TEXT: Class = class("", "AutoModelForImageTextToText", "image-text-to-text", MIXED);
const AUDIO_TO_TEXT: Class = class("", "AutoModelForSeq2SeqLM", "audio-text-to-text", MIXED);
const TEXT_FEATURES: Class = class("", "AutoModel", "feature-extraction", TOKENIZER);
const IMAGE_FEATURES: Class = class("", "AutoModel", "image-feature-extraction", IMAGES);
const SOUND_FEATURES: Class = class("", "AutoModel", "feature-extraction", SOUND);
const UNKNOWN: Class = Class { name: "", auto_model: "AutoModel", pipeline: None, processor: None };

/// `transformersInfo`: how the model is loaded, if the configuration says what it is.
pub fn info(config: &Value) -> Option<Map<String, Value>> {
    let architecture = config.get("architectures").and_then(|list| list.get(0)).and_then(Value::as_str);
    let auto_map = config.get("auto_map").and_then(Value::as_object);
    let class = match architecture {
        Some(architecture) => class_of(architecture, config),
        None => auto_map.map(|_| &UNKNOWN)?,
    };
    let custom = auto_map.and_then(|map| custom_class(map, class.auto_model));
    let auto_model = custom.map_or(class.auto_model, |(auto_model, _)| auto_model);
    let mut info = Map::from_iter([("auto_model".to_owned(), json!(auto_model))]);
    if let Some((_, custom)) = custom {
        info.insert("custom_class".to_owned(), json!(custom));
    }
    for (key, value) in [("pipeline_tag", class.pipeline), ("processor", class.processor)] {
        if let Some(value) = value {
            info.insert(key.to_owned(), json!(value));
        }
    }
    Some(info)
}

fn class_of(architecture: &str, config: &Value) -> &'static Class {
    // The same network in another framework is the same class.
    let name = architecture.strip_prefix("TF").or_else(|| architecture.strip_prefix("Flax"));
    let name = name.unwrap_or(architecture);
    if let Some(class) = CLASSES.iter().find(|class| name.ends_with(class.name)) {
        return class;
    }
    let has = |key: &str| config.get(key).is_some();
    if name.ends_with("ForConditionalGeneration") {
        return match (has("vision_config"), has("audio_config")) {
            (true, _) => &IMAGE_TO_TEXT,
            (false, true) => &AUDIO_TO_TEXT,
            (false, false) => &TEXT_TO_TEXT,
        };
    }
    if !name.ends_with("Model") {
        return &UNKNOWN;
    }
    match (has("vocab_size"), has("image_size") || has("num_channels")) {
        (_, false) if has("feat_extract_norm") || has("num_mel_bins") => &SOUND_FEATURES,
        (false, true) => &IMAGE_FEATURES,
        _ => &TEXT_FEATURES,
    }
}

/// The class of the repository's own code, for the expected auto class or for the first there is.
fn custom_class<'a>(auto_map: &'a Map<String, Value>, expected: &'a str) -> Option<(&'a str, &'a str)> {
    let path = |value: &'a Value| value.as_str().or_else(|| value.get(0)?.as_str());
    let exact = auto_map.get(expected).and_then(path).map(|class| (expected, class));
    exact.or_else(|| {
        let mut models = auto_map.iter().filter(|(auto, _)| auto.starts_with("AutoModel"));
        models.find_map(|(auto, value)| Some((auto.as_str(), path(value)?)))
    })
}

/// Longest single value of a configuration that is kept; the longest are chat templates.
const MAX_VALUE_BYTES: usize = 64 * 1024;

/// The parts of a `config.json` that lists show.
pub fn config_parts(config: &Value) -> Map<String, Value> {
    const KEYS: &[&str] = &["architectures", "model_type", "quantization_config", "auto_map"];
    config.as_object().map(|config| parts(config, KEYS)).unwrap_or_default()
}

/// The parts of a `tokenizer_config.json` that lists show.
pub fn tokenizer_parts(bytes: &[u8]) -> Option<Map<String, Value>> {
    const KEYS: &[&str] = &[
        "bos_token",
        "chat_template",
        "cls_token",
        "eos_token",
        "mask_token",
        "pad_token",
        "sep_token",
        "unk_token",
        "use_default_system_prompt",
    ];
    let config: Map<String, Value> = serde_json::from_slice(bytes).ok()?;
    Some(parts(&config, KEYS)).filter(|parts| !parts.is_empty())
}

fn parts(config: &Map<String, Value>, keys: &[&str]) -> Map<String, Value> {
    let known = keys.iter().filter_map(|key| Some(((*key).to_owned(), config.get(*key)?.clone())));
    known.filter(|(_, value)| !value.is_null() && value.to_string().len() <= MAX_VALUE_BYTES).collect()
}

/// What stands for a word that is to be guessed, from the parts of a tokenizer's configuration.
pub fn mask_token(tokenizer: &Map<String, Value>) -> Option<&str> {
    let token = tokenizer.get("mask_token")?;
    token.as_str().or_else(|| token.get("content")?.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(config: Value) -> (String, String, String) {
        let info = info(&config).unwrap();
        let text = |key: &str| info.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
        (text("auto_model"), text("pipeline_tag"), text("processor"))
    }

    #[test]
    fn classes_of_models_that_people_have() {
        for (architecture, auto_model, pipeline, processor) in [
            ("BertModel", "AutoModel", "feature-extraction", "AutoTokenizer"),
            ("BertForMaskedLM", "AutoModelForMaskedLM", "fill-mask", "AutoTokenizer"),
            ("BertForPreTraining", "AutoModelForPreTraining", "-", "AutoTokenizer"),
            ("GPT2LMHeadModel", "AutoModelForCausalLM", "text-generation", "AutoTokenizer"),
            ("LlamaForCausalLM", "AutoModelForCausalLM", "text-generation", "AutoTokenizer"),
            ("T5ForConditionalGeneration", "AutoModelForSeq2SeqLM", "text2text-generation", "AutoTokenizer"),
            (
                "TFT5ForConditionalGeneration",
                "AutoModelForSeq2SeqLM",
                "text2text-generation",
                "AutoTokenizer",
            ),
            (
                "WhisperForConditionalGeneration",
                "AutoModelForSpeechSeq2Seq",
                "automatic-speech-recognition",
                "AutoProcessor",
            ),
            ("Wav2Vec2ForCTC", "AutoModelForCTC", "automatic-speech-recognition", "AutoProcessor"),
            (
                "ViTForImageClassification",
                "AutoModelForImageClassification",
                "image-classification",
                "AutoImageProcessor",
            ),
            (
                "DetrForObjectDetection",
                "AutoModelForObjectDetection",
                "object-detection",
                "AutoImageProcessor",
            ),
            (
                "OwlViTForObjectDetection",
                "AutoModelForZeroShotObjectDetection",
                "zero-shot-object-detection",
                "AutoProcessor",
            ),
            (
                "SegformerForSemanticSegmentation",
                "AutoModelForSemanticSegmentation",
                "image-segmentation",
                "AutoImageProcessor",
            ),
            ("VisionEncoderDecoderModel", "AutoModelForImageTextToText", "image-to-text", "AutoProcessor"),
            (
                "DistilBertForSequenceClassification",
                "AutoModelForSequenceClassification",
                "text-classification",
                "AutoTokenizer",
            ),
            (
                "RobertaForTokenClassification",
                "AutoModelForTokenClassification",
                "token-classification",
                "AutoTokenizer",
            ),
            (
                "FlaxBertForQuestionAnswering",
                "AutoModelForQuestionAnswering",
                "question-answering",
                "AutoTokenizer",
            ),
            (
                "HubertForAudioClassification",
                "AutoModelForAudioClassification",
                "audio-classification",
                "AutoFeatureExtractor",
            ),
            (
                "CLIPModel",
                "AutoModelForZeroShotImageClassification",
                "zero-shot-image-classification",
                "AutoProcessor",
            ),
            ("SomethingNew", "AutoModel", "-", "-"),
        ] {
            let config = json!({ "architectures": [architecture], "vocab_size": 9 });
            let expected = (auto_model.to_owned(), pipeline.to_owned(), processor.to_owned());
            assert_eq!(found(config), expected, "{architecture}");
        }
    }

    #[test]
    fn the_configuration_tells_apart_what_the_name_does_not() {
        let of = |architecture: &str, key: &str| found(json!({ "architectures": [architecture], key: {} })).1;
        assert_eq!(of("LlavaForConditionalGeneration", "vision_config"), "image-text-to-text");
        assert_eq!(of("Qwen2AudioForConditionalGeneration", "audio_config"), "audio-text-to-text");
        assert_eq!(of("ViTModel", "image_size"), "image-feature-extraction");
        assert_eq!(of("HubertModel", "feat_extract_norm"), "feature-extraction");
        assert_eq!(info(&json!({ "model_type": "bert" })), None);
        for odd in [json!([]), json!({ "architectures": "x" }), json!({ "architectures": [7] })] {
            assert_eq!(info(&odd), None, "{odd}");
        }
    }

    #[test]
    fn parts_of_configurations() {
        let long = "x".repeat(MAX_VALUE_BYTES);
        let config = json!({ "mask_token": { "content": "[MASK]" }, "pad_token": null, "chat_template": long,
            "added_tokens_decoder": {}, "unk_token": "[UNK]" });
        let found = tokenizer_parts(config.to_string().as_bytes()).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["mask_token", "unk_token"]);
        assert_eq!(mask_token(&found), Some("[MASK]"));
        assert_eq!(mask_token(&Map::from_iter([("mask_token".to_owned(), json!("<mask>"))])), Some("<mask>"));
        assert_eq!(
            (tokenizer_parts(b"[]"), tokenizer_parts(b"{}"), tokenizer_parts(b"\xff")),
            (None, None, None)
        );
        let config = json!({ "architectures": ["BertModel"], "hidden_size": 7, "model_type": "bert" });
        assert_eq!(config_parts(&config).len(), 2);
        assert_eq!(config_parts(&json!([])).len(), 0);
    }

    #[test]
    fn code_of_the_repository_is_named() {
        let config = json!({
            "architectures": ["ChatForConditionalGeneration"],
            "auto_map": { "AutoConfig": "configuration_chat.ChatConfig", "AutoModel": "modeling_chat.Chat",
                "AutoModelForSeq2SeqLM": "modeling_chat.ChatForConditionalGeneration" },
        });
        let both = info(&config).unwrap();
        assert_eq!(both["auto_model"], "AutoModelForSeq2SeqLM");
        assert_eq!(both["custom_class"], "modeling_chat.ChatForConditionalGeneration");
        let only = json!({ "auto_map": { "AutoModel": ["modeling_x.X", null] } });
        assert_eq!(info(&only).unwrap()["custom_class"], "modeling_x.X");
        assert_eq!(info(&only).unwrap()["auto_model"], "AutoModel");
    }
}
