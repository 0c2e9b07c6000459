#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fhir_export_fuzz::run("config", data));
