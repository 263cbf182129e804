//! What is allowed but will cause trouble.

/// A problem that does not keep the server from starting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The dotted key.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: &'static str,
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}\n    {}", self.key, self.what, self.remedy)
    }
}

impl Warning {
    /// The warning as one line of the log.
    pub(crate) fn log(&self) {
        tracing::warn!(key = self.key, what = self.what, remedy = self.remedy, "configuration warning");
    }
}
