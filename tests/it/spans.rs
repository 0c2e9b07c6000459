//! What is traced of a job: which spans, within which, with which fields, and nothing of what is exported.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, Once};
use std::time::Duration;

use fhir_export::destination::faulty::{Fault, FaultyDestination};
use fhir_export::destination::{RetryCause, RetryPolicy, Retrying};
use fhir_export::job::JobReport;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::support::small_job;

/// A span or an event: names of the spans that it lies in, its own last, and its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    within: Vec<&'static str>,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Told {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.push((field.name(), format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.push((field.name(), value.to_owned()));
    }
}

impl Told {
    fn field(&self, name: &str) -> &str {
        let found = self.fields.iter().find(|(own, _)| *own == name);
        found.map_or_else(|| panic!("{name} is missing in {self:?}"), |(_, value)| value)
    }
}

thread_local! {
    /// Spans and events of this thread, while somebody listens.
    static HEARD: RefCell<Option<(Vec<Told>, Vec<Told>)>> = const { RefCell::new(None) };
}

/// Listens on all threads: what a place in the code is told to do, tracing keeps for the whole process.
#[derive(Debug)]
struct Listener;

fn hear(place: impl FnOnce(&mut (Vec<Told>, Vec<Told>))) {
    HEARD.with_borrow_mut(|heard| heard.as_mut().map(place));
}

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Listener {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        hear(|(spans, _)| {
            let scope = context.span(id).unwrap().scope();
            let mut told = Told { within: scope.from_root().map(|span| span.name()).collect(), fields: Vec::new() };
            attributes.record(&mut told);
            spans.push(told);
        });
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        hear(|(_, events)| {
            let scope = context.event_scope(event).into_iter().flat_map(|scope| scope.from_root());
            let mut told = Told { within: scope.map(|span| span.name()).collect(), fields: Vec::new() };
            event.record(&mut told);
            events.push(told);
        });
    }
}

/// Runs the small job, with a call of it that is repeated, and tells what was traced.
async fn traced() -> (JobReport, Vec<Told>, Vec<Told>) {
    static LISTENS: Once = Once::new();
    LISTENS.call_once(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Listener)).unwrap();
    });
    HEARD.set(Some(Default::default()));
    let judge =
        FaultyDestination::new(small_job::destination()).with_fault_at(4, Fault::FailFor(RetryCause::Throttled));
    let policy = RetryPolicy { first_wait: Duration::from_millis(1), ..RetryPolicy::default() };
    let destination = Arc::new(Retrying::new(Arc::new(judge)).with_policy(policy));
    let report = small_job::run(small_job::source(), destination, small_job::config()).await;
    let (spans, events) = HEARD.take().unwrap();
    (report, spans, events)
}

#[tokio::test]
async fn a_job_its_ranges_and_its_objects_have_spans_that_name_them() {
    let (report, spans, events) = traced().await;
    let of = |path: &[&str]| spans.iter().filter(|span| span.within == path).collect::<Vec<_>>();
    let job = of(&["job"]);
    assert_eq!(job.len(), 1);
    assert_eq!((job[0].field("job"), job[0].field("level")), (report.job_id.as_str(), "system"));
    let ranges: BTreeSet<&str> = of(&["job", "range"]).into_iter().map(|span| span.field("range")).collect();
    assert_eq!(ranges, ["first", "second"].into());
    let objects: BTreeSet<(&str, &str)> =
        of(&["job", "object"]).into_iter().map(|span| (span.field("key"), span.field("type"))).collect();
    let manifest = report.manifest.as_ref().unwrap();
    let files = manifest.output.iter().chain(&manifest.error);
    let expected: BTreeSet<_> = files.map(|file| (file.extension.key.as_str(), file.resource_type.as_str())).collect();
    assert_eq!(objects, expected);
    let parts: u32 = manifest.output.iter().chain(&manifest.error).map(|file| file.extension.parts).sum();
    let numbered = of(&["job", "object", "part"]);
    assert_eq!(numbered.len(), parts as usize);
    assert!(numbered.iter().all(|part| part.field("number").parse::<u32>().is_ok_and(|number| number > 0)));
    let ended = events.iter().find(|event| event.field("message") == "the job has ended").unwrap();
    assert_eq!((ended.within.as_slice(), ended.field("state")), (["job"].as_slice(), report.state.as_str()));
}

#[tokio::test]
async fn nothing_that_is_exported_is_traced() {
    let (report, spans, events) = traced().await;
    assert!(events.iter().any(|event| event.field("message").contains("repeated")), "a call was repeated");
    let ids = (0..22).flat_map(|id| [format!("\"p{id}\""), format!("\"o{id}\""), format!("Patient/p{id}")]);
    let content: Vec<String> = ids.chain(["not a resource".to_owned(), "resourceType".to_owned()]).collect();
    let own = |told: &&Told| !told.within.is_empty();
    for (name, value) in spans.iter().chain(&events).filter(own).flat_map(|told| &told.fields) {
        let found = content.iter().find(|content| value.contains(content.as_str()));
        assert_eq!(found, None, "{name}: {value}");
    }
    assert!(report.manifest.is_some());
}
