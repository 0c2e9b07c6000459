//! Conditions of statements.

use crate::fhir::{DateTime, Instant};

use super::Answer;
use super::context::{Context, Key, Kind, Value};
use super::network::Network;
use super::pattern::{Reach, Token, matches};
use super::template::{Template, Version};

/// An operator with one key and its values.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    key: Key,
    test: Test,
    is_negated: bool,
    /// The operator ends in `IfExists`.
    if_exists: bool,
}

#[derive(Clone, Debug)]
enum Test {
    Text(Comparison, Vec<Template>),
    Flag(Vec<bool>),
    Address(Vec<Network>),
    Time(Order, Vec<Instant>),
    /// Whether the key is to be missing.
    Null(Vec<bool>),
}

#[derive(Clone, Copy, Debug)]
enum Comparison {
    Equal,
    EqualInAnyCase,
    Like,
    Arn,
}

/// How the request's time lies to the policy's.
#[derive(Clone, Copy, Debug)]
enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What an operator does, without its values.
enum Operator {
    Text(Comparison),
    Flag,
    Address,
    Time(Order),
    Null,
}

impl Condition {
    /// Makes a condition.
    ///
    /// # Errors
    /// Says what isn't understood: then it can't be told what the statement says.
    pub(super) fn new(operator: &str, key: &str, values: &[String], version: Version) -> Result<Self, &'static str> {
        let (name, if_exists) = match operator.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (operator, false),
        };
        let (operator, is_negated) = find(name).ok_or("the operator isn't known")?;
        if if_exists && matches!(operator, Operator::Null) {
            return Err("Null and IfExists don't go together");
        }
        let key = Key::parse(key).ok_or("the key isn't known")?;
        let fits = match operator {
            Operator::Text(Comparison::Arn) => key.kind() == Kind::Arn,
            Operator::Text(_) => matches!(key.kind(), Kind::Text | Kind::Arn),
            Operator::Flag => key.kind() == Kind::Flag,
            Operator::Address => key.kind() == Kind::Address,
            Operator::Time(_) => key.kind() == Kind::Time,
            Operator::Null => true,
        };
        if !fits {
            return Err("the operator isn't for keys of that kind");
        }
        let test = test(&operator, values, version)?;
        Ok(Self { key, test, is_negated, if_exists })
    }

    /// What the condition says of a request.
    pub(super) fn answer(&self, context: &Context) -> Answer {
        let value = self.key.value(context);
        let found = match (&self.test, value) {
            (Test::Null(missing), _) => Answer::of(missing.contains(&value.is_none())),
            (_, None) => return Answer::of(self.if_exists || self.is_negated),
            (Test::Text(comparison, templates), Some(Value::Text(text))) => {
                Answer::any(templates.iter().map(|template| comparison.answer(template, text, context)))
            }
            (Test::Flag(flags), Some(Value::Flag(flag))) => Answer::of(flags.contains(&flag)),
            (Test::Address(networks), Some(Value::Address(address))) => {
                Answer::of(networks.iter().any(|network| network.contains(address)))
            }
            (Test::Time(order, times), Some(Value::Time(time))) => {
                Answer::of(times.iter().any(|other| order.holds(time, other)))
            }
            // The kind of the key was checked.
            (_, Some(_)) => Answer::Unknown,
        };
        if self.is_negated { found.not() } else { found }
    }
}

/// The operator of a name, and whether it is negated.
fn find(name: &str) -> Option<(Operator, bool)> {
    Some(match name {
        "StringEquals" => (Operator::Text(Comparison::Equal), false),
        "StringNotEquals" => (Operator::Text(Comparison::Equal), true),
        "StringEqualsIgnoreCase" => (Operator::Text(Comparison::EqualInAnyCase), false),
        "StringNotEqualsIgnoreCase" => (Operator::Text(Comparison::EqualInAnyCase), true),
        "StringLike" => (Operator::Text(Comparison::Like), false),
        "StringNotLike" => (Operator::Text(Comparison::Like), true),
        "ArnEquals" | "ArnLike" => (Operator::Text(Comparison::Arn), false),
        "ArnNotEquals" | "ArnNotLike" => (Operator::Text(Comparison::Arn), true),
        "Bool" => (Operator::Flag, false),
        "IpAddress" => (Operator::Address, false),
        "NotIpAddress" => (Operator::Address, true),
        "DateEquals" => (Operator::Time(Order::Equal), false),
        "DateNotEquals" => (Operator::Time(Order::Equal), true),
        "DateLessThan" => (Operator::Time(Order::Less), false),
        "DateLessThanEquals" => (Operator::Time(Order::LessOrEqual), false),
        "DateGreaterThan" => (Operator::Time(Order::Greater), false),
        "DateGreaterThanEquals" => (Operator::Time(Order::GreaterOrEqual), false),
        "Null" => (Operator::Null, false),
        _ => return None,
    })
}

fn test(operator: &Operator, values: &[String], version: Version) -> Result<Test, &'static str> {
    Ok(match operator {
        Operator::Text(comparison) => {
            let template = |text: &String| {
                let template = Template::parse(text, version)?;
                let is_arn = !matches!(comparison, Comparison::Arn) || text.splitn(6, ':').count() == 6;
                if is_arn { Ok(template) } else { Err("a value isn't an ARN of six parts") }
            };
            Test::Text(*comparison, values.iter().map(template).collect::<Result<_, _>>()?)
        }
        Operator::Flag => Test::Flag(all(values, read_flag, "a value is neither true nor false")?),
        Operator::Null => Test::Null(all(values, read_flag, "a value is neither true nor false")?),
        Operator::Address => {
            Test::Address(all(values, Network::parse, "a value is neither an address nor a range of them")?)
        }
        Operator::Time(order) => Test::Time(*order, all(values, read_time, "a value is no time")?),
    })
}

fn all<T>(values: &[String], read: fn(&str) -> Option<T>, fault: &'static str) -> Result<Vec<T>, &'static str> {
    values.iter().map(|value| read(value).ok_or(fault)).collect()
}

fn read_flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// A time of ISO 8601, or seconds since 1970. Four digits are a year.
fn read_time(text: &str) -> Option<Instant> {
    if text.len() != 4 && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Instant::from_unix(text.parse().ok()?, 0));
    }
    DateTime::parse(text).ok().map(|time| time.first().clone())
}

impl Comparison {
    fn answer(self, template: &Template, text: &str, context: &Context) -> Answer {
        let holds = match self {
            Self::Equal => template.text(context).map(|own| own == text),
            Self::EqualInAnyCase => template.text(context).map(|own| own.to_lowercase() == text.to_lowercase()),
            Self::Like => template.pattern(context).map(|pattern| matches(&pattern, text, Reach::Text)),
            Self::Arn => template.pattern(context).map(|pattern| arn_matches(&pattern, text)),
        };
        holds.map_or(Answer::Unknown, Answer::of)
    }
}

/// ARNs are compared part by part. The sixth part is the rest, with all colons in it.
fn arn_matches(pattern: &[Token], text: &str) -> bool {
    let own: Vec<&[Token]> = pattern.splitn(6, |token| *token == Token::Literal(':')).collect();
    let other: Vec<&str> = text.splitn(6, ':').collect();
    own.len() == 6
        && other.len() == 6
        && own.iter().zip(other).all(|(pattern, part)| matches(pattern, part, Reach::Text))
}

impl Order {
    fn holds(self, time: &Instant, other: &Instant) -> bool {
        match self {
            Self::Equal => time == other,
            Self::Less => time < other,
            Self::LessOrEqual => time <= other,
            Self::Greater => time > other,
            Self::GreaterOrEqual => time >= other,
        }
    }
}
