//! The example of an embedded store does what it shows.

use fhir_export::fhir::ResourceType;
use fhir_export::job::JobState;
use fhir_export::source::contract;

#[path = "../../examples/embed.rs"]
mod example;

#[tokio::test]
async fn the_store_of_the_example_keeps_the_contract_of_a_source() {
    contract::check(&example::filled_store()).await.unwrap();
}

#[tokio::test]
async fn the_example_exports_its_store() {
    let folder = tempfile::tempdir().unwrap();
    let report = example::export(example::filled_store(), folder.path()).await.unwrap();
    assert_eq!(report.state, JobState::Completed, "{:?}", report.error);
    let counts: Vec<_> =
        report.manifest.unwrap().output.iter().map(|file| (file.resource_type.clone(), file.count)).collect();
    assert_eq!(counts, [("Observation".to_owned(), 500), ("Patient".to_owned(), 100)]);
}

#[tokio::test]
async fn a_bad_row_is_told_by_the_keys_of_its_source() {
    let store = example::filled_store();
    // An id of eight bytes, as long as an offset.
    store.put(ResourceType::r4("Account").unwrap(), "acc-0001", r#""name":not json"#);
    let folder = tempfile::tempdir().unwrap();
    let report = example::export(store, folder.path()).await.unwrap();
    assert_eq!(report.state, JobState::CompletedWithErrors, "{:?}", report.error);
    let object = report.manifest.unwrap().error.remove(0);
    let lines = std::fs::read_to_string(folder.path().join(object.extension.key)).unwrap();
    assert!(lines.contains("Account, row 0 after the start, "), "{lines}");
}
