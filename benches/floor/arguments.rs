//! The arguments of a program that is run by another: `--name value`.

use std::collections::BTreeMap;

/// Named values.
#[derive(Clone, Debug, Default)]
pub struct Arguments(BTreeMap<String, String>);

impl Arguments {
    /// Reads `--name value` pairs.
    pub fn parse(words: impl Iterator<Item = String>) -> Self {
        let words: Vec<String> = words.filter(|word| word != "--bench").collect();
        Self(words.chunks(2).filter_map(pair).collect())
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub fn required(&self, name: &str) -> &str {
        self.value(name).unwrap_or_else(|| panic!("--{name} is missing"))
    }

    pub fn number(&self, name: &str) -> Option<usize> {
        self.value(name).map(|text| text.parse().unwrap_or_else(|_| panic!("--{name} {text} is no number")))
    }

    /// The words of a command line.
    pub fn words(&self) -> Vec<String> {
        self.0.iter().flat_map(|(name, value)| [format!("--{name}"), value.clone()]).collect()
    }

    /// The same with another value.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.insert(name.to_owned(), value.to_owned());
        self
    }
}

impl<const COUNT: usize> From<[(&str, &str); COUNT]> for Arguments {
    fn from(pairs: [(&str, &str); COUNT]) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

fn pair(words: &[String]) -> Option<(String, String)> {
    match words {
        [name, value] => Some((name.trim_start_matches("--").to_owned(), value.clone())),
        _ => None,
    }
}
