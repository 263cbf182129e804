//! The part of PromQL that is needed to find the series that a query reads and its comparisons. Prometheus itself checks the syntax.

/// Words that are not metrics although no parenthesis follows them.
const WORDS: &[&str] = &[
    "and",
    "or",
    "unless",
    "bool",
    "offset",
    "inf",
    "nan",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "sum",
    "min",
    "max",
    "avg",
    "count",
    "topk",
    "bottomk",
    "quantile",
    "count_values",
    "stddev",
    "stdvar",
    "group",
];
/// Words whose parentheses contain label names.
const GROUPING: &[&str] = &["by", "without", "on", "ignoring", "group_left", "group_right"];
const COMPARISONS: &[&str] = &["==", "!=", ">=", "<=", ">", "<"];

/// A series that a query reads: a metric and its label matchers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Selector {
    pub(super) metric: String,
    matchers: String,
}

impl Selector {
    /// The series as a separate query.
    pub(super) fn query(&self) -> String {
        format!("{}{}", self.metric, self.matchers)
    }
}

/// The series that a query reads, without duplicates.
pub(super) fn selectors(query: &str) -> Vec<Selector> {
    let tokens = tokens(query);
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let next = tokens.get(at + 1).map_or("", String::as_str);
        if GROUPING.contains(&token.as_str()) && next == "(" {
            at += tokens.get(at..).unwrap_or_default().iter().take_while(|token| *token != ")").count();
        } else if is_name(token) && !WORDS.contains(&token.as_str()) && next != "(" {
            let matchers = if next.starts_with('{') { next.to_owned() } else { String::new() };
            found.push(Selector { metric: token.clone(), matchers });
        }
        at += 1;
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// The query without its comparisons with a number: the value that an alert compares.
pub(super) fn without_comparisons(query: &str) -> String {
    let mut kept: Vec<String> = Vec::new();
    let mut tokens = tokens(query).into_iter().peekable();
    while let Some(token) = tokens.next() {
        let is_number = |token: &String| token.parse::<f64>().is_ok();
        if COMPARISONS.contains(&token.as_str()) && tokens.next_if(is_number).is_some() {
            continue;
        }
        kept.push(token);
    }
    kept.join(" ")
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_' || first == ':')
}

/// Matchers in braces, ranges in brackets and quoted texts are one token each.
fn tokens(query: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = query.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '{' => enclosed(rest, '}'),
            '[' => enclosed(rest, ']'),
            '"' | '\'' => enclosed(rest, first),
            _ if is_name(rest) => run(rest, |letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | ':')),
            _ if first.is_ascii_digit() => run(rest, |letter| letter.is_ascii_alphanumeric() || letter == '.'),
            _ => COMPARISONS.iter().find(|it| rest.starts_with(**it)).map_or(first.len_utf8(), |it| it.len()),
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token.to_owned());
        rest = after.trim_start();
    }
    tokens
}

fn run(text: &str, of: impl Fn(char) -> bool) -> usize {
    text.find(|letter| !of(letter)).unwrap_or(text.len())
}

/// Reads up to `end`; an `end` inside a quoted text does not count.
fn enclosed(text: &str, end: char) -> usize {
    let mut quote = None;
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match quote {
            None if letter == end => return at + letter.len_utf8(),
            None if matches!(letter, '"' | '\'') && !matches!(end, '"' | '\'') => quote = Some(letter),
            Some(open) if letter == open && !escaped => quote = None,
            _ => {}
        }
        escaped = letter == '\\' && !escaped;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Vec<String> {
        selectors(query).iter().map(Selector::query).collect()
    }

    #[test]
    fn what_a_query_reads_is_found_and_labels_and_functions_are_not() {
        let query = r#"sum by (job, le) (rate(a_total{x="}",y=~"b|c"}[5m])) / on (job) group_left () max(level:b:ratio) and c_seconds offset 5m"#;
        assert_eq!(read(query), [r#"a_total{x="}",y=~"b|c"}"#, "c_seconds", "level:b:ratio"]);
        assert_eq!(read("histogram_quantile(0.95, sum by (le) (rate(d_bucket[5m]))) > 2.5"), ["d_bucket"]);
        assert_eq!(read(r#"topk(10, sum without (a) (e)) or vector(1) or e"#), ["e"]);
        assert_eq!(read("(f - time()) / 86400 < 30"), ["f"]);
    }

    #[test]
    fn comparisons_with_a_number_go_and_all_else_stays() {
        assert_eq!(without_comparisons("a{b=\"c > 3\"} > 0.9 and on (x) d == 0"), "a {b=\"c > 3\"} and on ( x ) d");
        assert_eq!(without_comparisons("(a - time()) / 86400 >= 7"), "( a - time ( ) ) / 86400");
        assert_eq!(without_comparisons("rate(a[5m]) > b"), "rate ( a [5m] ) > b");
    }
}
