//! What of `serve` understands its file.

#[path = "../../../src/bin/fhir-export/serve/access.rs"]
#[allow(dead_code, reason = "it is borrowed from the binary")]
mod access;
#[path = "../../../src/bin/fhir-export/serve/config_file.rs"]
#[allow(dead_code, reason = "it is borrowed from the binary")]
mod config_file;

use access::AccessPlan;
use config_file::ConfigFile;

use super::faults::Faults;

/// What is wrong with a file.
pub(super) fn told(text: &str) -> Vec<String> {
    let mut file = match ConfigFile::of("serve.toml", text.to_owned()) {
        Ok(file) => file,
        Err(refusal) => {
            assert!(refusal.starts_with("serve.toml:") && !refusal.contains('\n'), "{refusal:?}");
            return vec![refusal];
        }
    };
    // No file is read, whatever its path may be.
    for key in file.settings.auth.iter_mut().flat_map(|auth| &mut auth.get_mut().keys) {
        key.policies.get_mut().clear();
    }
    let mut faults = Faults::default();
    let plan = AccessPlan::of(&mut faults, &file, "eu-west-1");
    assert_eq!(plan.is_some(), file.settings.auth.is_some());
    let told: Vec<String> = faults.lines().map(str::to_owned).collect();
    assert!(told.iter().all(|line| line.starts_with("serve.toml:")), "{told:?}");
    told
}
