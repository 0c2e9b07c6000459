//! What an S3 store answers, whatever it is: read, refused, and never taken for more than it says.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use fhir_export::Result;
use fhir_export::destination::s3::{S3Options, S3Uri};
use fhir_export::destination::{Destination as _, ObjectKey, PartId};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};

use super::wait_for;

const BEGIN: u8 = 0;
const UPLOADS: u8 = 1;
const PARTS: u8 = 2;
const PUT: u8 = 3;
const COMPLETE: u8 = 4;

/// What a store says of an operation that it doesn't have, besides 501.
const UNKNOWN: [&str; 2] = ["NotImplemented", "MethodNotAllowed"];

/// What an upload begins with when something else is asked for.
const BEGUN: &str = "<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>";

/// More requests than this for so few answers don't end.
const MOST_REQUESTS: usize = 20;

/// A store's own words are cut in messages.
const MOST_CHARACTERS: usize = 2000;

/// The first byte says what is asked; then come answers with `0x1E` between, a byte for the status before each body.
pub fn answers(data: &[u8]) {
    let Some((asked, rest)) = data.split_first() else { return };
    let script: Vec<Answer> = rest.split(|byte| *byte == 0x1E).map(Answer::of).take(MOST_REQUESTS / 2).collect();
    let store = Store { script: Arc::new(script), sent: Arc::default(), begins: asked % 5 == BEGIN };
    let result = wait_for(ask(*asked, &store));
    let sent = *store.sent.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(sent <= MOST_REQUESTS, "{sent} requests");
    match result {
        Ok(()) => {
            let taken = store.script.iter().take(sent).all(|answer| answer.may_be_success(asked % 5));
            assert!(taken, "a refusal is taken for success");
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.chars().count() < MOST_CHARACTERS && !text.contains(char::is_control), "{text:?}");
        }
    }
}

async fn ask(asked: u8, store: &Store) -> Result<()> {
    let destination = S3Options::new(S3Uri::parse("s3://bucket/p/").expect("a URI"))
        .with_endpoint("http://127.0.0.1:9")
        .with_access_key("key", "secret")
        .open_over(Arc::new(store.clone()))
        .expect("the settings fit together");
    let key = ObjectKey::new("Patient.ndjson").expect("a key");
    match asked % 5 {
        BEGIN => assert!(!destination.begin(&key).await?.id().is_empty()),
        UPLOADS => drop(destination.open_uploads("").await?),
        PARTS => {
            let parts = destination.begin(&key).await?.parts().await?.unwrap_or_default();
            assert!(parts.is_sorted_by_key(|part| part.number));
        }
        PUT => drop(destination.begin(&key).await?.put_part(1, vec![b'x'; 3].into()).await?),
        COMPLETE.. => destination.begin(&key).await?.complete(&[PartId("1:\"etag\"".to_owned())]).await?,
    }
    Ok(())
}

/// What the store says to one request.
#[derive(Clone, Debug)]
struct Answer {
    status: u16,
    /// Whether it has the header that a stored part is known by.
    tagged: bool,
    body: Vec<u8>,
}

impl Answer {
    fn of(text: &[u8]) -> Self {
        const STATUSES: [u16; 8] = [200, 200, 200, 404, 403, 500, 503, 501];
        let (status, body) = text.split_first().unwrap_or((&0, &[]));
        Self { status: STATUSES[usize::from(status % 8)], tagged: status % 8 == 1, body: body.to_vec() }
    }

    fn says(&self, word: &str) -> bool {
        self.body.windows(word.len()).any(|window| window == word.as_bytes())
    }

    /// A completion that fails late answers 200 and an error. A store that can't list says so, which is an answer too.
    fn may_be_success(&self, asked: u8) -> bool {
        match asked {
            COMPLETE => self.status == 200 && self.says("ETag"),
            UPLOADS | PARTS => matches!(self.status, 200 | 404 | 501) || UNKNOWN.iter().any(|code| self.says(code)),
            _ => self.status == 200,
        }
    }
}

/// Answers in turn, the last answer again and again.
#[derive(Clone, Debug)]
struct Store {
    script: Arc<Vec<Answer>>,
    sent: Arc<Mutex<usize>>,
    /// Whether the beginning of an upload is what is asked for.
    begins: bool,
}

impl HttpConnector for Store {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Store {
    async fn call(&self, request: HttpRequest) -> std::result::Result<HttpResponse, HttpError> {
        if !self.begins
            && request.method().as_str() == "POST"
            && request.uri().query().is_some_and(|query| query.starts_with("uploads"))
        {
            return Ok(HttpResponse::new(HttpResponseBody::from(BEGUN.to_owned())));
        }
        let at = {
            let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
            *sent += 1;
            assert!(*sent <= MOST_REQUESTS, "requests without end");
            *sent - 1
        };
        let answer = self.script.get(at).or_else(|| self.script.last()).expect("a split has a piece");
        let mut response = HttpResponse::new(HttpResponseBody::from(answer.body.clone()));
        *response.status_mut() = answer.status.try_into().expect("a status");
        if answer.tagged {
            response.headers_mut().insert("etag", "\"tag\"".parse().expect("a header"));
        }
        Ok(response)
    }
}
