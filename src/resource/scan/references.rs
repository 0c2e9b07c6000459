//! The buffer that a scan puts references into.

/// The reference texts that the last scan found. Used again for every line, so that nothing is allocated per line.
#[derive(Clone, Debug, Default)]
pub struct References {
    text: String,
    spans: Vec<(usize, usize)>,
}

impl References {
    /// Creates an empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The texts, unescaped: a text comes as often as it was found.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.spans.iter().filter_map(|&(start, end)| self.text.get(start..end))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.spans.clear();
    }
}
