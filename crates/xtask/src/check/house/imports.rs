//! The head of a file: `mod`, then `use` in three groups (std, other crates, this crate), then `pub use`.
//!
//! rustfmt sorts inside a group but does not order the groups; this module checks their order.

/// An import's group; the variants are in the required order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ImportGroup {
    Std,
    OtherCrates,
    ThisCrate,
}

/// The unindented statements of a file's head, in the required order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum HeadPart {
    Module,
    Import,
    Export,
    Item,
}

pub(super) fn check(file: &str, text: &str) -> Vec<String> {
    let mut found = groups(file, text);
    found.extend(head(file, text));
    found
}

/// Checks neighbouring imports: their groups ascend, and a blank line separates groups but nothing else.
fn groups(file: &str, text: &str) -> Vec<String> {
    let modules: Vec<&str> = text.lines().filter_map(|line| module(line.trim_start())).collect();
    let mut found = Vec::new();
    // The import above: its group, its indentation, and whether a blank line followed.
    let mut above: Option<(ImportGroup, usize, bool)> = None;
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        if inside {
            inside = !trimmed.ends_with(';');
        } else if let Some(path) = trimmed.strip_prefix("use ") {
            let (group, indent) = (group(path, &modules), line.len() - trimmed.len());
            if let Some((before, _, blank)) = above.filter(|(_, at, _)| *at == indent) {
                if before > group {
                    found.push(format!(
                        "{file}:{}: imports must be in the order std, other crates, this crate",
                        number + 1
                    ));
                } else if blank != (before != group) {
                    found.push(format!(
                        "{file}:{}: one blank line between two groups of imports, none inside one",
                        number + 1
                    ));
                }
            }
            above = Some((group, indent, false));
            inside = !trimmed.ends_with(';');
        } else if trimmed.is_empty() {
            above = above.map(|(group, indent, _)| (group, indent, true));
        } else {
            above = None;
        }
    }
    found
}

fn group(path: &str, modules: &[&str]) -> ImportGroup {
    let first = path.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next().unwrap_or_default();
    match first {
        "std" | "core" | "alloc" => ImportGroup::Std,
        "crate" | "super" | "self" => ImportGroup::ThisCrate,
        // Variants of an enum, or a module of this file.
        _ if first.starts_with(char::is_uppercase) || modules.contains(&first) => ImportGroup::ThisCrate,
        _ => ImportGroup::OtherCrates,
    }
}

/// The name that `mod name;` declares.
fn module(line: &str) -> Option<&str> {
    let line = line
        .strip_prefix("pub ")
        .or_else(|| line.split_once(") ").filter(|_| line.starts_with("pub(")).map(|(_, rest)| rest))
        .unwrap_or(line);
    line.strip_prefix("mod ")?.strip_suffix(';')
}

/// Checks the order of a head's parts. Tests in a separate file are declared last, and a macro is exported after its definition.
fn head(file: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut reached = HeadPart::Module;
    let (mut for_tests, mut macros) = (false, false);
    for (number, line) in text.lines().enumerate() {
        macros |= line.starts_with("macro_rules!");
        if let Some(part) = part(line) {
            let exempt = (part == HeadPart::Module && for_tests) || (part == HeadPart::Export && macros);
            if part < reached && !exempt {
                found.push(format!("{file}:{}: a file must begin with `mod`, then `use`, then `pub use`", number + 1));
            }
            reached = if exempt { reached } else { reached.max(part) };
        }
        for_tests = line.starts_with("#[cfg(test)]") || (for_tests && line.starts_with("#["));
    }
    found
}

fn part(line: &str) -> Option<HeadPart> {
    const ITEMS: &[&str] = &[
        "fn ",
        "struct ",
        "enum ",
        "trait ",
        "impl",
        "const ",
        "static ",
        "type ",
        "async ",
        "unsafe ",
        "macro_rules!",
    ];
    if module(line).is_some() {
        return Some(HeadPart::Module);
    }
    if line.starts_with("use ") {
        return Some(HeadPart::Import);
    }
    let public = line.starts_with("pub ") || line.starts_with("pub(");
    if public && line.contains(" use ") && !line.contains('=') {
        return Some(HeadPart::Export);
    }
    (public || ITEMS.iter().any(|item| line.starts_with(item))).then_some(HeadPart::Item)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_ascend_and_a_blank_line_parts_them() {
        let good = "mod own;\n\nuse std::fmt;\nuse std::io;\n\nuse pki::Oid;\n\nuse crate::a::{\n    B,\n};\nuse own::C;\n\npub use own::D;\n";
        assert!(check("a.rs", good).is_empty(), "{:?}", check("a.rs", good));
        for bad in [
            "use pki::Oid;\n\nuse std::fmt;\n",
            "use std::fmt;\nuse pki::Oid;\n",
            "use std::fmt;\n\nuse std::io;\n",
            "mod own;\nuse own::C;\n\nuse pki::Oid;\n",
            "mod tests {\n    use super::*;\n    use std::fmt;\n}\n",
        ] {
            assert_eq!(check("a.rs", bad).len(), 1, "{bad}");
        }
    }

    #[test]
    fn a_head_has_an_order_and_tests_come_last() {
        let good = "mod a;\nuse a::B;\npub use a::C;\nfn f() {}\n#[cfg(test)]\n#[path = \"t.rs\"]\nmod tests;\n";
        assert!(head("a.rs", good).is_empty());
        for bad in [
            "use a::B;\nmod a;\n",
            "pub use a::C;\nuse a::B;\n",
            "fn f() {}\nuse a::B;\n",
            "fn f() {}\npub(crate) use a::C;\n",
        ] {
            assert_eq!(head("a.rs", bad).len(), 1, "{bad}");
        }
        assert!(head("a.rs", "macro_rules! out {}\npub(crate) use {out};\n").is_empty());
    }
}
