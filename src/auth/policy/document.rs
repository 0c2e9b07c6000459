//! Policy documents.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind, Result};

use super::condition::Condition;
use super::json;
use super::pattern::Token;
use super::statement::{Effect, Listed, Statement, action_pattern};
use super::template::{Template, Version};

/// Largest text of a policy, in bytes. IAM's own limit is 10 KiB for all policies of a role.
const MAX_BYTES: usize = 128 * 1024;

/// Longest piece of a policy that a message quotes.
const QUOTED_MAX_CHARS: usize = 100;

/// An identity policy of IAM.
#[derive(Clone, Debug)]
pub struct Policy {
    statements: Vec<Statement>,
    doubts: Vec<String>,
}

impl Policy {
    /// Reads a policy document.
    ///
    /// # Errors
    /// When the text isn't an identity policy: [`ErrorKind::InvalidConfig`], naming the statement and the element. A name
    /// that occurs twice in an object is an error, too, and so is an element that isn't known.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > MAX_BYTES {
            return Err(fault(format!("a policy of {} bytes is too long: {MAX_BYTES} at most", text.len())));
        }
        let value = json::parse(text).map_err(|error| fault(format!("the policy can't be read: {error}")))?;
        let Value::Object(members) = value else { return Err(fault("the policy isn't a JSON object")) };
        known_members(&members, &["Version", "Id", "Statement"], "the policy")?;
        let version = match members.get("Version") {
            None => Version::V2008,
            Some(version) if version == "2008-10-17" => Version::V2008,
            Some(version) if version == "2012-10-17" => Version::V2012,
            Some(_) => return Err(fault("the policy: Version: neither 2012-10-17 nor 2008-10-17")),
        };
        if members.get("Id").is_some_and(|id| !id.is_string()) {
            return Err(fault("the policy: Id: isn't a text"));
        }
        let items: &[Value] = match members.get("Statement") {
            Some(Value::Array(items)) if !items.is_empty() => items,
            Some(item @ Value::Object(_)) => std::slice::from_ref(item),
            _ => return Err(fault("the policy: Statement: neither a statement nor a list of statements")),
        };
        let mut policy = Self { statements: Vec::new(), doubts: Vec::new() };
        let mut sids = BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            let mut reader =
                Reader { place: format!("statement {}", index.saturating_add(1)), version, doubts: Vec::new() };
            let statement = reader.statement(item)?;
            policy.doubts.append(&mut reader.doubts);
            if statement.sid.as_ref().is_some_and(|sid| !sid.is_empty() && !sids.insert(sid.clone())) {
                return Err(reader.fault("Sid", "is another statement's, too"));
            }
            policy.statements.push(statement);
        }
        Ok(policy)
    }

    /// What isn't understood, and so makes statements fail closed: to be shown to the operator.
    pub fn doubts(&self) -> impl Iterator<Item = &str> {
        self.doubts.iter().map(String::as_str)
    }

    pub(super) fn statements(&self) -> &[Statement] {
        &self.statements
    }
}

fn fault(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

/// A piece of a policy for a message.
pub(super) fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(QUOTED_MAX_CHARS).collect::<String>())
}

fn known_members(members: &Map<String, Value>, known: &[&str], place: &str) -> Result<()> {
    match members.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) if ["Principal", "NotPrincipal"].contains(&name.as_str()) => {
            Err(fault(format!("{place}: {name}: an identity policy has none")))
        }
        Some(name) => Err(fault(format!("{place}: {}: isn't known", quoted(name)))),
    }
}

/// Reads one statement.
struct Reader {
    place: String,
    version: Version,
    doubts: Vec<String>,
}

impl Reader {
    fn fault(&self, element: &str, message: &str) -> Error {
        fault(format!("{}: {element}: {message}", self.place))
    }

    fn doubt(&mut self, element: &str, message: &str) {
        self.doubts.push(format!("{}: {element}: {message}", self.place));
    }

    fn statement(&mut self, item: &Value) -> Result<Statement> {
        let Value::Object(members) = item else { return Err(fault(format!("{}: isn't an object", self.place))) };
        let known = ["Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"];
        known_members(members, &known, &self.place)?;
        let effect = match members.get("Effect").and_then(Value::as_str) {
            Some("Allow") => Effect::Allow,
            Some("Deny") => Effect::Deny,
            _ => return Err(self.fault("Effect", "neither Allow nor Deny")),
        };
        let sid = self.sid(members)?;
        let actions = self.actions(members)?;
        let resources = self.resources(members)?;
        let conditions = self.conditions(members.get("Condition"))?;
        Ok(Statement { sid, effect, actions, resources, conditions })
    }

    fn sid(&self, members: &Map<String, Value>) -> Result<Option<String>> {
        match members.get("Sid") {
            None => Ok(None),
            Some(Value::String(sid)) if sid.bytes().all(|byte| byte.is_ascii_alphanumeric()) => Ok(Some(sid.clone())),
            Some(_) => Err(self.fault("Sid", "isn't a text of letters and digits")),
        }
    }

    fn actions(&self, members: &Map<String, Value>) -> Result<Listed<Vec<Token>>> {
        let (element, texts, is_negated) = self.listed(members, "Action", "NotAction")?;
        let is_action = |text: &&str| {
            let is_plain = |part: &str| {
                !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"*?-".contains(&byte))
            };
            *text == "*" || text.split_once(':').is_some_and(|(service, name)| is_plain(service) && is_plain(name))
        };
        if let Some(text) = texts.iter().find(|text| !is_action(text)) {
            return Err(self.fault(element, &format!("{} is no action", quoted(text))));
        }
        Ok(Listed { items: texts.into_iter().map(action_pattern).collect(), is_negated })
    }

    fn resources(&mut self, members: &Map<String, Value>) -> Result<Option<Listed<Template>>> {
        let (element, texts, is_negated) = self.listed(members, "Resource", "NotResource")?;
        let mut items = Vec::new();
        let mut is_understood = true;
        for text in texts {
            if text != "*" && !text.starts_with("arn:") {
                return Err(self.fault(element, &format!("{} is neither * nor an ARN", quoted(text))));
            }
            match Template::parse(text, self.version) {
                Ok(template) => items.push(template),
                Err(message) => {
                    self.doubt(element, message);
                    is_understood = false;
                }
            }
        }
        Ok(is_understood.then_some(Listed { items, is_negated }))
    }

    /// The texts of one of two elements: either must be there, and not both.
    fn listed<'a>(
        &self,
        members: &'a Map<String, Value>,
        plain: &'static str,
        negated: &'static str,
    ) -> Result<(&'static str, Vec<&'a str>, bool)> {
        let (element, value) = match (members.get(plain), members.get(negated)) {
            (Some(value), None) => (plain, value),
            (None, Some(value)) => (negated, value),
            _ => return Err(self.fault(plain, &format!("one of {plain} and {negated} must be there, and not both"))),
        };
        let texts: Option<Vec<&str>> = match value {
            Value::String(text) => Some(vec![text]),
            Value::Array(items) if !items.is_empty() => items.iter().map(Value::as_str).collect(),
            _ => None,
        };
        let texts = texts.ok_or_else(|| self.fault(element, "neither a text nor a list of texts"))?;
        Ok((element, texts, element == negated))
    }

    fn conditions(&mut self, element: Option<&Value>) -> Result<Option<Vec<Condition>>> {
        let operators = match element {
            None => return Ok(Some(Vec::new())),
            Some(Value::Object(operators)) => operators,
            Some(_) => return Err(self.fault("Condition", "isn't an object")),
        };
        let mut conditions = Vec::new();
        let mut is_understood = true;
        for (operator, keys) in operators {
            let place = format!("Condition: {}", quoted(operator));
            let Some(keys) = keys.as_object().filter(|keys| !keys.is_empty()) else {
                return Err(self.fault(&place, "isn't an object with keys"));
            };
            let mut names = BTreeSet::new();
            for (key, values) in keys {
                let place = format!("{place}: {}", quoted(key));
                if !names.insert(key.to_ascii_lowercase()) {
                    return Err(self.fault(&place, "occurs twice, in another case"));
                }
                let values = condition_values(values)
                    .ok_or_else(|| self.fault(&place, "neither a value nor a list of values"))?;
                match Condition::new(operator, key, &values, self.version) {
                    Ok(condition) => conditions.push(condition),
                    Err(message) => {
                        self.doubt(&place, message);
                        is_understood = false;
                    }
                }
            }
        }
        Ok(is_understood.then_some(conditions))
    }
}

/// Texts, numbers and flags, one or several; as texts.
fn condition_values(value: &Value) -> Option<Vec<String>> {
    let one = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    match value {
        Value::Array(values) if !values.is_empty() => values.iter().map(one).collect(),
        _ => Some(vec![one(value)?]),
    }
}
