//! The table of answers.
