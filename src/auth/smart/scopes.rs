//! Scopes: which types a token may export.
//!
//! Two grammars are read side by side (HealthLake contract section 7.2):
//! - version 1: `(patient|user|system)/(Type|*).(read|write|*)`
//! - version 2: `(patient|user|system)/(Type|*).` and some of the letters `cruds`, in this order.
//!
//! An export takes `system/` scopes only, and in version 2 both `r` and `s` (Bulk Data IG, row B14): it lists what is
//! there, and hands out what it has listed. The two letters may come from two scopes, since scopes add up. A scope with a
//! query (`system/Observation.rs?category=laboratory`) doesn't apply to an export and grants nothing: to take it without its
//! query would grant more than was meant. A type that R4 doesn't know grants nothing and does no harm (row B18). Scopes of
//! other kinds (`openid`, `launch`, …) are passed over.

use std::collections::BTreeSet;
use std::fmt;

use crate::fhir::ResourceType;
use crate::request::TypeSelection;

/// The letters of version 2, in the order in which they are written.
const LETTERS: &str = "cruds";

/// The value of the header `WWW-Authenticate` for a token whose scopes don't suffice (RFC 6750 section 3.1): the answer is
/// a 403.
const INSUFFICIENT: &str =
    "Bearer error=\"insufficient_scope\", error_description=\"the scopes do not cover the export\"";

/// Most types that a refusal names.
const NAMED_MAX: usize = 20;

/// The types that a token may export: all, or at least one. That there is none is a [`NoExportScope`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readable(TypeSelection);

impl Readable {
    /// Reads the scopes of a token, which blanks separate.
    ///
    /// # Errors
    /// When none of them lets a type be exported.
    pub fn from_scope(scope: &str) -> Result<Self, NoExportScope> {
        let (mut read, mut searched) = (Granted::default(), Granted::default());
        for item in scope.split(' ') {
            let Some(item) = SystemScope::parse(item) else { continue };
            if item.reads {
                read.add(item.of);
            }
            if item.searches {
                searched.add(item.of);
            }
        }
        let both = read.both(searched);
        if both.all {
            return Ok(Self(TypeSelection::All));
        }
        TypeSelection::only(both.types).map(Self).map_err(|_| NoExportScope)
    }

    /// Whether a type may be exported.
    #[must_use]
    pub fn contains(&self, resource_type: &ResourceType) -> bool {
        self.0.contains(resource_type)
    }

    /// The types.
    #[must_use]
    pub const fn types(&self) -> &TypeSelection {
        &self.0
    }

    /// Narrows what a request asks for.
    ///
    /// A request for everything is one for all that may be exported (HealthLake names no rule; the narrower scope is an
    /// answer to what the caller may see, as in a search). One that names types gets these or nothing.
    ///
    /// # Errors
    /// When it names a type that may not be exported (Bulk Data IG, row B16).
    pub fn narrow(&self, asked: &TypeSelection) -> Result<TypeSelection, BeyondScope> {
        asked.within(&self.0).map_err(|types| BeyondScope { types })
    }
}

/// No scope of a token lets a type be exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoExportScope;

impl NoExportScope {
    /// The value of the header `WWW-Authenticate` of a 403.
    #[must_use]
    pub const fn www_authenticate(self) -> &'static str {
        INSUFFICIENT
    }
}

impl fmt::Display for NoExportScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "no scope of the token allows an export: it takes system scopes with read, or r and s, and no query",
        )
    }
}

impl std::error::Error for NoExportScope {}

/// Types that were asked for and that the scopes don't cover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeyondScope {
    types: Vec<ResourceType>,
}

impl BeyondScope {
    /// The types, in byte order.
    #[must_use]
    pub fn types(&self) -> &[ResourceType] {
        &self.types
    }

    /// The value of the header `WWW-Authenticate` of a 403.
    #[must_use]
    pub const fn www_authenticate(&self) -> &'static str {
        INSUFFICIENT
    }
}

impl fmt::Display for BeyondScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the scopes of the token don't cover ")?;
        for (index, resource_type) in self.types.iter().take(NAMED_MAX).enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{resource_type}")?;
        }
        match self.types.len().saturating_sub(NAMED_MAX) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl std::error::Error for BeyondScope {}

/// Types that one permission is given for.
#[derive(Debug, Default)]
struct Granted {
    all: bool,
    types: BTreeSet<ResourceType>,
}

impl Granted {
    fn add(&mut self, of: Of<'_>) {
        match of {
            Of::All => self.all = true,
            Of::Type(name) => self.types.extend(ResourceType::r4(name)),
        }
    }

    /// What both grant.
    fn both(self, other: Self) -> Self {
        let all = self.all && other.all;
        let types = match (self.all, other.all) {
            (true, _) => other.types,
            (false, true) => self.types,
            (false, false) => self.types.intersection(&other.types).cloned().collect(),
        };
        Self { all, types }
    }
}

#[derive(Clone, Copy, Debug)]
enum Of<'a> {
    All,
    Type(&'a str),
}

/// What a `system/` scope grants.
#[derive(Clone, Copy, Debug)]
struct SystemScope<'a> {
    of: Of<'a>,
    reads: bool,
    searches: bool,
}

impl<'a> SystemScope<'a> {
    fn parse(item: &'a str) -> Option<Self> {
        let (of, rights) = item.strip_prefix("system/")?.split_once('.')?;
        let of = if of == "*" { Of::All } else { Of::Type(of) };
        let (reads, searches) = match rights {
            "read" | "*" => (true, true),
            "write" => return None,
            letters if are_letters(letters) => (letters.contains('r'), letters.contains('s')),
            _ => return None,
        };
        Some(Self { of, reads, searches })
    }
}

/// Whether these are some of the letters of version 2, each once and in order.
fn are_letters(text: &str) -> bool {
    let mut left = LETTERS.chars();
    !text.is_empty() && text.chars().all(|letter| left.any(|one| one == letter))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn types(names: &[&str]) -> TypeSelection {
        TypeSelection::only(names.iter().map(|name| ResourceType::r4(name).unwrap())).unwrap()
    }

    #[test]
    fn what_each_scope_grants() {
        const ALL: &[&str] = &["*"];
        const NOTHING: &[&str] = &[];
        #[rustfmt::skip]
        let rows: &[(&str, &str, &[&str])] = &[
            ("every type, version 1", "system/*.read", ALL),
            ("every right, version 1", "system/*.*", ALL),
            ("every type, version 2", "system/*.rs", ALL),
            ("every right, version 2", "system/*.cruds", ALL),
            ("one type, version 1", "system/Patient.read", &["Patient"]),
            ("one type, every right", "system/Patient.*", &["Patient"]),
            ("one type, version 2", "system/Patient.rs", &["Patient"]),
            ("more letters than are needed", "system/Patient.cruds", &["Patient"]),
            ("scopes add up", "system/Patient.rs system/Observation.read", &["Observation", "Patient"]),
            ("a narrow scope beside a wide one", "system/Patient.rs system/*.read", ALL),
            ("letters of two scopes", "system/Patient.r system/Patient.s", &["Patient"]),
            ("letters of a wide and a narrow scope", "system/*.r system/Patient.s", &["Patient"]),
            ("letters of a narrow and a wide scope", "system/Patient.r system/*.s", &["Patient"]),
            ("letters of two wide scopes", "system/*.r system/*.s", ALL),
            ("letters for two types", "system/Patient.r system/Observation.s", NOTHING),
            ("r alone", "system/*.r", NOTHING),
            ("s alone", "system/*.s", NOTHING),
            ("writing, version 1", "system/*.write", NOTHING),
            ("writing, version 2", "system/*.cud", NOTHING),
            ("letters out of order", "system/*.sr", NOTHING),
            ("a letter twice", "system/*.rrs", NOTHING),
            ("an unknown letter", "system/*.rsx", NOTHING),
            ("capital letters", "system/*.RS", NOTHING),
            ("capital rights", "system/*.READ", NOTHING),
            ("capital level", "System/*.read", NOTHING),
            ("no rights", "system/*.", NOTHING),
            ("no dot", "system/*", NOTHING),
            ("no type", "system/.read", NOTHING),
            ("a star of more stars", "system/**.read", NOTHING),
            ("a pattern of types", "system/Pat*.read", NOTHING),
            ("a list of types", "system/Patient,Observation.read", NOTHING),
            ("the whole word only", "system/*.reader", NOTHING),
            ("a scope within a path", "x/system/*.read", NOTHING),
            ("patients' scopes", "patient/*.read", NOTHING),
            ("users' scopes", "user/*.cruds", NOTHING),
            ("a query", "system/Observation.rs?category=laboratory", NOTHING),
            ("a query on everything", "system/*.rs?_security=R", NOTHING),
            ("an empty query", "system/*.rs?", NOTHING),
            ("a query beside its plain scope", "system/Observation.rs?code=1 system/Observation.rs", &["Observation"]),
            ("letters of a query don't add up", "system/Patient.r?x=1 system/Patient.s", NOTHING),
            ("an unknown type", "system/Foo.read", NOTHING),
            ("an unknown type beside a known one", "system/Foo.read system/Patient.read", &["Patient"]),
            ("a type in small letters", "system/patient.read", NOTHING),
            ("scopes of other kinds", "openid fhirUser launch offline_access", NOTHING),
            ("other kinds beside", "openid system/Patient.rs launch/patient", &["Patient"]),
            ("nothing", "", NOTHING),
            ("blanks", "   ", NOTHING),
            ("blanks around", "  system/Patient.rs  ", &["Patient"]),
            ("a tab doesn't separate", "system/Patient.rs\tsystem/*.rs", NOTHING),
            ("a line feed doesn't separate", "openid\nsystem/*.rs", NOTHING),
            ("a comma doesn't separate", "openid,system/*.rs", NOTHING),
            ("the slash of another alphabet", "system\u{2215}*.read", NOTHING),
            ("a NUL behind", "system/*.read\0", NOTHING),
        ];
        for (name, scope, granted) in rows {
            let expected = match *granted {
                [] => Err(NoExportScope),
                ["*"] => Ok(Readable(TypeSelection::All)),
                names => Ok(Readable(types(names))),
            };
            assert_eq!(Readable::from_scope(scope), expected, "{name}: {scope:?}");
        }
    }

    #[test]
    fn the_scopes_that_smart_fetch_asks_for_are_those_of_their_types() {
        let names = ["AllergyIntolerance", "Condition", "DocumentReference", "MedicationDispense", "Patient"];
        let scope: Vec<String> = names.iter().map(|name| format!("system/{name}.read")).collect();
        assert_eq!(Readable::from_scope(&scope.join(" ")), Ok(Readable(types(&names))));
    }

    #[test]
    fn a_request_without_types_gets_those_of_the_scopes() {
        let narrow = Readable::from_scope("system/Patient.rs system/Observation.rs").unwrap();
        assert_eq!(narrow.narrow(&TypeSelection::All), Ok(types(&["Observation", "Patient"])));
        let wide = Readable::from_scope("system/*.rs").unwrap();
        assert_eq!(wide.narrow(&TypeSelection::All), Ok(TypeSelection::All));
        assert_eq!(wide.narrow(&types(&["Patient"])), Ok(types(&["Patient"])));
    }

    #[test]
    fn a_request_for_more_than_the_scopes_cover_is_refused_and_the_types_are_named() {
        let readable = Readable::from_scope("system/Patient.rs").unwrap();
        let refused = readable.narrow(&types(&["Patient", "Observation", "Account"])).unwrap_err();
        assert_eq!(refused.to_string(), "the scopes of the token don't cover Account, Observation");
        assert_eq!(refused.www_authenticate(), NoExportScope.www_authenticate());
        assert!(refused.www_authenticate().starts_with("Bearer error=\"insufficient_scope\""));
        let all = TypeSelection::only(ResourceType::all_r4()).unwrap();
        assert!(readable.narrow(&all).unwrap_err().to_string().ends_with(" and 125 more"));
    }

    fn some_types() -> impl Strategy<Value = TypeSelection> {
        let some = proptest::sample::subsequence(ResourceType::all_r4().take(8).collect::<Vec<_>>(), 0..8);
        some.prop_map(|some| TypeSelection::only(some).unwrap_or(TypeSelection::All))
    }

    /// Scopes as they come, most of them near the grammar.
    fn some_scope() -> impl Strategy<Value = String> {
        let level = prop_oneof![4 => Just("system"), 1 => Just("patient"), 1 => Just("user"), 1 => Just("SYSTEM")];
        let of = prop_oneof![
            Just("*".to_owned()),
            proptest::sample::select(ResourceType::all_r4().take(8).collect::<Vec<_>>())
                .prop_map(|one| one.as_str().to_owned()),
            Just("Foo".to_owned()),
        ];
        let rights = proptest::sample::select(vec!["read", "write", "*", "rs", "r", "s", "cruds", "sr", "rs?a=b", ""]);
        (level, of, rights).prop_map(|(level, of, rights)| format!("{level}/{of}.{rights}"))
    }

    /// The rules read from the text, one type at a time.
    fn naive(scopes: &[String], one: &ResourceType) -> bool {
        let has = |letter: char| {
            scopes.iter().any(|scope| {
                ["*", one.as_str()].iter().any(|of| {
                    let rights = scope.strip_prefix(&format!("system/{of}."));
                    rights.is_some_and(|rights| match rights {
                        "read" | "*" => true,
                        "r" | "s" | "rs" | "cruds" => rights.contains(letter),
                        _ => false,
                    })
                })
            })
        };
        has('r') && has('s')
    }

    proptest! {
        #[test]
        fn narrowing_gives_no_type_beyond_the_scopes_or_the_request(
            scopes in prop::collection::vec(some_scope(), 0..6),
            asked in some_types(),
        ) {
            let readable = Readable::from_scope(&scopes.join(" "));
            for one in ResourceType::all_r4() {
                let may = readable.as_ref().is_ok_and(|readable| readable.contains(&one));
                prop_assert_eq!(may, naive(&scopes, &one), "{} {:?}", one, scopes);
            }
            let Ok(readable) = readable else { return Ok(()) };
            match readable.narrow(&asked) {
                Ok(granted) => for one in ResourceType::all_r4() {
                    let expected = asked.contains(&one) && readable.contains(&one);
                    prop_assert_eq!(granted.contains(&one), expected, "{} {:?}", one, scopes);
                },
                Err(beyond) => {
                    prop_assert!(matches!(asked, TypeSelection::Only(_)) && !beyond.types().is_empty());
                    for one in beyond.types() {
                        prop_assert!(asked.contains(one) && !readable.contains(one));
                    }
                }
            }
        }

        #[test]
        fn any_text_can_be_read_as_scopes(text in ".{0,200}") {
            if let Ok(Readable(TypeSelection::All)) = Readable::from_scope(&text) {
                prop_assert!(text.contains("system/*."));
            }
        }
    }
}
