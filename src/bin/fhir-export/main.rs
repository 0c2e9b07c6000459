//! temporary
use std::sync::Arc;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let rt = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    rt.block_on(async {
        let source = fhir_export::source::ndjson::NdjsonSource::folder(std::path::Path::new(&args[1]));
        let dest = fhir_export::destination::LocalDestination::new(std::path::Path::new(&args[2])).unwrap();
        let level = fhir_export::request::Level::parse(&args[3]).unwrap();
        let mut c = fhir_export::job::Config::default();
        if args.get(4).is_some_and(|a| a == "gz") {
            c.compression = fhir_export::writer::Compression::Gzip { level: 6 };
        }
        let ex = fhir_export::job::Exporter::builder()
            .source(Arc::new(source))
            .destination(Arc::new(dest))
            .config(c)
            .build()
            .unwrap();
        let t = std::time::Instant::now();
        let report = ex.start(fhir_export::request::ExportRequest::new(level)).unwrap().join().await;
        eprintln!("{:?} {:?} {:?}", t.elapsed(), report.state, report.error);
        for (t, r) in &report.ledger {
            eprintln!(
                "{:?} read {} written {} q {} scope {}",
                t,
                r.read.resources,
                r.written.resources,
                r.quarantined.resources,
                r.excluded(fhir_export::ledger::Exclusion::Scope).resources
            );
        }
    });
}
