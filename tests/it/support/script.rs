//! A server that is a script of this repository, in a process of its own.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::repository;

/// Starts a script of `tests/servers`; gives what it says of itself when it takes requests, and the process, whose pipe the
/// script watches: it ends when that is closed.
///
/// # Errors
/// What the script says if it can't start.
pub(crate) fn start(name: &str) -> Result<(Value, Child), String> {
    let started = Command::new("python3")
        .arg(repository("tests/servers").join(name))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut script = started.map_err(|error| format!("python3: {error}"))?;
    let mut line = String::new();
    BufReader::new(script.stdout.take().unwrap()).read_line(&mut line).unwrap();
    if let Ok(told) = serde_json::from_str::<Value>(&line) {
        return Ok((told, script));
    }
    let mut why = String::new();
    script.stderr.take().unwrap().read_to_string(&mut why).unwrap();
    Err(why)
}
