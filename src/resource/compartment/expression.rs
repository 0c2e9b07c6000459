//! The FHIRPath shapes that reference search parameters are written in, turned into JSON paths.
//!
//! Taken are `A.b.c`, `|`, parentheses, `.where(resolve() is Patient)`, `(A.b as Reference)`, `A.b.as(Reference)` and
//! its later form `A.b.ofType(Reference)`. Everything else is refused rather than guessed at.
//!
//! A choice element (`code[x]`) has the type in its JSON name: `codeReference`. In R4 a reference search parameter on
//! a choice element always says `as Reference`, and says it of no other element: of all reference parameters of 4.0.1
//! these are the choices of DeviceRequest.code, Medication.ingredient.item, MedicationKnowledge.ingredient.item,
//! Substance.ingredient.substance, Composition.relatesTo.target and the four `medication[x]`. A path without it is
//! therefore taken as it stands. None of the 98 paths of the Patient compartment is a choice; in HL7's examples and in
//! Synthea's data 97 of them occur as Reference objects under their plain names (Invoice.recipient isn't used there).

/// Longest expression that is read, in bytes. R4's longest reference parameter has about 1,500.
const LENGTH_LIMIT_BYTES: usize = 64 * 1024;

/// How deep parentheses may be nested.
const PARENTHESES_LIMIT: usize = 32;

/// Longest path, in names.
const NAMES_LIMIT: usize = 32;

/// One path of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selection {
    /// Member names below the type, joined by dots.
    pub(super) path: String,
    /// The only type of target that counts, when the expression says so.
    pub(super) target: Option<String>,
}

/// The paths that an expression has for one resource type, the parts for other types left out unread.
///
/// None when its shape isn't one of those above.
pub(super) fn selections(expression: &str, resource_type: &str) -> Option<Vec<Selection>> {
    if expression.len() > LENGTH_LIMIT_BYTES {
        return None;
    }
    let mut found = Vec::new();
    for part in top_level_parts(expression)? {
        if !may_start_at(part, resource_type) {
            continue;
        }
        let mut parser = Parser { rest: part, open: 0 };
        let paths = parser.union()?;
        if !parser.rest.is_empty() {
            return None;
        }
        found.extend(paths.into_iter().filter(|path| path.starts_at(resource_type)).map(Path::into_selection));
    }
    Some(found)
}

/// Whether a part may have a path of the type. A part in parentheses has to be read to know.
fn may_start_at(part: &str, resource_type: &str) -> bool {
    let mut names = part.split(|character: char| !character.is_ascii_alphanumeric()).filter(|name| !name.is_empty());
    if part.trim_start().starts_with('(') {
        names.any(|name| is_base(name, resource_type))
    } else {
        names.next().is_none_or(|name| is_base(name, resource_type))
    }
}

fn is_base(name: &str, resource_type: &str) -> bool {
    [resource_type, "DomainResource", "Resource"].contains(&name)
}

/// Splits at each `|` that stands outside parentheses and quotes.
fn top_level_parts(expression: &str) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    let (mut open, mut quoted, mut start) = (0_usize, false, 0);
    for (at, character) in expression.char_indices() {
        match character {
            '\'' => quoted = !quoted,
            '(' if !quoted => open += 1,
            ')' if !quoted => open = open.checked_sub(1)?,
            '|' if !quoted && open == 0 => {
                parts.push(expression.get(start..at)?);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(expression.get(start..)?);
    (open == 0 && !quoted).then_some(parts)
}

struct Path {
    names: Vec<String>,
    target: Option<String>,
    is_choice: bool,
}

impl Path {
    fn starts_at(&self, resource_type: &str) -> bool {
        self.names.first().is_some_and(|first| is_base(first, resource_type))
    }

    fn into_selection(self) -> Selection {
        let path = self.names.get(1..).unwrap_or_default().join(".");
        Selection { path, target: self.target }
    }

    fn choose_reference(&mut self) -> Option<()> {
        if self.is_choice || self.names.len() < 2 {
            return None;
        }
        self.is_choice = true;
        self.names.last_mut()?.push_str("Reference");
        Some(())
    }
}

/// Reads an expression from left to right. Every method returns none at the first thing that doesn't fit.
struct Parser<'e> {
    rest: &'e str,
    open: usize,
}

impl<'e> Parser<'e> {
    fn union(&mut self) -> Option<Vec<Path>> {
        let mut paths = self.cast()?;
        while self.takes("|") {
            paths.extend(self.cast()?);
        }
        Some(paths)
    }

    fn cast(&mut self) -> Option<Vec<Path>> {
        let mut paths = self.invocations()?;
        if self.name_is_next("as") {
            self.name()?;
            self.reference_type(&mut paths)?;
        }
        Some(paths)
    }

    fn invocations(&mut self) -> Option<Vec<Path>> {
        let mut paths = self.term()?;
        while self.takes(".") {
            let name = self.name()?;
            match (name, self.takes("(")) {
                ("where", true) => self.resolve_is(&mut paths)?,
                ("as" | "ofType", true) => {
                    self.reference_type(&mut paths)?;
                    self.expect(")")?;
                }
                (_, true) => return None,
                (name, false) => Self::go_down(&mut paths, name)?,
            }
        }
        Some(paths)
    }

    fn term(&mut self) -> Option<Vec<Path>> {
        if !self.takes("(") {
            let names = vec![self.name()?.to_owned()];
            return Some(vec![Path { names, target: None, is_choice: false }]);
        }
        self.open += 1;
        if self.open > PARENTHESES_LIMIT {
            return None;
        }
        let paths = self.union()?;
        self.expect(")")?;
        self.open -= 1;
        Some(paths)
    }

    fn go_down(paths: &mut [Path], name: &str) -> Option<()> {
        for path in paths {
            if path.is_choice || path.target.is_some() || path.names.len() >= NAMES_LIMIT {
                return None;
            }
            path.names.push(name.to_owned());
        }
        Some(())
    }

    fn reference_type(&mut self, paths: &mut [Path]) -> Option<()> {
        if self.name()? != "Reference" {
            return None;
        }
        paths.iter_mut().try_for_each(Path::choose_reference)
    }

    /// Reads `resolve() is Type)`.
    fn resolve_is(&mut self, paths: &mut [Path]) -> Option<()> {
        if self.name()? != "resolve" {
            return None;
        }
        self.expect("(")?;
        self.expect(")")?;
        if self.name()? != "is" {
            return None;
        }
        let target = self.name()?;
        self.expect(")")?;
        for path in paths {
            if path.target.replace(target.to_owned()).is_some() {
                return None;
            }
        }
        Some(())
    }

    fn name(&mut self) -> Option<&'e str> {
        self.rest = self.rest.trim_start();
        let length = self.name_length();
        let (name, rest) = self.rest.split_at_checked(length)?;
        if !name.starts_with(|first: char| first.is_ascii_alphabetic()) {
            return None;
        }
        self.rest = rest.trim_start();
        Some(name)
    }

    fn name_is_next(&self, name: &str) -> bool {
        self.rest.get(..self.name_length()) == Some(name)
    }

    fn name_length(&self) -> usize {
        self.rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count()
    }

    fn takes(&mut self, symbol: &str) -> bool {
        match self.rest.trim_start().strip_prefix(symbol) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, symbol: &str) -> Option<()> {
        self.takes(symbol).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(expression: &str, resource_type: &str) -> Option<Vec<String>> {
        let written = |selection: Selection| match selection.target {
            Some(target) => format!("{} is {target}", selection.path),
            None => selection.path,
        };
        selections(expression, resource_type).map(|found| found.into_iter().map(written).collect())
    }

    #[test]
    fn the_shapes_of_the_official_definitions_are_read() {
        for (expression, resource_type, expected) in [
            ("Account.subject", "Account", &["subject"][..]),
            ("Appointment.participant.actor", "Appointment", &["participant.actor"]),
            ("Basic.subject.where(resolve() is Patient)", "Basic", &["subject is Patient"]),
            (
                "AllergyIntolerance.patient | CarePlan.subject.where(resolve() is Patient)",
                "CarePlan",
                &["subject is Patient"],
            ),
            (
                "AuditEvent.agent.who.where(resolve() is Patient) | AuditEvent.entity.what.where(resolve() is Patient)",
                "AuditEvent",
                &["agent.who is Patient", "entity.what is Patient"],
            ),
            ("(DeviceRequest.code as Reference)", "DeviceRequest", &["codeReference"]),
            ("DeviceRequest.code as Reference", "DeviceRequest", &["codeReference"]),
            ("DeviceRequest.code.as(Reference)", "DeviceRequest", &["codeReference"]),
            ("DeviceRequest.code.ofType(Reference)", "DeviceRequest", &["codeReference"]),
            ("(Composition.relatesTo.target as Reference)", "Composition", &["relatesTo.targetReference"]),
            (
                "(A.medication as Reference) | (Bc.medication as Reference).where(resolve() is Medication)",
                "Bc",
                &["medicationReference is Medication"],
            ),
            ("(Ab.x | Ab.y).where(resolve() is Patient)", "Ab", &["x is Patient", "y is Patient"]),
            (" ( ( Ab . x ) | Cd.y ) ", "Ab", &["x"]),
            ("Resource.link | Ab.x", "Ab", &["link", "x"]),
            ("Ab.as.x", "Ab", &["as.x"]),
            ("Cd.x.where(type='a|b').y | Ab.x", "Ab", &["x"]),
            ("Cd.x", "Ab", &[]),
        ] {
            assert_eq!(read(expression, resource_type).as_deref().unwrap_or_default(), expected, "{expression}");
            assert!(read(expression, resource_type).is_some(), "{expression}");
        }
    }

    #[test]
    fn any_other_shape_is_refused() {
        let nested = format!("{}Ab.x{}", "(".repeat(5000), ")".repeat(5000));
        let deep = format!("Ab{}", ".x".repeat(NAMES_LIMIT));
        let long = format!("Ab.x{}", ".x".repeat(LENGTH_LIMIT_BYTES));
        for expression in [
            "Ab.x.where(type='a').y",
            "Ab.x[0].y",
            "Ab.x.first()",
            "Ab.x.where(resolve() is Patient).y",
            "(Ab.x as Reference).y",
            "(Ab.x as canonical)",
            "(Ab as Reference)",
            "Ab.x as Reference as Reference",
            "Ab.x.as(Reference).as(Reference)",
            "Ab.x.where(resolve() is Patient).where(resolve() is Patient)",
            "Ab.x.where(resolve() is Patient",
            "Ab.x)",
            "(Ab.x",
            "Ab..x",
            "Ab.",
            "Ab.x Ab.y",
            "Ab.x and Ab.y",
            "Ab.`x`",
            "Ab.x 'y",
            &nested,
            &deep,
            &long,
        ] {
            assert_eq!(read(expression, "Ab"), None, "{expression:.60}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_expression_makes_it_fall_over(expression in "([(). |']|Ab|x|as|where|resolve|is|Reference|é){0,40}") {
            let _ = read(&expression, "Ab");
        }
    }
}
