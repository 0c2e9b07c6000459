//! What the fuzz targets do: ordinary functions, which the tests of fhir-export run on every file of the corpora.
//!
//! A body panics if the crate does, or if the crate and an oracle disagree: a second implementation, a round trip, or
//! the same data handed over in other pieces.

#[cfg(feature = "s3")]
mod answers;
mod compartment;
#[cfg(feature = "cli")]
mod config;
mod engine;
mod first_line;
mod gunzip;
mod journal;
mod lines;
mod policy;
mod references;
mod request;
mod scan;
mod scope;
mod sigv4;
mod texts;
mod times;
mod token;

/// Runs a target on an input.
pub type Body = fn(&[u8]);

/// All targets by name.
pub const TARGETS: &[(&str, Body)] = &[
    #[cfg(feature = "s3")]
    ("answers", answers::answers),
    ("body", request::body),
    ("cohort", scope::cohort),
    ("command_line", request::command_line),
    ("compartment", compartment::compartment),
    #[cfg(feature = "cli")]
    ("config", config::config),
    ("engine", engine::engine),
    ("fields", texts::fields),
    ("first_line", first_line::first_line),
    ("gunzip", gunzip::gunzip),
    ("journal", journal::journal),
    ("lines", lines::lines),
    ("manifest", texts::manifest),
    ("parameters", request::parameters),
    ("policy", policy::policy),
    ("query", request::query),
    ("references", references::references),
    ("scan", scan::scan_line),
    ("sigv4", sigv4::sigv4),
    ("times", times::times),
    ("token", token::token),
];

/// Runs the target of a name.
///
/// # Panics
/// When there is none, or the target finds a fault.
pub fn run(target: &str, data: &[u8]) {
    let body = TARGETS.iter().find(|(name, _)| *name == target);
    let (_, body) = body.unwrap_or_else(|| panic!("there is no target {target}"));
    body(data);
}

/// A runtime for targets that wait.
fn wait_for<F: Future>(future: F) -> F::Output {
    static RUNTIME: std::sync::OnceLock<tokio::runtime::Runtime> = std::sync::OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap_or_else(|error| panic!("{error}"))
    });
    runtime.block_on(future)
}
