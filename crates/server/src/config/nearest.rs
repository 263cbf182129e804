//! The known name that an unknown one is most likely a misspelling of.

/// A name at least this similar to a known one (Jaro-Winkler) counts as a misspelling of it.
const NEAR: f64 = 0.75;

/// The name that `key` is most likely a misspelling of, if one is similar enough.
pub(super) fn nearest<'k>(key: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(key, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
