//! Counts the instructions of the scan, line for line of the same data, and compares them with recorded figures.
//!
//! Time says little on a shared machine; a count of instructions under valgrind is the same on every run and on every
//! load. Only what runs inside of [`scan_lines`] is counted. A row whose count differs by more than [`TOLERANCE_PERCENT`]
//! from its figure fails the run, be it more or less: a gain is to be recorded too, or it could be lost unseen.
//!
//! Other compilers make other instructions, and the search for single bytes picks its own by what the processor
//! has, so figures are only compared where they were taken: with the compiler that they name, on x86-64 with AVX2.
//!
//! ```sh
//! cargo +1.95.0 run --profile instructions -p fhir-export-instructions             # compares
//! cargo +1.95.0 run --profile instructions -p fhir-export-instructions -- --record # writes the figures anew
//! ```

mod callgrind;
mod figures;
#[allow(dead_code, clippy::unwrap_used, reason = "borrowed from the benches, which use more of it")]
#[path = "../../support/resources.rs"]
mod resources;
mod rows;

use std::process::ExitCode;

use figures::{Counted, Figures};
use rows::Row;

/// By how much a count may differ from its figure.
const TOLERANCE_PERCENT: f64 = 2.0;

/// The compiler that made this program, as it names itself.
const COMPILER: &str = env!("COMPILER");

const RECORD: &str = "cargo +VERSION run --profile instructions -p fhir-export-instructions -- --record";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match &*arguments.iter().map(String::as_str).collect::<Vec<_>>() {
        ["--scan", name] => scan_row(name),
        ["--record"] => record(),
        [] => compare(),
        _ => Err("usage: fhir-export-instructions [--record]".into()),
    };
    result.map_or_else(
        |message| {
            eprintln!("{message}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

/// What valgrind runs.
fn scan_row(name: &str) -> Result<(), String> {
    let row = Row::all().find(|row| row.name() == name).ok_or_else(|| format!("there is no row {name}"))?;
    row.scan(&row.data())
}

fn count_all() -> Result<Figures, String> {
    let mut figures = Figures::new(COMPILER);
    for row in Row::all() {
        let bytes = row.data().len();
        let counted = Counted { bytes, instructions: callgrind::instructions_of(&row.name())? };
        figures.rows.insert(row.name(), counted);
    }
    Ok(figures)
}

fn record() -> Result<(), String> {
    if !has_avx2() {
        return Err("the figures are taken on x86-64 with AVX2".into());
    }
    let figures = count_all()?;
    figures.write()?;
    println!("recorded {} rows", figures.rows.len());
    Ok(())
}

fn compare() -> Result<(), String> {
    let recorded = Figures::read()?;
    if recorded.compiler != COMPILER {
        println!("SKIPPED: THE FIGURES ARE OF {}, THIS IS {COMPILER}", recorded.compiler);
        return Ok(());
    }
    if !has_avx2() {
        println!("SKIPPED: THE FIGURES ARE OF X86-64 WITH AVX2");
        return Ok(());
    }
    let found = count_all()?;
    let names = recorded.rows.keys().ne(found.rows.keys());
    let mut faults = Vec::new();
    if names {
        faults.push("the rows are not those of the figures".to_owned());
    }
    for (name, found) in &found.rows {
        let Some(recorded) = recorded.rows.get(name) else { continue };
        let percent = found.percent_over(recorded);
        println!(
            "{name:<44} {:>12} recorded {:>12} found {percent:>+7.2} %",
            recorded.instructions, found.instructions
        );
        if found.bytes != recorded.bytes {
            faults.push(format!("{name}: the data have {} bytes, had {}", found.bytes, recorded.bytes));
        } else if percent.abs() > TOLERANCE_PERCENT {
            faults.push(format!(
                "{name}: {} instructions, recorded are {}: {percent:+.2} %, more than {TOLERANCE_PERCENT} %",
                found.instructions, recorded.instructions,
            ));
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    let record = RECORD.replace("VERSION", figures::version(COMPILER));
    Err(format!("{}\nIf that is meant, record it anew and say why in the commit:\n  {record}", faults.join("\n")))
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx2() -> bool {
    false
}
