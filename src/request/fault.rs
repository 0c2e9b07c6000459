//! What is wrong with a request: every fault of it, together.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use crate::error::{Error, ErrorKind};

/// A value of the caller is quoted up to so many characters.
const EXCERPT_CHARACTERS: usize = 100;

/// So many faults of one request are kept, the rest is counted: a long query of nonsense must not become a long answer.
const KEPT_FAULTS: usize = 100;

/// The beginning of a text from outside, at most 100 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    text: Box<str>,
    is_cut: bool,
}

impl Excerpt {
    /// Cuts a text at 100 characters.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let end = text.char_indices().nth(EXCERPT_CHARACTERS).map(|(end, _)| end);
        let kept = end.and_then(|end| text.get(..end));
        Self { text: kept.unwrap_or(text).into(), is_cut: kept.is_some() }
    }

    /// The text as far as it was kept.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether something was cut off.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.is_cut
    }
}

impl fmt::Display for Excerpt {
    /// Writes the text quoted on one line, with `…` after it when it was cut.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)?;
        if self.is_cut { f.write_char('…') } else { Ok(()) }
    }
}

/// The sort of a fault, as far as an answer's code depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// The value isn't one that is accepted.
    Value,
    /// The value is of the wrong JSON type, or the text around it can't be read.
    Structure,
    /// The parameter isn't supported.
    Unsupported,
    /// Something that must be there isn't.
    Missing,
    /// The value names what isn't there.
    NotFound,
    /// Something that may be given once was given again.
    Repeated,
}

/// One fault of a request: which parameter, what is wrong with which value, what is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    kind: FaultKind,
    parameter: Box<str>,
    value: Option<Excerpt>,
    problem: Cow<'static, str>,
    accepted: Cow<'static, str>,
}

impl Fault {
    /// Creates a fault.
    ///
    /// `problem` completes a sentence that begins with the parameter, such as "isn't supported"; `accepted` is a
    /// noun phrase.
    #[must_use]
    pub fn new(
        kind: FaultKind,
        parameter: &str,
        problem: impl Into<Cow<'static, str>>,
        accepted: impl Into<Cow<'static, str>>,
    ) -> Self {
        let parameter = Excerpt::new(parameter).text;
        Self { kind, parameter, value: None, problem: problem.into(), accepted: accepted.into() }
    }

    /// Adds the value that is wrong, cut at 100 characters.
    #[must_use]
    pub fn with_value(mut self, value: &str) -> Self {
        self.value = Some(Excerpt::new(value));
        self
    }

    /// The same fault under another parameter's name, for a caller who knows where the value stood.
    #[must_use]
    pub fn at(mut self, parameter: &str) -> Self {
        self.parameter = Excerpt::new(parameter).text;
        self
    }

    /// The sort of the fault.
    #[must_use]
    pub const fn kind(&self) -> FaultKind {
        self.kind
    }

    /// The parameter as its sender wrote it: `_since`, `--since`, `OutputDataConfig.S3Configuration.S3Uri`.
    #[must_use]
    pub fn parameter(&self) -> &str {
        &self.parameter
    }

    /// The value that is wrong, unless the fault is that there is one, or none.
    #[must_use]
    pub const fn value(&self) -> Option<&Excerpt> {
        self.value.as_ref()
    }

    /// What is accepted instead.
    #[must_use]
    pub fn accepted(&self) -> &str {
        &self.accepted
    }
}

impl fmt::Display for Fault {
    /// Writes one line: `_type "Foo" isn't a resource type of R4 (accepted: …)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The name of an unknown parameter is the caller's, line ends and all.
        let name = self.parameter.escape_debug();
        if self.parameter.is_empty() {
            f.write_str("\"\"")?
        } else {
            write!(f, "{name}")?
        }
        if let Some(value) = &self.value {
            write!(f, " {value}")?;
        }
        write!(f, " {} (accepted: {})", self.problem, self.accepted)
    }
}

impl std::error::Error for Fault {}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Refusal::from(fault).into()
    }
}

/// Faults in the order in which they were found, none of them twice; beyond 100 they are only counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    kept: Vec<Fault>,
    not_kept: usize,
}

impl Faults {
    /// Adds a fault.
    pub fn push(&mut self, fault: Fault) {
        if self.kept.contains(&fault) {
            return;
        }
        if self.kept.len() < KEPT_FAULTS {
            self.kept.push(fault);
        } else {
            self.not_kept += 1;
        }
    }

    /// The faults that were kept.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.kept.iter()
    }

    /// How many more there were.
    #[must_use]
    pub const fn not_kept(&self) -> usize {
        self.not_kept
    }

    /// Whether there is no fault.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Faults {
    /// Writes the faults on one line, joined with `; `.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.kept.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{fault}")?;
        }
        if self.not_kept > 0 {
            write!(f, "; and {} more", self.not_kept)?;
        }
        Ok(())
    }
}

/// The answer to a request that isn't valid: all its faults, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(Faults);

impl Refusal {
    /// Refuses if there is any fault.
    ///
    /// # Errors
    /// When `faults` isn't empty.
    pub fn unless_empty(faults: Faults) -> Result<(), Self> {
        if faults.is_empty() { Ok(()) } else { Err(Self(faults)) }
    }

    /// The faults.
    #[must_use]
    pub const fn faults(&self) -> &Faults {
        &self.0
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self(Faults { kept: vec![fault], not_kept: 0 })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for Error {
    /// Keeps the refusal as the cause, for faces that tell each fault by its parameter.
    fn from(refusal: Refusal) -> Self {
        Self::new(ErrorKind::InvalidRequest, refusal.to_string()).caused_by(refusal)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fault(parameter: &str) -> Fault {
        Fault::new(FaultKind::Value, parameter, "isn't a type", "types")
    }

    #[test]
    fn a_fault_says_which_parameter_which_value_and_what_is_accepted() {
        let fault = fault("_type").with_value("Foo\n\"");
        assert_eq!(fault.to_string(), r#"_type "Foo\n\"" isn't a type (accepted: types)"#);
        assert_eq!(fault.value().map(Excerpt::as_str), Some("Foo\n\""));
    }

    #[test]
    fn the_name_of_an_unknown_parameter_stays_on_one_line() {
        assert_eq!(fault("a\nb").to_string(), r"a\nb isn't a type (accepted: types)");
        assert_eq!(fault("").to_string(), r#""" isn't a type (accepted: types)"#);
        assert_eq!(fault(&"é".repeat(101)).parameter().chars().count(), 100);
    }

    #[test]
    fn a_refusal_is_an_invalid_request_that_names_all_faults() {
        let mut faults = Faults::default();
        faults.push(fault("a"));
        faults.push(fault("b"));
        faults.push(fault("a"));
        let error = Error::from(Refusal(faults));
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
        let told = "a isn't a type (accepted: types); b isn't a type (accepted: types)";
        assert_eq!((error.to_string(), format!("{error:#}")), (told.to_owned(), told.to_owned()), "and nothing twice");
    }

    #[test]
    fn a_flood_of_faults_is_counted_and_not_kept() {
        let mut faults = Faults::default();
        (0..1000).for_each(|number| faults.push(fault(&number.to_string())));
        assert_eq!((faults.iter().count(), faults.not_kept()), (100, 900));
        assert!(faults.to_string().ends_with("; and 900 more"));
    }

    #[test]
    fn a_value_of_100_characters_is_whole_and_one_of_101_is_cut() {
        let whole = "ü".repeat(100);
        assert_eq!(Excerpt::new(&whole).to_string(), format!("\"{whole}\""));
        assert_eq!(Excerpt::new(&format!("{whole}x")).to_string(), format!("\"{whole}\"…"));
    }

    proptest! {
        #[test]
        fn a_cut_never_splits_a_character(text in "\\PC{0,250}") {
            let excerpt = Excerpt::new(&text);
            let first: String = text.chars().take(100).collect();
            prop_assert_eq!(excerpt.as_str(), first.as_str());
            prop_assert_eq!(excerpt.is_cut(), first.len() < text.len());
        }
    }
}
