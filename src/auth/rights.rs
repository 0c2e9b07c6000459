//! Decisions by what callers bring: the policies of their keys, the scopes of their tokens.

use async_trait::async_trait;

use super::action::Action;
use super::authorizer::{Authorizer, Decision, Denial, Grant, JobsOf, Question};
use super::caller::Rights;
use super::policy::{Context, Request, evaluate};
use crate::clock;
use crate::request::TypeSelection;

/// The service that roles are passed to, as conditions know it (contract section 7.1).
const PASSED_TO: &str = "healthlake.amazonaws.com";

/// Lets callers do what their own policies or scopes allow.
///
/// - Policies: each action as IAM would decide, on the ARN of the data store. Who may describe or cancel on a data store
///   may do so with everybody's jobs: IAM knows no job (contract section 7.1).
/// - Scopes: start, look, cancel and download over REST, of the types that they read, and of one's own jobs. No scope lets
///   anybody pass a role to the service, so exports to a bucket of one's own in the name of a role need a policy.
/// - Nothing else: denied.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnRights;

#[async_trait]
impl Authorizer for OwnRights {
    async fn decide(&self, question: &Question<'_>) -> Decision {
        match question.caller.rights() {
            Rights::Policies { policies, principal } => {
                let context = context(question, principal);
                let request =
                    Request { action: question.action.name(), resource: question.resource, context: &context };
                let verdict = evaluate(policies, &request);
                if verdict.is_allowed() {
                    return Decision::Allow(Grant { types: TypeSelection::All, jobs: JobsOf::Everybody });
                }
                Decision::Deny(Denial::of(question.action, format!("the policies of the key: {verdict}")))
            }
            Rights::Scopes(readable) if is_of_rest(question.action) => {
                Decision::Allow(Grant { types: readable.types().clone(), jobs: JobsOf::Caller })
            }
            Rights::Scopes(_) => Decision::Deny(Denial::of(question.action, "no scope allows it")),
            Rights::NoScope => Decision::Deny(Denial {
                reason: "the token has no scope that lets anything be exported".to_owned(),
                message: "an export takes system scopes with read, or r and s".to_owned(),
            }),
            Rights::ByName => Decision::Deny(Denial::of(question.action, "nothing says what the caller may do")),
        }
    }
}

fn context(question: &Question<'_>, principal: &Context) -> Context {
    Context {
        source_ip: question.source_ip,
        secure_transport: Some(question.is_tls),
        now: Some(clock::system().now()),
        user_agent: question.user_agent.map(str::to_owned),
        requested_region: Some(question.region.to_owned()),
        passed_to_service: (question.action == Action::PassRole).then(|| PASSED_TO.to_owned()),
        ..principal.clone()
    }
}

const fn is_of_rest(action: Action) -> bool {
    matches!(
        action,
        Action::StartExportWithPost
            | Action::StartExportWithGet
            | Action::DescribeExportWithGet
            | Action::CancelExportWithDelete
            | Action::GetExportedFile
    )
}
