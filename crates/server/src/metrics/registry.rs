//! Where series are registered: with the recorder of the metrics, or nowhere.

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};

/// Where series are registered.
#[derive(Clone, Copy)]
pub(super) struct Registry<'r>(pub(super) &'r dyn Recorder);

type Labels<'l> = [(&'static str, &'l str)];

const METADATA: Metadata<'static> = Metadata::new("server", Level::INFO, None);

impl Registry<'_> {
    pub(super) fn counter(self, name: &'static str, labels: &Labels<'_>) -> Counter {
        self.0.register_counter(&key(name, labels), &METADATA)
    }

    pub(super) fn gauge(self, name: &'static str, labels: &Labels<'_>) -> Gauge {
        self.0.register_gauge(&key(name, labels), &METADATA)
    }

    pub(super) fn histogram(self, name: &'static str, labels: &Labels<'_>) -> Histogram {
        self.0.register_histogram(&key(name, labels), &METADATA)
    }
}

fn key(name: &'static str, labels: &Labels<'_>) -> Key {
    let labels: Vec<Label> = labels.iter().map(|(label, value)| Label::new(*label, (*value).to_owned())).collect();
    Key::from_parts(name, labels)
}
