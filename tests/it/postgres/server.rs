//! A throw-away PostgreSQL server, or the one that `DATABASE_URL` names.
//!
//! A small shell starts it and waits for the end of its input, so the server ends with this process, also if that is
//! killed. It is installed from the system's packages where it is missing and that is possible.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::{Client, NoTls};

/// The server that tests share, each with a database of its own.
static SHARED: LazyLock<Shared> = LazyLock::new(|| match std::env::var("DATABASE_URL") {
    Ok(url) if !url.is_empty() => Shared::Given(url),
    _ => Shared::Own(Server::start("max_connections = 200")),
});

static DATABASES: AtomicU32 = AtomicU32::new(0);

enum Shared {
    Given(String),
    Own(Server),
}

/// A server of one's own, which may be stopped and started.
pub(crate) struct Server {
    port: u16,
    folder: PathBuf,
    programs: PathBuf,
    // Its input is what the server waits for.
    _shell: Child,
}

impl Server {
    /// Starts a server with these lines in its configuration.
    pub(crate) fn start(settings: &str) -> Self {
        let programs = programs();
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            match try_start(&programs, port, settings) {
                Ok((shell, folder)) => return Self { port, folder, programs, _shell: shell },
                // Somebody else was quicker to take the port.
                Err(said) if said.contains("Address already in use") => {}
                Err(said) => panic!("PostgreSQL can't be started: {said}"),
            }
        }
        panic!("PostgreSQL finds no free port");
    }

    /// The address of a database of it.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Stops it at once, as if it crashed.
    pub(crate) fn kill(&self) {
        self.control(&["-m", "immediate", "stop"]);
    }

    /// Starts it again.
    pub(crate) fn start_again(&self) {
        self.control(&["-w", "-l", self.folder.join("server.log").to_str().unwrap(), "start"]);
    }

    /// Kills it and starts it again, while the caller's other tasks go on.
    pub(crate) async fn crash_and_come_back(self) -> Self {
        let restart = move || {
            self.kill();
            self.start_again();
            self
        };
        tokio::task::spawn_blocking(restart).await.unwrap()
    }

    fn control(&self, arguments: &[&str]) {
        let mut command = as_postgres(&self.programs.join("pg_ctl"));
        command.current_dir("/").arg("-D").arg(self.folder.join("data")).args(arguments);
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(status.success(), "pg_ctl {arguments:?}");
    }
}

fn try_start(programs: &Path, port: u16, settings: &str) -> Result<(Child, PathBuf), String> {
    let mut command = as_postgres(Path::new("/bin/sh"));
    command.arg("-c").arg(include_str!("server.sh")).arg("server.sh").arg(programs).arg(port.to_string()).arg(settings);
    // A Ctrl-C is for the tests; the server ends after them.
    command.process_group(0).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut shell = command.spawn().map_err(|error| error.to_string())?;
    let mut line = String::new();
    BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
    match line.trim_end().strip_prefix("ready ") {
        Some(folder) => Ok((shell, folder.into())),
        None => {
            let mut said = String::new();
            shell.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            shell.wait().unwrap();
            Err(said)
        }
    }
}

/// A command run by a user that PostgreSQL takes: it refuses root.
fn as_postgres(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(program);
    command
}

pub(super) fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout.trim_ascii() == b"0"
}

/// The folder of the server's programs.
fn programs() -> PathBuf {
    installed().unwrap_or_else(|| {
        let installs = if is_root() { vec![] } else { vec!["sudo", "-n"] };
        let install = |arguments: &[&str]| {
            let words: Vec<&str> =
                installs.iter().copied().chain(["apt-get"]).chain(arguments.iter().copied()).collect();
            let done = Command::new(words[0]).args(&words[1..]).env("DEBIAN_FRONTEND", "noninteractive").output();
            done.is_ok_and(|output| output.status.success())
        };
        install(&["update"]);
        install(&["install", "--yes", "--no-install-recommends", "postgresql"]);
        installed().expect(
            "the tests need PostgreSQL, which is not installed and which apt-get can't install: \
             install it, or set DATABASE_URL to a server where databases may be made",
        )
    })
}

fn installed() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::env::var_os("PATH").iter().flat_map(std::env::split_paths).collect();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    versions.sort();
    found.extend(versions.into_iter().rev());
    found.into_iter().find(|folder| folder.join("initdb").is_file() && folder.join("pg_ctl").is_file())
}

/// A database for one test. It is removed behind the test if the server goes on.
pub(crate) struct Database {
    server: String,
    name: String,
    pub(crate) url: String,
}

impl Database {
    /// Makes an empty database on the shared server.
    pub(crate) async fn new() -> Self {
        let server = match &*SHARED {
            Shared::Given(url) => url.clone(),
            Shared::Own(server) => server.url("postgres"),
        };
        Self::on(&server).await
    }

    /// Makes an empty database on the server of an address.
    pub(crate) async fn on(server: &str) -> Self {
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        let name = format!("fhir_export_test_{}_{number}", std::process::id());
        let client = connect(server).await;
        let create = format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'");
        client.batch_execute(&create).await.unwrap();
        let url = with_database(server, &name);
        Self { server: server.to_owned(), name, url }
    }

    /// A connection to it.
    pub(crate) async fn client(&self) -> Client {
        connect(&self.url).await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, drop_it) = (self.server.clone(), format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        // The test may have failed, or have stopped the server: then it stays, or has gone already.
        let removed = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let Ok((client, connection)) = tokio_postgres::connect(&server, NoTls).await else { return };
                tokio::select! {
                    _ = connection => {}
                    _ = client.batch_execute(&drop_it) => {}
                }
            });
        });
        drop(removed.join());
    }
}

/// The address of another database of the same server.
fn with_database(url: &str, name: &str) -> String {
    let (place, query) =
        url.split_once('?').map_or((url, String::new()), |(place, query)| (place, format!("?{query}")));
    let authority = place.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
    format!("{authority}/{name}{query}")
}

/// A connection to a database.
pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(connection);
    tasks.detach_all();
    client
}

#[test]
fn the_address_of_another_database_differs_in_its_name_only() {
    for (url, expected) in [
        ("postgres://u:p@h:1/a", "postgres://u:p@h:1/b"),
        ("postgres://h", "postgres://h/b"),
        ("postgres:///a?host=/run", "postgres:///b?host=/run"),
    ] {
        assert_eq!(with_database(url, "b"), expected);
    }
}
