//! A page that a comment refers to must exist in this tree.

/// Pages that comments name and that are not in `tree`; a path with `..` leads out of the tree.
pub(super) fn check(file: &str, text: &str, tree: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let Some(comment) = comment(file, line) else { continue };
        let words = comment.split(|letter: char| !letter.is_ascii_alphanumeric() && !"._-/".contains(letter));
        for word in words.map(|word| word.trim_end_matches('.')) {
            let known = |page: &String| page == word || page.ends_with(&format!("/{word}"));
            if (word.ends_with(".md") && word != ".md" && !tree.iter().any(known)) || word.starts_with("../shared") {
                found.push(format!("{file}:{}: `{word}` is not in the tree", number + 1));
            }
        }
    }
    found
}

/// The part of a line that is a comment. In a string, `//` is preceded by a colon or a quote.
fn comment<'a>(file: &str, line: &'a str) -> Option<&'a str> {
    let mark = if file.ends_with(".rs") { "//" } else { "#" };
    let at = line.find(mark)?;
    let before = line[..at].chars().next_back();
    before.is_none_or(char::is_whitespace).then(|| &line[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_is_not_in_the_tree_is_found() {
        let tree = ["README.md".to_owned(), "crates/xtask/cases/STATUS.md".to_owned()];
        assert!(check("a.rs", "/// See `README.md` and cases/STATUS.md.\nlet page = \"NONE.md\";\n", &tree).is_empty());
        assert_eq!(check("a.rs", "x();\n//! NONE.md, E28.\n", &tree), ["a.rs:2: `NONE.md` is not in the tree"]);
        assert_eq!(check("a.toml", "x = 1 # see ../shared/PAGE.md\n", &tree).len(), 1);
    }
}
