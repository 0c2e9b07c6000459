//! Disks that are full, read-only, damaged or in use: what is told, what is kept, and that the job goes on afterwards.
//!
//! A disk that is full is a limit on the size of files, which holds for everybody, root included; what is read-only is so by
//! its permissions, for a user who isn't root.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::kill::{Outcome, Round, Way};
use super::program::{Ended, end};
use crate::support::files_below;
use crate::support::s3_server::S3Server;

const TO_A_FOLDER: Way<'static> = Way { server: None, compress: "none", only: None };

/// A user without rights of its own, in all systems that we know.
const NOBODY: u32 = 65534;

/// The same command under a limit of the size of files, in bytes.
fn limited(command: &Command, most_bytes: u64) -> Command {
    let mut limited = Command::new("sh");
    // Blocks of 512 bytes. Without the trap the process would be ended by a signal.
    limited.args(["-c", "trap '' XFSZ; ulimit -f \"$0\"; exec \"$@\"", &(most_bytes / 512).to_string()]);
    with_arguments(limited.arg(command.get_program()), command);
    limited
}

fn with_arguments(to: &mut Command, of: &Command) {
    to.args(of.get_args());
    for (name, value) in of.get_envs() {
        match value {
            Some(value) => to.env(name, value),
            None => to.env_remove(name),
        };
    }
}

/// The same command as a user whom permissions bind; the folder is one that this user may enter.
fn bound_by_permissions(command: &Command, folder: &Path) -> Command {
    let is_root = fs::metadata(folder).unwrap().uid() == 0;
    if !is_root {
        let mut same = Command::new(command.get_program());
        with_arguments(&mut same, command);
        return same;
    }
    // The program may lie where only root may look.
    let program = folder.join("fhir-export");
    if !program.try_exists().unwrap() {
        fs::copy(command.get_program(), &program).unwrap();
    }
    let mut bound = Command::new(program);
    with_arguments(&mut bound, command);
    bound.uid(NOBODY).gid(NOBODY);
    bound
}

fn undisturbed(way: &Way<'_>) -> Outcome {
    let round = Round::new(way, 0);
    assert_eq!(end(&mut round.run()).code, Some(3));
    round.outcome()
}

#[track_caller]
fn assert_failed(ended: &Ended, said: &[&str]) {
    ended.assert_exit(1);
    for text in said {
        assert!(ended.stderr.contains(text), "{text:?} isn't in: {}", ended.stderr);
    }
}

/// Resumes a job to its end, and compares what it comes to.
#[track_caller]
fn assert_goes_on(round: &Round<'_>, expected: &Outcome) {
    end(&mut round.resume()).assert_exit(3);
    round.outcome().assert_same(expected, "resumed");
}

fn state(round: &Round<'_>) -> PathBuf {
    round.folder.path().join("state")
}

/// The file that jobs are kept in.
fn job_file(round: &Round<'_>) -> PathBuf {
    state(round).join("jobs.sqlite")
}

#[test]
fn a_full_disk_is_named_and_the_job_goes_on_when_there_is_room() {
    let expected = undisturbed(&TO_A_FOLDER);
    let round = Round::new(&TO_A_FOLDER, 1);
    let failed = end(&mut limited(&round.run(), 10 << 20));
    assert_failed(&failed, &["the staged file can't be written", ".fhir-export-staging/", "what is durable was kept"]);
    assert_eq!(files_below(Path::new(&round.to), |path| !path.starts_with(".fhir-export-staging/")), []);
    // There is no more room yet.
    assert_failed(&end(&mut limited(&round.resume(), 10 << 20)), &["the staged file can't be written"]);
    assert_goes_on(&round, &expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_the_journal_is_named_and_the_job_goes_on_when_there_is_room() {
    let server = S3Server::start().await;
    tokio::task::spawn_blocking(move || {
        let way = Way { server: Some(&server), compress: "none", only: None };
        let many = |round: &Round<'_>| {
            let mut run = round.run();
            run.args(["--split-resources", "1000"]);
            run
        };
        let whole = Round::new(&way, 0);
        end(&mut many(&whole)).assert_exit(3);
        let round = Round::new(&way, 1);
        let failed = end(&mut limited(&many(&round), 128 << 10));
        assert_failed(&failed, &[job_file(&round).to_str().unwrap(), "what is durable was kept"]);
        assert_goes_on(&round, &whole.outcome());
    })
    .await
    .unwrap();
}

/// A round in a folder that everybody may enter, whose source everybody may read.
fn open_round() -> Round<'static> {
    let way = &Way { only: Some("Observation.ndjson"), ..TO_A_FOLDER };
    let round = Round::new(way, 1);
    fs::set_permissions(round.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for folder in [Path::new(&round.to), &state(&round)] {
        fs::create_dir(folder).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
    }
    round
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_target_that_is_read_only_is_named_and_the_job_goes_on_when_it_is_not() {
    let round = open_round();
    let bound = |command: &Command| bound_by_permissions(command, round.folder.path());
    set_mode(Path::new(&round.to), 0o555);
    let failed = end(&mut bound(&round.run()));
    assert_failed(&failed, &["Permission denied", &round.to]);
    assert_eq!(files_below(Path::new(&round.to), |_| true), []);
    set_mode(Path::new(&round.to), 0o777);
    let ended = end(&mut bound(&round.resume()));
    assert!(matches!(ended.code, Some(0 | 3)), "{ended:?}");
    let expected = undisturbed(&Way { only: Some("Observation.ndjson"), ..TO_A_FOLDER });
    round.outcome().assert_same(&expected, "resumed");
}

#[test]
fn a_state_folder_that_is_read_only_is_named_and_nothing_is_written() {
    let round = open_round();
    set_mode(&state(&round), 0o555);
    let failed = end(&mut bound_by_permissions(&round.run(), round.folder.path()));
    assert_failed(&failed, &[state(&round).to_str().unwrap()]);
    assert_eq!(files_below(Path::new(&round.to), |_| true), []);
}

/// A job that failed when some of it was durable.
fn failed_round() -> Round<'static> {
    let round = Round::new(&TO_A_FOLDER, 1);
    assert_failed(&end(&mut limited(&round.run(), 10 << 20)), &["what is durable was kept"]);
    round
}

#[test]
fn a_damaged_journal_is_named_and_nothing_durable_is_touched() {
    let expected = undisturbed(&TO_A_FOLDER);
    let round = failed_round();
    // Else what is damaged may lie beside the file whole, and nothing is lost.
    let store = rusqlite::Connection::open(job_file(&round)).unwrap();
    store.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(store);
    let sound = files_below(&state(&round), |_| true);
    let target = files_below(Path::new(&round.to), |_| true);
    let length = fs::metadata(job_file(&round)).unwrap().len();
    let file = || fs::File::options().write(true).open(job_file(&round)).unwrap();
    let damages: [&dyn Fn(); 3] = [
        &|| file().write_all_at(&[0xA5; 100], 0).unwrap(),
        &|| file().write_all_at(&vec![0xA5; (length - 4096) as usize], 4096).unwrap(),
        &|| file().set_len(length / 2 + 100).unwrap(),
    ];
    for damage in damages {
        damage();
        let failed = end(&mut round.resume());
        assert_failed(&failed, &[job_file(&round).to_str().unwrap()]);
        assert!(files_below(Path::new(&round.to), |_| true) == target, "nothing durable is touched");
        for entry in fs::read_dir(state(&round)).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
            fs::remove_file(entry.path()).unwrap();
        }
        for (name, bytes) in &sound {
            fs::write(state(&round).join(name), bytes).unwrap();
        }
    }
    assert_goes_on(&round, &expected);
}

#[test]
fn a_journal_that_another_program_has_locked_is_named() {
    let expected = undisturbed(&TO_A_FOLDER);
    let round = failed_round();
    let other = rusqlite::Connection::open(job_file(&round)).unwrap();
    other.pragma_update(None, "locking_mode", "EXCLUSIVE").unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    assert_failed(&end(&mut round.resume()), &[job_file(&round).to_str().unwrap(), "locked"]);
    drop(other);
    assert_goes_on(&round, &expected);
}

/// Whatever the machine's power may have cost a staged file since it was synced.
#[test]
fn staged_bytes_that_the_disk_has_lost_are_written_again() {
    let expected = undisturbed(&TO_A_FOLDER);
    let lose: [fn(&fs::File, u64); 4] = [
        // As long as it was, but its end is zeros; all of it is; a bit is wrong; it is shorter.
        |file, length| file.write_all_at(&vec![0; 3 << 20], length - (3 << 20)).unwrap(),
        |file, length| file.write_all_at(&vec![0; length as usize], 0).unwrap(),
        |file, length| file.write_all_at(&[0xFF], length / 2).unwrap(),
        |file, length| file.set_len(length - 1000).unwrap(),
    ];
    for lose in lose {
        let round = failed_round();
        let staging = Path::new(&round.to).join(".fhir-export-staging");
        let records = files_below(&staging, |path| path.ends_with(".parts"));
        assert!(!records.is_empty());
        let mut durable = 0;
        for (name, record) in &records {
            // It wasn't synced.
            let record: String = std::str::from_utf8(record)
                .unwrap()
                .lines()
                .filter(|line| !line.starts_with("synced"))
                .map(|line| format!("{line}\n"))
                .collect();
            fs::write(staging.join(name), &record).unwrap();
            let length: u64 = record.lines().map(|line| line.split(' ').nth(2).unwrap().parse::<u64>().unwrap()).sum();
            let file = staging.join(name.strip_suffix(".parts").unwrap());
            lose(&fs::File::options().write(true).open(file).unwrap(), length);
            durable += length;
        }
        assert!(durable > 5 << 20, "{durable}");
        assert_goes_on(&round, &expected);
    }
}
