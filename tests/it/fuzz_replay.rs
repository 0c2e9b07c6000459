//! Every input of the fuzz targets' corpora, run again on a stable compiler and without a fuzzer.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::support::{files_below, repository};

#[path = "../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, clippy::print_stderr, reason = "a library of its own that is borrowed here")]
mod bodies;

fn target_names() -> impl Iterator<Item = &'static str> {
    bodies::TARGETS.iter().map(|(name, _)| *name)
}

/// Runs a target on all its inputs, and says on which ones it fails.
fn replay(target: &str) {
    let mut faults = Vec::new();
    let mut count = 0;
    for folder in ["fuzz/seeds", "fuzz/corpus"] {
        let folder = repository(folder).join(target);
        if !folder.is_dir() {
            continue;
        }
        for (name, data) in files_below(&folder, |_| true) {
            count += 1;
            if catch_unwind(AssertUnwindSafe(|| bodies::run(target, &data))).is_err() {
                faults.push(format!("{}/{name}", folder.display()));
            }
        }
    }
    assert!(count > 0, "{target} has no seeds");
    assert!(faults.is_empty(), "{target} fails on:\n{}", faults.join("\n"));
}

macro_rules! replayed {
    ($($target:ident)*) => {
        $(
            #[test]
            fn $target() {
                replay(stringify!($target));
            }
        )*

        #[test]
        fn every_target_is_replayed() {
            assert_eq!(target_names().collect::<Vec<_>>(), [$(stringify!($target)),*]);
        }
    };
}

replayed! {
    answers body cohort command_line compartment config engine fields first_line gunzip journal lines manifest
    parameters policy query references scan sigv4 times token
}

#[test]
fn every_target_has_a_program_and_seeds() {
    let names = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(repository(folder)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let targets: BTreeSet<String> = target_names().map(str::to_owned).collect();
    let programs: BTreeSet<String> = targets.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(names("fuzz/fuzz_targets"), programs);
    assert_eq!(names("fuzz/seeds"), targets);
    assert!(names("fuzz/corpus").is_subset(&targets));
    for target in targets {
        let program = fs::read_to_string(repository(&format!("fuzz/fuzz_targets/{target}.rs"))).unwrap();
        assert!(program.contains(&format!("run(\"{target}\"")), "{target}");
    }
}

#[test]
fn the_corpora_are_small() {
    let files = [files_below(&repository("fuzz/seeds"), |_| true), files_below(&repository("fuzz/corpus"), |_| true)];
    let bytes: usize = files.iter().flatten().map(|(_, bytes)| bytes.len()).sum();
    assert!(bytes < 1 << 20, "{bytes} bytes");
    for target in target_names() {
        let of_target = |(path, _): &&(String, Vec<u8>)| path.starts_with(&format!("{target}/"));
        let count = files[1].iter().filter(of_target).count();
        assert!(count <= 200, "{target} has {count} inputs");
    }
}
