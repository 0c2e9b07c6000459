//! The engine against what can't be done without: the figures of the speed goals, side by side.
//!
//! `cargo bench --features full --bench floor` makes the data (once, 2.2 GB), starts a discarding S3 server, runs
//! baselines and engine in turns, each in a process of its own, and prints Markdown tables of medians. Data lie in
//! `FHIR_EXPORT_BENCH_DATA`, or in the system's folder for temporary files. One thing at a time:
//!
//! ```text
//! floor table    [--rounds 7] [--only WORD] [--validate full]
//! floor sink     [--rate BYTES_PER_SECOND]        prints its URL, serves until it is ended
//! floor data                                      prints the folders of the synthetic data
//! floor copies   --from FOLDER --to FOLDER --bytes N
//! floor baseline --kind floor|bare --source FOLDER --to drop|URL [--threads 2]
//! floor engine   --source FOLDER --to drop|URL|FOLDER [--since T] …
//! ```

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::missing_errors_doc,
    missing_docs,
    unreachable_pub,
    reason = "a program for measuring: it prints, and a broken assumption ends it"
)]

mod arguments;
mod baseline;
mod copies;
mod engine;
mod measure;
mod sink;
mod synth;
mod table;
mod watched;

use std::path::{Path, PathBuf};
use std::time::Instant;

use arguments::Arguments;

/// Where the data lie.
fn data_folder() -> PathBuf {
    let named = std::env::var_os("FHIR_EXPORT_BENCH_DATA").map(PathBuf::from);
    named.unwrap_or_else(|| std::env::temp_dir().join("fhir-export-bench"))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let begun = Instant::now();
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench").peekable();
    let command = words.next_if(|word| !word.starts_with("--")).unwrap_or_else(|| "table".to_owned());
    let arguments = Arguments::parse(words);
    match command.as_str() {
        "sink" => sink::serve(arguments.number("rate").map(|rate| rate as f64))?,
        "data" => println!("{:#?}", synth::Folders::below(&data_folder())?),
        "copies" => {
            let bytes = arguments.number("bytes").unwrap_or(1 << 30) as u64;
            copies::repeat(Path::new(arguments.required("from")), Path::new(arguments.required("to")), bytes)?;
        }
        "baseline" => println!("{}", run_baseline(&arguments)?.line()),
        "engine" => println!("{}", engine::run(&arguments, begun)?.line()),
        "table" => table::print(&arguments, &data_folder())?,
        _ => return Err(format!("there is no command {command}").into()),
    }
    Ok(())
}

fn run_baseline(arguments: &Arguments) -> std::io::Result<measure::Sample> {
    let source = Path::new(arguments.required("source"));
    let endpoint = Some(arguments.required("to")).filter(|to| *to != "drop");
    let threads = arguments.number("threads").unwrap_or(2);
    match (arguments.required("kind"), endpoint) {
        ("bare", Some(endpoint)) => baseline::bare(source, endpoint, threads),
        _ => baseline::floor(source, endpoint, threads),
    }
}
