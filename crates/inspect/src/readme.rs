//! The text of a README: its first paragraph and how it wants to be cited.

/// Longest description and citation that are kept.
const MAX_DESCRIPTION_BYTES: usize = 2000;
const MAX_CITATION_BYTES: usize = 8 * 1024;
/// Lines that are looked at for a first paragraph.
const MAX_LINES: usize = 2000;

/// The first paragraph of plain text: no headings, pictures, tables, lists, code or markup.
pub fn description(text: &str) -> Option<String> {
    let mut paragraph = String::new();
    let (mut code, mut comment) = (false, false);
    for line in text.lines().take(MAX_LINES).map(str::trim) {
        if line.starts_with("```") {
            code = !code;
            continue;
        }
        comment |= line.starts_with("<!--");
        let skipped = code || comment;
        comment &= !line.contains("-->");
        if skipped || !is_prose(line) {
            if paragraph.is_empty() {
                continue;
            }
            break;
        }
        if !paragraph.is_empty() {
            paragraph.push(' ');
        }
        paragraph.push_str(line);
        if paragraph.len() >= MAX_DESCRIPTION_BYTES {
            break;
        }
    }
    shortened(&mut paragraph, MAX_DESCRIPTION_BYTES);
    (!paragraph.is_empty()).then_some(paragraph)
}

fn is_prose(line: &str) -> bool {
    let picture = line.starts_with("![") || line.starts_with("[![");
    let item = ["- ", "* ", "+ ", "> "].iter().any(|mark| line.starts_with(mark));
    let rule = line.chars().all(|c| matches!(c, '-' | '=' | '*' | '_'));
    !rule && !picture && !item && !line.starts_with(['#', '|', '<', ':'])
}

/// The first BibTeX entry of a text, in a block of code or not.
pub fn citation(text: &str) -> Option<String> {
    const KINDS: &[&str] = &[
        "@article{",
        "@inproceedings{",
        "@misc{",
        "@dataset{",
        "@book{",
        "@software{",
        "@techreport{",
        "@online{",
        "@phdthesis{",
        "@data{",
        "@conference{",
        "@incollection{",
        "@unpublished{",
    ];
    let starts = text.match_indices('@').map(|(at, _)| at);
    let start = starts.into_iter().find(|at| {
        let rest = text.as_bytes().get(*at..).unwrap_or_default();
        KINDS
            .iter()
            .any(|kind| rest.get(..kind.len()).is_some_and(|head| head.eq_ignore_ascii_case(kind.as_bytes())))
    })?;
    let entry = text.get(start..)?;
    let mut depth = 0_usize;
    for (at, byte) in entry.bytes().enumerate().take(MAX_CITATION_BYTES) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth <= 1 => return entry.get(..=at).map(ToOwned::to_owned),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Cuts a text where a character ends.
fn shortened(text: &mut String, most: usize) {
    if text.len() > most {
        let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_paragraph() {
        let text = "\n# Title\n\n![a picture](x.png)\n<!-- a note\nof two lines -->\n\nSquares are\nshapes.\n\nMore.";
        assert_eq!(description(text).as_deref(), Some("Squares are shapes."));
        assert_eq!(description("- a list\n\n| a | table |\n```\ncode\n```\nText."), Some("Text.".to_owned()));
        assert_eq!(description("# Only a heading\n\n---\n"), None);
        assert_eq!(description(&"ü".repeat(3000)).map(|text| text.len()), Some(MAX_DESCRIPTION_BYTES));
    }

    #[test]
    fn the_first_citation() {
        let text = "mail me@misc.org\n```bibtex\n@Article{x,\n title={A {Big} Title},\n}\n```\n@misc{y}";
        assert_eq!(citation(text).as_deref(), Some("@Article{x,\n title={A {Big} Title},\n}"));
        assert_eq!(citation("@misc{never closed"), None);
        assert_eq!(citation("nothing @ all"), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "(@misc\\{)?\\PC{0,200}") {
            let _ = (description(&text), citation(&text));
        }
    }
}
