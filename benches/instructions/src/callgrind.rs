//! Runs a row under valgrind.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// What is counted, in callgrind's pattern.
const COUNTED: &str = "*::rows::scan_lines*";

/// Has valgrind run this program for a row.
pub(crate) fn instructions_of(row: &str) -> Result<u64, String> {
    let program = env::current_exe().map_err(|error| format!("this program isn't found: {error}"))?;
    let profile = env::temp_dir().join(format!("fhir-export-instructions.{}", std::process::id()));
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--quiet", "--collect-atstart=no"]);
    command.arg(format!("--toggle-collect={COUNTED}"));
    command.arg(format!("--callgrind-out-file={}", profile.display()));
    command.arg(program).args(["--scan", row]);
    let output = command.output().map_err(|error| format!("valgrind can't be run: {error}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{row}: valgrind ends with {}\n{text}", output.status));
    }
    let total = total(&profile);
    drop(fs::remove_file(&profile));
    match total {
        Some(total) if total > 0 => Ok(total),
        _ => Err(format!("{row}: nothing was counted; is {COUNTED} still a function of its own?")),
    }
}

/// The sum of a profile: its line `totals: 123`.
fn total(profile: &Path) -> Option<u64> {
    let text = fs::read_to_string(profile).ok()?;
    text.lines().find_map(|line| line.strip_prefix("totals:"))?.trim().parse().ok()
}
