//! Names in one folder that many systems take for the same.

use std::collections::BTreeMap;

use unicode_normalization::UnicodeNormalization;

/// Up to so many new names are compared with all others one by one.
const FEW: usize = 8;

/// A name as systems compare it that keep apart neither upper and lower case nor letters written
/// as one character or as several.
pub(crate) fn folded_name(name: &str) -> String {
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    name.nfc().flat_map(char::to_lowercase).nfc().collect()
}

/// An added name and another of the folder that differ only in case or composition, if there are such: (other, added).
/// What clashes already stays as it is.
pub(crate) fn clash<'a>(
    names: impl Iterator<Item = &'a str> + Clone,
    added: &[&'a str],
) -> Option<(&'a str, &'a str)> {
    if added.len() > FEW {
        return clash_of_many(names, added);
    }
    let folded: Vec<(String, &str)> = added.iter().map(|name| (folded_name(name), *name)).collect();
    for name in names {
        for (folded, added) in &folded {
            if name != *added && is_folded(name, folded) {
                return Some((name, added));
            }
        }
    }
    None
}

fn is_folded(name: &str, folded: &str) -> bool {
    if name.is_ascii() { name.eq_ignore_ascii_case(folded) } else { folded_name(name) == folded }
}

fn clash_of_many<'a>(names: impl Iterator<Item = &'a str>, added: &[&'a str]) -> Option<(&'a str, &'a str)> {
    let mut folded: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for name in names {
        folded.entry(folded_name(name)).or_default().push(name);
    }
    added.iter().find_map(|name| {
        let alike = folded.get(&folded_name(name))?;
        alike.iter().find(|other| *other != name).map(|other| (*other, *name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_many_clash_alike() {
        let names = ["a", "README.md", "readme.MD", "stra\u{df}e", "\u{e9}", "e\u{301}", "k", "\u{212a}"];
        for added in [&["a"][..], &["README.md"], &["\u{e9}"], &["\u{212a}"], &["k"]] {
            let (few, many) =
                (clash(names.iter().copied(), added), clash_of_many(names.iter().copied(), added));
            assert_eq!(few.is_some(), many.is_some(), "{added:?}");
            assert_eq!(few.is_none(), added == ["a"], "{added:?}");
        }
    }
}
