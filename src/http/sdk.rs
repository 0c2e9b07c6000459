//! The operations of HealthLake's SDK: JSON 1.0 with `X-Amz-Target` (contract section 5).

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::guard::Granted;
use super::outcome::Refused;
use super::properties::{self, Wire};
use super::{Api, address, kick_off};
use crate::auth::Action;
use crate::error::{Error, ErrorKind};
use crate::job::{DataStore, JobState, JobView, Order, Origin};
use crate::request::{Accepted, ClientToken, Draft, Fault, Handling, JobId, Level, Refusal};

/// Most jobs of one list, and as many as there are if nothing is said (contract section 2.1).
const MOST_RESULTS: usize = 500;
const USUAL_RESULTS: usize = 100;

/// Longest `NextToken` (contract section 2.1).
const MOST_TOKEN_BYTES: usize = 8192;

/// One of the errors of the contract's table (section 5.4).
#[derive(Debug)]
struct Exception {
    name: &'static str,
    message: String,
}

impl Exception {
    fn validation(message: impl Into<String>) -> Self {
        Self { name: "ValidationException", message: message.into() }
    }

    fn not_found(message: impl Into<String>) -> Self {
        Self { name: "ResourceNotFoundException", message: message.into() }
    }
}

/// A refusal that the router gives before an operation is looked at.
pub(super) fn refuse(refused: &Refused) -> Response {
    let name = match refused.status() {
        StatusCode::TOO_MANY_REQUESTS => "ThrottlingException",
        _ => "ValidationException",
    };
    Exception { name, message: refused.diagnostics().to_owned() }.into_response()
}

impl From<Refusal> for Exception {
    fn from(refusal: Refusal) -> Self {
        Self::validation(refusal.to_string())
    }
}

impl From<Fault> for Exception {
    fn from(fault: Fault) -> Self {
        Self::validation(fault.to_string())
    }
}

impl From<Error> for Exception {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::InvalidRequest | ErrorKind::LimitExceeded => Self::validation(error.message()),
            ErrorKind::NotFound => Self::not_found(error.message()),
            ErrorKind::Throttled => Self { name: "ThrottlingException", message: error.message().to_owned() },
            _ => {
                tracing::error!(error = format!("{error:#}"), "a request failed");
                Self { name: "InternalServerException", message: "the server failed; its log says why".to_owned() }
            }
        }
    }
}

impl IntoResponse for Exception {
    fn into_response(self) -> Response {
        let status = match self.name {
            "InternalServerException" => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        let kind = format!("com.amazonaws.healthlake#{}", self.name);
        answer(status, &json!({"__type": kind, "Message": self.message}))
    }
}

fn answer(status: StatusCode, body: &Value) -> Response {
    let mut response = (status, Json(body)).into_response();
    let json = HeaderValue::from_static("application/x-amz-json-1.0");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Who isn't let in, in the words of the SDK.
pub(super) fn deny(name: &'static str, message: &str) -> Response {
    Exception { name, message: message.to_owned() }.into_response()
}

/// `POST /`.
pub(super) async fn handle(
    State(api): State<Api>,
    granted: Option<Extension<Granted>>,
    request: Request<Body>,
) -> Response {
    let (parts, body) = request.into_parts();
    let target = parts.headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let Some(operation) = target.strip_prefix("HealthLake.") else {
        let message = "X-Amz-Target names no operation of HealthLake".to_owned();
        return Exception { name: "UnknownOperationException", message }.into_response();
    };
    let requested = address::requested(&api.settings, &parts.headers, &parts.uri);
    let body = match kick_off::read(body).await {
        Ok(body) => body,
        Err(refused) => return Exception::validation(refused.diagnostics()).into_response(),
    };
    let done = match Input::read(&body) {
        Ok(input) => {
            let granted = granted.map(|Extension(granted)| granted);
            act(&Asking { api: &api, granted, requested: &requested }, operation, &input, &body).await
        }
        Err(exception) => Err(exception),
    };
    match done {
        Ok(body) => answer(StatusCode::OK, &body),
        Err(exception) => exception.into_response(),
    }
}

/// What an operation is asked with.
struct Asking<'a> {
    api: &'a Api,
    /// None: what isn't offered was asked for.
    granted: Option<Granted>,
    requested: &'a str,
}

impl Asking<'_> {
    /// What was granted, if it is this.
    fn granted(&self, action: Action, datastore: &str) -> Result<&Granted, Exception> {
        let denied = |message: &str| Exception { name: "AccessDeniedException", message: message.to_owned() };
        let granted = self.granted.as_ref().ok_or_else(|| denied("nothing was granted"))?;
        granted.covers(action, datastore).map_err(|refused| denied(refused.diagnostics()))?;
        Ok(granted)
    }
}

async fn act(asking: &Asking<'_>, operation: &str, input: &Input, body: &[u8]) -> Result<Value, Exception> {
    match operation {
        "StartFHIRExportJob" => start(asking, input, body).await,
        "DescribeFHIRExportJob" => describe(asking, input).await,
        "ListFHIRExportJobs" => list(asking, input).await,
        "DescribeFHIRDatastore" => datastore(asking, input),
        "ListFHIRDatastores" => datastores(asking),
        _ => Err(Exception { name: "UnknownOperationException", message: format!("{operation} isn't offered here") }),
    }
}

/// The members of a request.
struct Input(serde_json::Map<String, Value>);

impl Input {
    fn read(body: &[u8]) -> Result<Self, Exception> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => Ok(Self(members)),
            Ok(_) => Err(Exception::validation("the body is no JSON object")),
            Err(error) => Err(Exception::validation(format!("the body is no JSON: {error}"))),
        }
    }

    fn text(&self, name: &str) -> Result<Option<&str>, Exception> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Exception::validation(format!("{name} is no string"))),
        }
    }

    /// What the model requires, in the words of its validation (contract section 1.4).
    fn required(&self, name: &str) -> Result<&str, Exception> {
        self.text(name)?.ok_or_else(|| {
            let member = properties::camel(name);
            Exception::validation(format!(
                "1 validation error detected: Value at '{member}' failed to satisfy constraint: Member must not be null"
            ))
        })
    }

    /// Seconds since 1970.
    fn time(&self, name: &str) -> Result<Option<f64>, Exception> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or_else(|| Exception::validation(format!("{name} is no time"))),
        }
    }
}

fn known<'a>(api: &Api, input: &'a Input) -> Result<&'a str, Exception> {
    let id = input.required("DatastoreId")?;
    if api.service.data_store(id).is_none() {
        return Err(Exception::not_found(format!(
            "there is no data store {:?}",
            id.chars().take(100).collect::<String>()
        )));
    }
    Ok(id)
}

async fn start(asking: &Asking<'_>, input: &Input, body: &[u8]) -> Result<Value, Exception> {
    let Asking { api, requested, .. } = asking;
    let mut draft = Draft::new(Handling::Strict);
    draft.set_level(Level::System);
    draft.read_body(body);
    let client_token = match input.text("ClientToken")?.map(ClientToken::new) {
        Some(Err(fault)) => {
            draft.refuse(fault.at("ClientToken"));
            None
        }
        token => token.and_then(Result::ok),
    };
    let Accepted { request, .. } = draft.finish()?;
    let datastore = known(api, input)?;
    let granted = asking.granted(Action::StartExport, datastore)?;
    let request = granted
        .narrowed(api, request)
        .await
        .map_err(|refused| Exception { name: "AccessDeniedException", message: refused.diagnostics().to_owned() })?;
    let base = format!("{requested}datastore/{datastore}/r4/$export");
    let order = Order {
        origin: Origin::Sdk,
        request_url: base,
        client_token,
        separate_status: false,
        skipped: Vec::new(),
        owner: granted.owner(),
    };
    let view = api.service.start(datastore, request, &order).await?;
    Ok(json!({
        "JobId": view.id.as_str(),
        "JobStatus": JobState::Submitted.as_str(),
        "DatastoreId": view.datastore_id.as_str(),
    }))
}

async fn describe(asking: &Asking<'_>, input: &Input) -> Result<Value, Exception> {
    let api = asking.api;
    let datastore = known(api, input)?;
    let granted = asking.granted(Action::DescribeExport, datastore)?;
    let id = input.required("JobId")?;
    let id = JobId::new(id).map_err(|fault| Exception::from(fault.at("JobId")))?;
    let view = api.service.describe(datastore, &id).await?;
    let view = view.filter(|view| granted.sees(view));
    let view = view.ok_or_else(|| Exception::not_found(format!("there is no export job {id}")))?;
    Ok(json!({"ExportJobProperties": properties::of(&view, Wire::Sdk)}))
}

async fn list(asking: &Asking<'_>, input: &Input) -> Result<Value, Exception> {
    let api = asking.api;
    let datastore = known(api, input)?;
    let granted = asking.granted(Action::ListExports, datastore)?;
    let most = match input.0.get("MaxResults") {
        None | Some(Value::Null) => USUAL_RESULTS,
        Some(value) => value
            .as_u64()
            .and_then(|count| usize::try_from(count).ok())
            .filter(|count| (1..=MOST_RESULTS).contains(count))
            .ok_or_else(|| Exception::validation("MaxResults is no whole number from 1 to 500"))?,
    };
    let filter = Filter::of(input)?;
    let after = input.text("NextToken")?;
    let views = api.service.list(datastore).await?;
    let begin = match after {
        None => 0,
        Some(token) => goes_on_at(token, &views)?,
    };
    let mut shown = views.iter().skip(begin).filter(|view| granted.sees(view) && filter.admits(view));
    let page: Vec<&JobView> = shown.by_ref().take(most).collect();
    let mut answer = json!({
        "ExportJobPropertiesList": page.iter().map(|view| properties::of(view, Wire::Sdk)).collect::<Vec<_>>(),
    });
    let goes_on = shown.next().is_some();
    if let (true, Some(last), Some(answer)) = (goes_on, page.last(), answer.as_object_mut()) {
        answer.insert("NextToken".to_owned(), json!(last.place()));
    }
    Ok(answer)
}

/// A token is the place of the last job that was shown: jobs that came since, or are gone, don't move it.
fn goes_on_at(token: &str, views: &[JobView]) -> Result<usize, Exception> {
    let place = Some(token).filter(|token| token.is_ascii() && token.len() <= MOST_TOKEN_BYTES);
    let begin = place.and_then(|place| JobView::behind(place, views));
    begin.ok_or_else(|| Exception::validation("NextToken isn't one of this list's"))
}

/// Which jobs a list shows.
struct Filter<'a> {
    name: Option<&'a str>,
    status: Option<&'a str>,
    before: Option<f64>,
    after: Option<f64>,
}

impl<'a> Filter<'a> {
    fn of(input: &'a Input) -> Result<Self, Exception> {
        let status = input.text("JobStatus")?;
        if status.is_some_and(|status| JobState::ALL.iter().all(|state| state.as_str() != status)) {
            return Err(Exception::validation("JobStatus is none of a job's"));
        }
        Ok(Self {
            name: input.text("JobName")?,
            status,
            before: input.time("SubmittedBefore")?,
            after: input.time("SubmittedAfter")?,
        })
    }

    fn admits(&self, view: &JobView) -> bool {
        let submitted = view.submitted.as_ref().map(|time| super::date::in_sdk(time.unix_seconds(), time.nanos()));
        self.name.is_none_or(|name| view.name.as_ref().is_some_and(|own| own.as_str() == name))
            && self.status.is_none_or(|status| view.state.as_str() == status)
            && self.before.is_none_or(|before| submitted.is_some_and(|submitted| submitted <= before))
            && self.after.is_none_or(|after| submitted.is_some_and(|submitted| submitted >= after))
    }
}

fn datastore(asking: &Asking<'_>, input: &Input) -> Result<Value, Exception> {
    let id = known(asking.api, input)?;
    asking.granted(Action::DescribeDatastore, id)?;
    let store = asking.api.service.data_store(id);
    Ok(json!({"DatastoreProperties": store.map(|store| datastore_properties(store, asking.requested))}))
}

fn datastores(asking: &Asking<'_>) -> Result<Value, Exception> {
    asking.granted.as_ref().ok_or_else(|| Exception::validation("nothing was granted"))?;
    let all = asking.api.service.data_stores().map(|one| datastore_properties(one, asking.requested));
    Ok(json!({"DatastorePropertiesList": all.collect::<Vec<_>>()}))
}

fn datastore_properties(store: &DataStore, requested: &str) -> Value {
    let id = store.id().as_str();
    json!({
        "DatastoreId": id,
        "DatastoreArn": store.arn(),
        "DatastoreName": id,
        "DatastoreStatus": "ACTIVE",
        "DatastoreTypeVersion": "R4",
        "DatastoreEndpoint": format!("{requested}datastore/{id}/r4/"),
    })
}
