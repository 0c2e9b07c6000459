use std::collections::VecDeque;

use futures::future::join_all;
use object_store::ClientOptions;
use object_store::StaticCredentialProvider;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};

use super::*;
use crate::clock::FixedClock;
use crate::destination::answer::WatchedConnector;
use crate::destination::open::{AssumeRole, RoleSessions};
use crate::destination::retry::RetryCause;
use crate::error::ErrorKind;

const ROLE: &str = "arn:aws:iam::123456789012:role/Export";
const DATE: &str = "Tue, 24 Nov 2026 10:00:00 GMT";

/// What STS does.
#[derive(Clone, Debug)]
enum Says {
    /// Credentials with this token, good for so many seconds from the end of the second that the answer is of.
    Gives(&'static str, u32),
    Answers(u16, String),
    Unreachable,
    Nothing,
}

/// An STS that follows a script, and says the last of it for ever.
#[derive(Clone, Debug, Default)]
struct Script {
    says: Arc<Mutex<VecDeque<Says>>>,
    asked: Arc<Mutex<Vec<(String, String)>>>,
}

impl Script {
    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn then(&self, says: Says) {
        *self.says.lock().unwrap() = VecDeque::from([says]);
    }
}

fn given(key: &str, secret: &str, token: &str, expiration: &str) -> String {
    format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><AssumedRoleUser>\
         <Arn>arn:aws:sts::123456789012:assumed-role/Export/job</Arn></AssumedRoleUser><Credentials>\
         <AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{token}</SessionToken>\
         <Expiration>{expiration}</Expiration></Credentials></AssumeRoleResult><ResponseMetadata><RequestId>1</RequestId>\
         </ResponseMetadata></AssumeRoleResponse>"
    )
}

fn in_seconds(seconds: u32) -> String {
    let at: jiff::Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
    (at + Duration::from_secs(seconds.into())).to_string()
}

#[async_trait]
impl HttpService for Script {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let body = String::from_utf8(request.body().as_bytes().unwrap().to_vec()).unwrap();
        let signature = request.headers()["authorization"].to_str().unwrap().to_owned();
        assert_eq!(
            (request.method().as_str(), request.uri().to_string().as_str()),
            ("POST", "https://sts.example.org/")
        );
        self.asked.lock().unwrap().push((signature, body));
        let says = {
            let mut says = self.says.lock().unwrap();
            if says.len() > 1 { says.pop_front() } else { says.front().cloned() }.unwrap()
        };
        // Others get their turn meanwhile.
        tokio::task::yield_now().await;
        let answer = |status: u16, text: String| {
            let mut response = HttpResponse::new(HttpResponseBody::from(text));
            *response.status_mut() = status.try_into().unwrap();
            response.headers_mut().insert("date", DATE.parse().unwrap());
            response
        };
        match says {
            Says::Gives(token, seconds) => Ok(answer(200, given("ASIA", "secret", token, &in_seconds(seconds + 1)))),
            Says::Answers(status, text) => Ok(answer(status, text)),
            Says::Unreachable => Err(HttpError::new(HttpErrorKind::Connect, std::io::Error::other("refused"))),
            Says::Nothing => std::future::pending().await,
        }
    }
}

impl HttpConnector for Script {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

fn role(says: impl IntoIterator<Item = Says>) -> (Script, RoleCredentials) {
    role_of(says, RoleSessions::default())
}

fn role_of(says: impl IntoIterator<Item = Says>, sessions: RoleSessions) -> (Script, RoleCredentials) {
    let script = Script { says: Arc::new(Mutex::new(says.into_iter().collect())), ..Script::default() };
    let own = AwsCredential { key_id: "AKIDOWN".into(), secret_key: "own".into(), token: None };
    let sts = Sts {
        client: WatchedConnector(Arc::new(script.clone())).connect(&ClientOptions::new()).unwrap(),
        endpoint: "https://sts.example.org/".into(),
        region: "eu-west-1".into(),
        own: Arc::new(StaticCredentialProvider::new(own)),
        role: AssumeRole { role_arn: ROLE.into(), session_name: "0a1b".into(), sessions },
    };
    (script, RoleCredentials::new(sts, Arc::new(FixedClock(Duration::ZERO))))
}

async fn token(role: &RoleCredentials) -> String {
    role.get_credential().await.unwrap().token.clone().unwrap()
}

/// What a request to the store would be told.
async fn refusal(role: &RoleCredentials) -> crate::error::Error {
    let error = role.get_credential().await.unwrap_err();
    crate::destination::store_error::store_error("the object can't be written", "s3://bucket/x", error)
}

async fn pass(seconds: f64) {
    tokio::time::advance(Duration::from_secs_f64(seconds)).await;
}

fn error_of(code: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>{code}</Code>\
         <Message>Not so</Message></Error><RequestId>1</RequestId></ErrorResponse>"
    )
}

#[tokio::test(start_paused = true)]
async fn the_role_is_assumed_in_the_name_of_the_job_with_the_servers_own_key() {
    let sessions =
        RoleSessions { external_id: Some("a:b/c=1".into()), session_seconds: Some(900), ..RoleSessions::default() };
    let (script, role) = role_of([Says::Gives("one", 900)], sessions);
    assert_eq!(token(&role).await, "one");
    let (signature, form) = script.asked.lock().unwrap()[0].clone();
    assert!(
        signature.contains("Credential=AKIDOWN/") && signature.contains("/eu-west-1/sts/aws4_request"),
        "{signature}"
    );
    assert_eq!(
        form,
        "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2FExport\
         &RoleSessionName=0a1b&DurationSeconds=900&ExternalId=a%3Ab%2Fc%3D1"
    );
}

#[tokio::test(start_paused = true)]
async fn credentials_are_refreshed_five_minutes_or_a_fifth_of_their_life_before_they_end() {
    for (life, fresh_for) in [(3600, 3300.0), (900, 720.0), (6, 4.8), (43_200, 42_900.0)] {
        let (script, role) = role([Says::Gives("one", life), Says::Gives("two", life)]);
        assert_eq!(token(&role).await, "one");
        pass(fresh_for - 0.1).await;
        assert_eq!(token(&role).await, "one");
        assert_eq!(script.asked(), 1);
        pass(0.2).await;
        assert_eq!(token(&role).await, "two");
        assert_eq!(script.asked(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_at_once_asks_once() {
    let (script, role) = role([Says::Gives("one", 100), Says::Gives("two", 100), Says::Gives("three", 100)]);
    let all = |role| join_all((0..50).map(|_| token(role)));
    assert!(all(&role).await.iter().all(|token| token == "one"));
    assert_eq!(script.asked(), 1);
    // While one asks anew, the others go on with what is good still.
    pass(85.0).await;
    let tokens = all(&role).await;
    assert_eq!(tokens.iter().filter(|token| *token == "two").count(), 1, "{tokens:?}");
    assert_eq!(script.asked(), 2);
    pass(1000.0).await;
    assert!(all(&role).await.iter().all(|token| token == "three"));
    assert_eq!(script.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_to_all_who_wait_and_asked_for_once() {
    let (script, role) = role([Says::Answers(403, error_of("AccessDenied"))]);
    let refused = join_all((0..50).map(|_| role.get_credential())).await;
    assert!(refused.iter().all(Result::is_err));
    assert_eq!(script.asked(), 1);
    // Who comes later asks again.
    assert!(role.get_credential().await.is_err());
    assert_eq!(script.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn while_sts_gives_nothing_the_old_ones_go_on_until_they_end() {
    for trouble in [
        Says::Unreachable,
        Says::Nothing,
        Says::Answers(503, String::new()),
        Says::Answers(403, error_of("AccessDenied")),
    ] {
        let (script, role) = role([Says::Gives("one", 3600), trouble.clone()]);
        assert_eq!(token(&role).await, "one");
        pass(3301.0).await;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(280) {
            assert_eq!(token(&role).await, "one", "{trouble:?}");
            pass(1.0).await;
        }
        assert!((8..40).contains(&script.asked()), "asked now and then: {} {trouble:?}", script.asked());
        pass(30.0).await;
        assert!(role.get_credential().await.is_err(), "{trouble:?}");
        script.then(Says::Gives("two", 3600));
        assert_eq!(token(&role).await, "two", "{trouble:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_gives_up_and_another_goes_on() {
    let (script, role) = role([Says::Nothing]);
    assert!(tokio::time::timeout(Duration::from_secs(1), role.get_credential()).await.is_err());
    script.then(Says::Gives("one", 60));
    assert_eq!(token(&role).await, "one");
}

#[tokio::test(start_paused = true)]
async fn credentials_age_while_the_machine_sleeps() {
    #[derive(Debug, Default)]
    struct Set(Mutex<Duration>);
    impl Clock for Set {
        fn since_epoch(&self) -> Duration {
            *self.0.lock().unwrap()
        }
    }
    let clock = Arc::new(Set::default());
    let (_, made) = role([Says::Gives("one", 3600), Says::Gives("two", 3600)]);
    let role = RoleCredentials::new(made.sts, Arc::<Set>::clone(&clock) as Arc<dyn Clock>);
    assert_eq!(token(&role).await, "one");
    *clock.0.lock().unwrap() = Duration::from_secs(7200);
    assert_eq!(token(&role).await, "two");
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_told_with_the_role_and_what_is_missing() {
    for (status, code, kind, said) in [
        (403, "AccessDenied", ErrorKind::PermissionDenied, "trust policy"),
        (404, "NoSuchEntity", ErrorKind::PermissionDenied, "the role must be there"),
        (403, "InvalidClientTokenId", ErrorKind::PermissionDenied, "doesn't take this server's own credentials"),
        (400, "ExpiredToken", ErrorKind::PermissionDenied, "doesn't take this server's own credentials"),
        (400, "ValidationError", ErrorKind::PermissionDenied, "400 ValidationError: Not so"),
    ] {
        let error = refusal(&role([Says::Answers(status, error_of(code))]).1).await;
        let text = error.to_string();
        assert_eq!((error.kind(), error.is_retryable()), (kind, false), "{text}");
        assert!(text.contains(ROLE) && text.contains(said) && text.contains(code), "{text}");
        assert!(text.contains("the object can't be written") && !text.contains("AKIDOWN"), "{text}");
    }
    let sessions = RoleSessions { external_id: Some("shared".into()), ..RoleSessions::default() };
    let text = refusal(&role_of([Says::Answers(403, error_of("AccessDenied"))], sessions).1).await.to_string();
    assert!(text.contains("with the external id that is set here"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn what_passes_is_told_so() {
    for (trouble, cause, said) in [
        (Says::Unreachable, RetryCause::Connection, "no connection to STS at https://sts.example.org"),
        (Says::Nothing, RetryCause::Timeout, "gave no answer in time"),
        (Says::Answers(503, error_of("ServiceUnavailable")), RetryCause::Throttled, "503 ServiceUnavailable"),
        (Says::Answers(500, String::new()), RetryCause::ServerError, "STS answered 500"),
        (Says::Answers(400, error_of("Throttling")), RetryCause::Throttled, "400 Throttling"),
    ] {
        let error = refusal(&role([trouble]).1).await;
        let text = error.to_string();
        assert_eq!((error.kind(), RetryCause::of(&error)), (ErrorKind::Store, Some(cause)), "{text}");
        assert!(text.contains(ROLE) && text.contains(said), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_gives_no_credentials_is_refused_and_not_quoted() {
    let whole = given("ASIA", "geheim", "token", &in_seconds(60));
    let bombed = "<!DOCTYPE x [<!ENTITY a \"geheim\"><!ENTITY b \"&a;&a;&a;&a;\">]>".to_owned()
        + &whole.replace("<SessionToken>token", "<SessionToken>&b;");
    let mut texts = vec![
        String::new(),
        "{}".into(),
        "<AssumeRoleResponse/>".into(),
        bombed,
        whole.replace("</AccessKeyId>", "</AccessKeyId><AccessKeyId>B</AccessKeyId>"),
        whole.replace("<SessionToken>", &format!("<X>{}</X><SessionToken>", "<y>".repeat(30_000))),
        whole.replace("<SessionToken>", &format!("<SessionToken>{}", "x".repeat(100_000))),
        given("ASIA", "geheim", &"x".repeat(20_000), &in_seconds(60)),
        // What would end a header.
        given("ASIA", "geheim", "to&#13;&#10;x-amz-acl: public", &in_seconds(60)),
        given("ASIA", "geheim", "tok\u{e9}n", &in_seconds(60)),
        given("AS IA", "geheim", "token", &in_seconds(60)),
        given("ASIA", "", "token", &in_seconds(60)),
        given("ASIA", "geheim", "token", "tomorrow"),
        given("ASIA", "geheim", "token", "2026-11-24T09:59:59Z"),
    ];
    let end = whole.find("</Credentials>").unwrap();
    texts.extend((0..end).step_by(7).map(|length| whole.get(..length).unwrap().to_owned()));
    for text in texts {
        let error = refusal(&role([Says::Answers(200, text.clone())]).1).await;
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Store, false), "{text:.300}");
        let told = format!("{error:#} {error:?}");
        assert!(told.contains(ROLE) && !told.contains("geheim") && !told.contains("ASIA"), "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_held_is_never_shown() {
    let (_, role) = role([Says::Gives("tok-geheim", 60)]);
    token(&role).await;
    let shown = format!("{role:?}");
    assert!(shown.contains(ROLE) && !shown.contains("geheim") && !shown.contains("AKIDOWN"), "{shown}");
}

#[test]
fn sts_of_a_region_is_asked_in_it() {
    use super::super::sts::regional_endpoint;
    assert_eq!(regional_endpoint("eu-west-1"), "https://sts.eu-west-1.amazonaws.com");
    assert_eq!(regional_endpoint("cn-north-1"), "https://sts.cn-north-1.amazonaws.com.cn");
}
