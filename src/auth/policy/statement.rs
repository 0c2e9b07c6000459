//! A statement of a policy.

use super::Answer;
use super::condition::Condition;
use super::context::Context;
use super::pattern::{self, Reach, Token, matches};
use super::template::Template;

/// What a statement does if it applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Allow,
    Deny,
}

#[derive(Clone, Debug)]
pub(super) struct Statement {
    pub(super) sid: Option<String>,
    pub(super) effect: Effect,
    pub(super) actions: Listed<Vec<Token>>,
    /// `None` if one of them isn't understood.
    pub(super) resources: Option<Listed<Template>>,
    /// `None` if one of them isn't understood.
    pub(super) conditions: Option<Vec<Condition>>,
}

/// What an element lists, or, as `NotAction` and `NotResource`, leaves out.
#[derive(Clone, Debug)]
pub(super) struct Listed<T> {
    pub(super) items: Vec<T>,
    pub(super) is_negated: bool,
}

impl<T> Listed<T> {
    fn answer(&self, of_item: impl Fn(&T) -> Answer) -> Answer {
        let found = Answer::any(self.items.iter().map(of_item));
        if self.is_negated { found.not() } else { found }
    }
}

/// The pattern of an action, in lower case: actions are the same in any case.
pub(super) fn action_pattern(text: &str) -> Vec<Token> {
    pattern::parse(&text.to_ascii_lowercase())
}

impl Statement {
    /// Whether the statement applies to a request.
    pub(super) fn applies(&self, action: &str, resource: &str, context: &Context) -> bool {
        let action = action.to_ascii_lowercase();
        let action = self.actions.answer(|pattern| Answer::of(matches(pattern, &action, Reach::Text)));
        let of_resource = |template: &Template| match template.pattern(context) {
            Some(pattern) if matches(&pattern, resource, Reach::ArnParts) => Answer::Yes,
            // IAM says how far wildcards should reach, not that they never reach further.
            Some(pattern) if !matches(&pattern, resource, Reach::Text) => Answer::No,
            _ => Answer::Unknown,
        };
        let resource = self.resources.as_ref().map_or(Answer::Unknown, |listed| listed.answer(of_resource));
        let conditions = match &self.conditions {
            Some(conditions) => Answer::all(conditions.iter().map(|condition| condition.answer(context))),
            None => Answer::Unknown,
        };
        let answer = Answer::all([action, resource, conditions].into_iter());
        match self.effect {
            Effect::Allow => answer == Answer::Yes,
            Effect::Deny => answer != Answer::No,
        }
    }
}
