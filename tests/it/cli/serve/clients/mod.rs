//! Clients that others have written, against the server as a process of its own: the AWS CLI and smart-fetch.

mod aws;
#[cfg(feature = "testing")]
mod aws_keys;
#[cfg(feature = "testing")]
mod healthlake;
mod smart_fetch;
mod smart_fetch_interrupted;
#[cfg(feature = "testing")]
mod smart_fetch_tokens;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use tokio::process::Command;

use super::super::program::Ended;
use super::environment;
use crate::support::script;

/// Longer than a client takes here, unless it hangs.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// Where the clients are.
struct Clients {
    aws: PathBuf,
    smart_fetch: PathBuf,
}

/// The clients, which the first test that asks for them installs if they aren't there.
///
/// # Panics
/// When they can't be installed: a test that can't run fails.
fn clients() -> &'static Clients {
    static CLIENTS: OnceLock<Result<Clients, String>> = OnceLock::new();
    CLIENTS.get_or_init(Clients::install).as_ref().unwrap_or_else(|error| {
        panic!(
            "the clients can't be installed: {error}\nThey need Python 3.11 or newer with venv and pip, and PyPI once. To \
             run all tests but these: cargo test --all-features -- --skip clients"
        )
    })
}

impl Clients {
    fn install() -> Result<Self, String> {
        let (told, mut script) = script::start("clients.py")?;
        script.wait().map_err(|error| error.to_string())?;
        let path = |name: &str| PathBuf::from(told[name].as_str().unwrap());
        Ok(Self { aws: path("aws"), smart_fetch: path("smartFetch") })
    }
}

/// A client that knows nothing of this machine but a home of its own; it is killed when it is dropped.
fn client(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", home).env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8").kill_on_drop(true);
    command
}

/// Runs a client to its end.
async fn run(command: &mut Command) -> Ended {
    let output = tokio::time::timeout(HANGS_AFTER, command.output()).await.expect("the client ends").unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
