//! The engine and the naive exporter do the same with random data: bytes, fates, quarantine, whatever the sizes and the
//! number of threads.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use fhir_export::ErrorKind;
use fhir_export::destination::MemoryDestination;
use fhir_export::destination::faulty::{Fault, FaultyDestination};
use fhir_export::fhir::{Labels, ResourceType, Token};
use fhir_export::job::{Config, Exporter, JobHandle, JobReport, JobState, MemoryJobStore};
use fhir_export::request::{ExportRequest, Level, PatientReference, Period, ResourceId, TimeBound, TypeSelection};
use fhir_export::resource::reference::BaseUrls;
use fhir_export::source::AfterTransactionTime;
use fhir_export::writer::{Compression, Layout, PartSizing, Split};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::support::exported::Exported;
use crate::support::naive::{self, NaiveRequest, Refusal};
use crate::support::odd_data::{self, INSTANTS, OWN_BASE, Piece, TRANSACTION_TIME};

/// What is exported, and how the output is cut.
#[derive(Clone, Debug)]
struct Case {
    pieces: Vec<Piece>,
    asked: Asked,
    line_limit: usize,
    objects: Objects,
}

#[derive(Clone, Debug)]
struct Asked {
    level: naive::Level,
    types: Option<BTreeSet<String>>,
    since: Option<&'static str>,
    until: Option<&'static str>,
    security: Vec<AskedLabel>,
    tags: Vec<AskedLabel>,
    patients: Option<BTreeSet<String>>,
    base_urls: Vec<String>,
    excludes_after_t: bool,
}

/// A label as a request writes it, and as the naive exporter takes it.
type AskedLabel = (&'static str, naive::Label);

const LABELS: [AskedLabel; 5] = [
    ("s|R", (Some(Some("s")), Some("R"))),
    ("s|", (Some(Some("s")), None)),
    ("|R", (Some(None), Some("R"))),
    ("R", (None, Some("R"))),
    ("V", (None, Some("V"))),
];

#[derive(Clone, Copy, Debug)]
struct Objects {
    compression: Compression,
    layout: Layout,
    split: Split,
    sizing: PartSizing,
    member_bytes: usize,
    max_parts: u32,
    budget_bytes: usize,
}

/// What must make no difference.
#[derive(Clone, Copy, Debug)]
struct Machine {
    workers: Option<NonZero<usize>>,
    threads: usize,
    read_ahead: usize,
    block_bytes: usize,
    chunk_bytes: usize,
}

fn case() -> impl Strategy<Value = Case> {
    let line_limit = prop_oneof![2 => Just(1 << 20), 1 => 60..600_usize];
    (odd_data::pieces(), asked(), line_limit, objects()).prop_map(|(pieces, asked, line_limit, objects)| Case {
        pieces,
        asked,
        line_limit,
        objects,
    })
}

fn asked() -> impl Strategy<Value = Asked> {
    let group = |id: &str| naive::Level::Group(id.to_owned());
    let level = prop_oneof![
        3 => Just(naive::Level::System),
        2 => Just(naive::Level::Patient),
        4 => select(&["g1", "g2", "g3", "g5"][..]).prop_map(group),
        1 => Just(group("nowhere")),
    ];
    let names: Vec<&str> = vec!["Binary", "Condition", "Encounter", "Group", "Observation", "Patient", "Practitioner"];
    let types = subsequence(names, 1..5).prop_map(|names| names.into_iter().map(str::to_owned).collect());
    let bound = || option::weighted(0.3, select(&INSTANTS[..]));
    let labels = || prop_oneof![3 => Just(Vec::new()), 1 => subsequence(LABELS.to_vec(), 1..3)];
    let labels = (labels(), labels());
    let patients = subsequence(vec!["p1", "p2", "p3", "p4"], 1..3);
    let patients = option::weighted(0.3, patients.prop_map(|ids| ids.into_iter().map(str::to_owned).collect()));
    (level, option::weighted(0.4, types), bound(), bound(), (labels, patients), any::<bool>(), any::<bool>()).prop_map(
        |(level, types, mut since, mut until, ((security, tags), patients), has_base, excludes_after_t)| {
            let patients = patients.filter(|_| level != naive::Level::System);
            // A period that ends before it begins is refused with the request.
            if since.and_then(naive::instant) > until.and_then(naive::instant) && until.is_some() {
                std::mem::swap(&mut since, &mut until);
            }
            let base_urls = if has_base { vec![OWN_BASE.to_owned()] } else { Vec::new() };
            Asked { level, types, since, until, security, tags, patients, base_urls, excludes_after_t }
        },
    )
}

fn objects() -> impl Strategy<Value = Objects> {
    let compression = select(&[Compression::None, Compression::Gzip { level: 1 }][..]);
    let layout = prop_oneof![3 => Just(Layout::HealthLake), 1 => Just(Layout::Flat)];
    let split = (option::weighted(0.3, 1..3000_u64), option::weighted(0.3, 1..20_u64))
        .prop_map(|(bytes, resources)| Split { bytes, resources });
    let least_bytes = prop_oneof![1..200_usize, Just(1000), Just(65536)];
    let follows = least_bytes.prop_map(|least_bytes| PartSizing::FollowsOffset { least_bytes, largest_bytes: 1 << 20 });
    let sizing = prop_oneof![3 => follows, 1 => (1..500_usize).prop_map(PartSizing::Fixed)];
    let max_parts = prop_oneof![Just(10_000), 1..5_u32];
    let member_bytes = prop_oneof![1..500_usize, Just(1 << 20)];
    let budget_bytes = select(&[64 << 20, 256 << 20][..]);
    (compression, layout, split, sizing, member_bytes, max_parts, budget_bytes).prop_map(
        |(compression, layout, split, sizing, member_bytes, max_parts, budget_bytes)| Objects {
            compression,
            layout,
            split,
            sizing,
            member_bytes,
            max_parts,
            budget_bytes,
        },
    )
}

fn machine() -> impl Strategy<Value = Machine> {
    let workers = option::weighted(0.3, select(vec![NonZero::new(1).unwrap(), NonZero::new(2).unwrap()]));
    let block_bytes = prop_oneof![3..100_usize, 100..5000_usize, Just(64 << 10)];
    let chunk_bytes = prop_oneof![1..100_usize, 100..5000_usize, Just(64 << 10)];
    (workers, 1..5_usize, 1..6_usize, block_bytes, chunk_bytes).prop_map(
        |(workers, threads, read_ahead, block_bytes, chunk_bytes)| Machine {
            workers,
            threads,
            read_ahead,
            block_bytes,
            chunk_bytes,
        },
    )
}

impl Case {
    fn naive_request(&self) -> NaiveRequest {
        let unopened = self.pieces.iter().filter(|piece| match (&self.asked.types, piece.declared) {
            (Some(asked), Some(declared)) => !asked.contains(declared),
            _ => false,
        });
        NaiveRequest {
            types: self.asked.types.clone(),
            since: self.asked.since.map(str::to_owned),
            until: self.asked.until.map(str::to_owned),
            security: self.asked.security.iter().map(|(_, label)| *label).collect(),
            tags: self.asked.tags.iter().map(|(_, label)| *label).collect(),
            patients: self.asked.patients.clone(),
            base_urls: self.asked.base_urls.clone(),
            line_limit: self.line_limit,
            transaction_time: TRANSACTION_TIME.to_owned(),
            excludes_after_t: self.asked.excludes_after_t,
            is_deleted: |resource| resource["id"].as_str().is_some_and(|id| id.starts_with("gone")),
            unopened: unopened.map(|piece| piece.name.clone()).collect(),
            ..NaiveRequest::new(self.asked.level.clone())
        }
    }

    fn request(&self) -> ExportRequest {
        let asked = &self.asked;
        let level = match &asked.level {
            naive::Level::System => Level::System,
            naive::Level::Patient => Level::Patient,
            naive::Level::Group(id) => Level::Group { id: ResourceId::new(id).unwrap() },
        };
        let types = match &asked.types {
            None => TypeSelection::All,
            Some(names) => TypeSelection::only(names.iter().map(|name| ResourceType::new(name).unwrap())).unwrap(),
        };
        let bound = |text: Option<&str>| text.map(|text| TimeBound::parse(text).unwrap());
        let period = Period::new(bound(asked.since), bound(asked.until)).unwrap();
        let tokens = |asked: &[AskedLabel]| asked.iter().map(|(token, _)| Token::parse(token).unwrap()).collect();
        let labels = Labels { security: tokens(&asked.security), tags: tokens(&asked.tags) };
        let request = ExportRequest::new(level).with_types(types).with_period(period).with_labels(labels);
        let reference = |id: &String| PatientReference::new(&format!("Patient/{id}")).unwrap();
        match &asked.patients {
            Some(ids) => request.with_patients(ids.iter().map(reference).collect()),
            None => request,
        }
    }

    fn config(&self, machine: Machine) -> Config {
        let mut config = Config::default();
        config.budget_bytes = self.objects.budget_bytes;
        config.line_limit_bytes = Some(self.line_limit);
        config.threads = machine.threads;
        config.block_bytes = machine.block_bytes;
        config.read_ahead = machine.read_ahead;
        config.compression = self.objects.compression;
        config.layout = self.objects.layout;
        config.split = self.objects.split;
        config.small_parts = Some(self.objects.sizing);
        config.member_bytes = self.objects.member_bytes;
        config.base_urls = BaseUrls::new(&self.asked.base_urls).unwrap();
        config
    }

    fn destination(&self) -> MemoryDestination {
        let destination = MemoryDestination::new().with_max_parts(self.objects.max_parts);
        match self.objects.sizing {
            PartSizing::FollowsOffset { least_bytes, .. } => destination.with_min_part_bytes(least_bytes),
            PartSizing::Fixed(size_bytes) => destination.with_min_part_bytes(size_bytes).with_equal_parts(),
        }
    }

    /// Runs the job; `None` if the request is refused, because it could only be empty.
    fn run(&self, machine: Machine) -> Option<Exported> {
        let after = match self.asked.excludes_after_t {
            true => AfterTransactionTime::Excluded,
            false => AfterTransactionTime::Kept,
        };
        let source = odd_data::source(&self.pieces, machine.chunk_bytes).after_transaction_time(after);
        let destination = self.destination();
        let mut runtime = match machine.workers {
            None => tokio::runtime::Builder::new_current_thread(),
            Some(_) => tokio::runtime::Builder::new_multi_thread(),
        };
        if let Some(workers) = machine.workers {
            runtime.worker_threads(workers.get());
        }
        runtime.enable_all().build().unwrap().block_on(async {
            let exporter = Exporter::builder()
                .source(Arc::new(source))
                .destination(Arc::new(destination.clone()))
                .config(self.config(machine))
                .build()
                .unwrap();
            let job = exporter.start(self.request()).ok()?;
            let report = tokio::time::timeout(Duration::from_secs(60), job.join()).await.expect("the job ends");
            assert_eq!(
                destination.open_count(),
                0,
                "no upload is left open: {:?} {:?} {:?}",
                report.state,
                report.error,
                report.leftovers.len()
            );
            Some(Exported::read(report, &destination).await)
        })
    }

    /// Runs the job and lets calls of its store fail, goes on with it on another machine each time, and at last without
    /// failures. `None` if it failed before there was anything to go on with.
    fn run_interrupted(&self, machines: [Machine; 2], failing: &[usize]) -> Option<Exported> {
        let after = match self.asked.excludes_after_t {
            true => AfterTransactionTime::Excluded,
            false => AfterTransactionTime::Kept,
        };
        let (memory, store) = (self.destination(), MemoryJobStore::new());
        let exporter = |index: usize, call: Option<usize>| {
            let source = odd_data::source(&self.pieces, machines[index % 2].chunk_bytes).after_transaction_time(after);
            let mut judge = FaultyDestination::new(memory.clone());
            if let Some(call) = call {
                judge = judge.with_fault_at(call, Fault::Fail(ErrorKind::Store));
            }
            let builder = Exporter::builder().source(Arc::new(source)).destination(Arc::new(judge));
            builder.config(self.config(machines[index % 2])).job_store(Arc::new(store.clone())).build().unwrap()
        };
        let join = async |job: JobHandle| tokio::time::timeout(Duration::from_secs(60), job.join()).await.unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut report: Option<JobReport> = None;
            let calls = failing.iter().copied().map(Some).chain([None]);
            for (index, call) in calls.enumerate() {
                let exporter = exporter(index, call);
                report = Some(match report {
                    None => join(exporter.start(self.request()).ok()?).await,
                    Some(report) if report.resumable => join(exporter.resume(&report.job_id).await.unwrap()).await,
                    Some(report) => report,
                });
            }
            let report = report.filter(|report| report.manifest.is_some())?;
            assert_eq!(memory.open_count(), 0, "no upload is left open");
            Some(Exported::read(report, &memory).await)
        })
    }

    /// Types whose ledger row is there though nothing of them was read.
    fn asked_types(&self) -> BTreeSet<String> {
        self.asked.types.clone().unwrap_or_default()
    }

    fn is_rows(&self, name: &str) -> bool {
        self.pieces.iter().any(|piece| piece.name == name && piece.is_rows)
    }
}

/// A job that could only be refused leaves nothing and says why.
fn assert_refused(exported: &Exported, refusal: Refusal) {
    let JobReport { state, error, manifest, .. } = &exported.report;
    let kind = error.as_ref().unwrap().kind();
    let right = match refusal {
        // A line that isn't understood may have been the Group that isn't found.
        Refusal::UnknownGroup => matches!(kind, ErrorKind::NotFound | ErrorKind::CohortUnreadable),
        Refusal::GroupNotActual => kind == ErrorKind::InvalidRequest,
        Refusal::GroupTwice => kind == ErrorKind::CohortUnreadable,
        Refusal::UnknownPatient => matches!(kind, ErrorKind::InvalidRequest | ErrorKind::CohortUnreadable),
    };
    assert!(right, "{refusal:?}: {error:?}");
    assert_eq!((*state, manifest), (JobState::Failed, &None));
    assert!(exported.stored.is_empty());
}

fn check(case: &Case, machines: [Machine; 2]) {
    let Some(exported) = case.run(machines[0]) else {
        let outside = ["Binary", "Practitioner", "Group"];
        let types = case.asked.types.as_ref().expect("only a list of types is refused");
        assert!(case.asked.level != naive::Level::System && types.iter().all(|name| outside.contains(&&**name)));
        return;
    };
    let naive = match naive::export(&odd_data::files(&case.pieces), &case.naive_request()) {
        Ok(naive) => naive,
        Err(refusal) => return assert_refused(&exported, refusal),
    };
    let is_unsure = naive.cohort.as_ref().is_some_and(|cohort| !cohort.missing.is_empty());
    if is_unsure && exported.report.state == JobState::Failed {
        // A line that isn't understood may have been the nested Group that is missing.
        assert_eq!(exported.report.error.as_ref().unwrap().kind(), ErrorKind::CohortUnreadable);
        return;
    }
    exported.assert_well_formed();
    exported.assert_same_as(&naive, |name| case.is_rows(name), &case.asked_types());
    assert_splits(case, &exported);
    let again = case.run(machines[1]).unwrap();
    again.assert_well_formed();
    assert!(again.objects() == exported.objects(), "the same objects on another machine");
    assert_eq!(again.quarantine(), exported.quarantine());
}

/// A job that is interrupted and goes on comes to what it comes to undisturbed.
fn check_interrupted(case: &Case, machines: [Machine; 2], failing: &[usize]) {
    let Some(undisturbed) = case.run(machines[0]).filter(|exported| exported.report.manifest.is_some()) else { return };
    let Some(exported) = case.run_interrupted(machines, failing) else { return };
    exported.assert_well_formed();
    assert_eq!(exported.report.state, undisturbed.report.state);
    assert!(exported.objects() == undisturbed.objects(), "the same objects");
    assert_eq!(exported.quarantine(), undisturbed.quarantine());
    assert_eq!(exported.manifest().extension.ledger, undisturbed.manifest().extension.ledger);
}

/// Objects end where a split is asked for.
fn assert_splits(case: &Case, exported: &Exported) {
    let Split { bytes, resources } = case.objects.split;
    let mut last: BTreeMap<&str, u32> = BTreeMap::new();
    for file in &exported.manifest().output {
        let sequence = last.entry(&file.resource_type).or_default();
        *sequence = file.extension.sequence.max(*sequence);
    }
    for file in &exported.manifest().output {
        let own = &file.extension;
        let next_is_split = exported.manifest().output.iter().any(|next| {
            next.resource_type == file.resource_type
                && next.extension.sequence == own.sequence + 1
                && next.extension.sequence_reason == "split"
        });
        let reached =
            bytes.is_some_and(|most| own.line_bytes >= most) || resources.is_some_and(|most| file.count >= most);
        let is_last = last[file.resource_type.as_str()] == own.sequence;
        assert!(!next_is_split || reached, "{own:?} was split too early");
        if case.objects.compression == Compression::None {
            assert!(resources.is_none_or(|most| file.count <= most), "{own:?} holds {} resources", file.count);
            assert!(is_last || !reached || next_is_split, "{own:?} ends for another reason");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases * 4,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_engine_does_what_the_naive_exporter_does_on_any_machine(
        case in case(),
        machines in [machine(), machine()],
    ) {
        check(&case, machines);
    }

    #[test]
    fn a_job_that_is_interrupted_goes_on_to_what_it_comes_to_undisturbed(
        case in case(),
        machines in [machine(), machine()],
        failing in proptest::collection::vec(3..40_usize, 1..4),
    ) {
        check_interrupted(&case, machines, &failing);
    }
}
