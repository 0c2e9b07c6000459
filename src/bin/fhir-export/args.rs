//! Arguments as they are typed: nothing is looked up or opened here.
//!
//! Values stay text, so that the plan can tell all that are wrong at once.

use clap::{Args, Parser, Subcommand};

/// FHIR bulk export: streams resources from a source into one NDJSON object per type, every resource accounted for.
#[derive(Debug, Parser)]
#[command(name = "fhir-export", version, arg_required_else_help = true, after_help = TOP_EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Box<RunArgs>),
    Resume(ResumeArgs),
    Jobs(StateArgs),
    Cancel(CancelArgs),
    Sweep(SweepArgs),
    Import(ImportArgs),
    Serve(Box<ServeArgs>),
    Verify(VerifyArgs),
}

/// Exports from a source to a folder or bucket.
#[derive(Debug, Args)]
#[command(after_help = RUN_NOTES)]
pub(crate) struct RunArgs {
    /// Where resources come from: a folder or file of .ndjson and .ndjson.gz, file:///folder, s3://bucket/prefix,
    /// sqlite:store.db, postgres://user@host/database
    #[arg(long, value_name = "URI")]
    pub(crate) source: String,

    /// Where objects go: a folder, file:///folder, s3://bucket/prefix
    #[arg(long, value_name = "URI")]
    pub(crate) to: String,

    #[command(flatten)]
    pub(crate) request: RequestArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) behaviour: BehaviourArgs,
    #[command(flatten)]
    pub(crate) resources: ResourceArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// KMS key that encrypts the objects: an id, alias or ARN
    #[arg(long, value_name = "KEY", help_heading = "S3")]
    pub(crate) kms_key: Option<String>,

    /// Checksum sent with each part, which the store checks: crc64nvme, sha256 or none [default: crc64nvme]
    #[arg(long, value_name = "ALGORITHM", help_heading = "S3")]
    pub(crate) checksum: Option<String>,
}

/// Loads NDJSON into a store, from which exports are quick and Groups are found by an index
#[derive(Debug, Args)]
#[command(after_help = IMPORT_NOTES)]
pub(crate) struct ImportArgs {
    /// Where resources come from: a folder or file of .ndjson and .ndjson.gz, file:///folder, s3://bucket/prefix, or
    /// another store
    #[arg(long, value_name = "URI")]
    pub(crate) from: String,

    /// The store, which is made if it isn't there: sqlite:store.db,
    /// postgres://user@host/database
    #[arg(long, value_name = "URI")]
    pub(crate) to: String,

    /// Threads that scan [default: one for each core]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<String>,

    /// How progress is shown on stderr: auto, bar, plain or none
    #[arg(long, value_name = "KIND", default_value = "auto")]
    pub(crate) progress: String,

    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "What is exported")]
pub(crate) struct RequestArgs {
    /// Whose data: system (everything), patient (all patients), or group/ID (the patients of a Group)
    #[arg(long, value_name = "LEVEL", default_value = "system")]
    pub(crate) level: String,

    /// Only these resource types; can be given more than once
    #[arg(long = "type", value_name = "A,B")]
    pub(crate) types: Vec<String>,

    /// Only resources last updated at or after this instant, or at an unknown time: 2024-05-09T00:00:00Z
    #[arg(long, value_name = "INSTANT")]
    pub(crate) since: Option<String>,

    /// Only resources last updated at or before this instant
    #[arg(long, value_name = "INSTANT")]
    pub(crate) until: Option<String>,

    /// Only resources with this label in meta.security: system|code, system|, |code or code; of several, all
    #[arg(long, value_name = "TOKEN")]
    pub(crate) security: Vec<String>,

    /// Only resources with this label in meta.tag; of several, all
    #[arg(long = "tag", value_name = "TOKEN")]
    pub(crate) tags: Vec<String>,

    /// Only these patients and what belongs to them, at the levels patient and group: ids or references
    #[arg(long = "patient", value_name = "A,B")]
    pub(crate) patients: Vec<String>,

    /// Base URL of the source's own server: absolute references on it count as its own; can be given more than once
    #[arg(long = "base-url", value_name = "URL")]
    pub(crate) base_urls: Vec<String>,

    /// How far the transaction time may lie back, of postgres:// [default: lag_seconds of the URI, or 60]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) lag: Option<String>,

    /// Trust no file name: read every file whatever types are asked for
    #[arg(long)]
    pub(crate) scan_all: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "What is written")]
pub(crate) struct OutputArgs {
    /// Names of the objects: healthlake (ID-FHIR_EXPORT-JOB/Patient/Patient-…) or flat (Patient.ndjson)
    #[arg(long, value_name = "LAYOUT", default_value = "healthlake")]
    pub(crate) layout: String,

    /// Id of the data store, in names of the layout healthlake [default: 32 hex digits made of the source's URI]
    #[arg(long, value_name = "ID")]
    pub(crate) datastore_id: Option<String>,

    /// Compression: none or gzip
    #[arg(long, value_name = "KIND", default_value = "none")]
    pub(crate) compress: String,

    /// Level of gzip, 1 (fastest) to 9 (smallest) [default: 6]
    #[arg(long, value_name = "N")]
    pub(crate) gzip_level: Option<String>,

    /// Begin another object of a type when one has this many bytes of lines, before compression
    #[arg(long, value_name = "SIZE")]
    pub(crate) split_bytes: Option<String>,

    /// Begin another object of a type when one has this many resources
    #[arg(long, value_name = "N")]
    pub(crate) split_resources: Option<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "What happens")]
pub(crate) struct BehaviourArgs {
    /// How much of each line is checked: full (all of JSON's grammar) or structure (brackets, quotes, UTF-8, control
    /// characters; faster)
    #[arg(long, value_name = "LEVEL", default_value = "full")]
    pub(crate) validate: String,

    /// What isn't a resource: quarantine (report it and go on) or fail (stop at the first)
    #[arg(long, value_name = "WAY", default_value = "quarantine")]
    pub(crate) on_bad: String,

    /// On Ctrl-C or SIGTERM: seal (complete what is durable) or discard (remove everything)
    #[arg(long, value_name = "WAY", default_value = "seal")]
    pub(crate) on_cancel: String,

    /// How long a cancelled job may still send what it has read, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    pub(crate) seal_timeout: String,

    /// Where the job is kept, so that it can be resumed: a folder, or postgres://user@host/database
    /// [default: $XDG_STATE_HOME/fhir-export, ~/.local/state/fhir-export]
    #[arg(long, value_name = "DIR", conflicts_with = "no_state")]
    pub(crate) state: Option<String>,

    /// Keep no record of the job: it can't be resumed
    #[arg(long)]
    pub(crate) no_state: bool,

    /// How progress is shown: auto (bars on a terminal, else plain), bar, plain, json (events on stdout) or none
    #[arg(long, value_name = "KIND", default_value = "auto")]
    pub(crate) progress: String,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "What it may use")]
pub(crate) struct ResourceArgs {
    /// Memory for all data that is buffered, 64MiB at least
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    pub(crate) memory: String,

    /// Longest line that is taken [default: a quarter of --memory, but at most 64MiB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) line_limit: Option<String>,

    /// Patients of a Group at most, each of which takes 40 bytes besides --memory [default: 25000000]
    #[arg(long, value_name = "N")]
    pub(crate) cohort_limit: Option<String>,

    /// Threads that scan and compress [default: one for each core]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<String>,

    /// Size of all parts, for stores that want equal ones [default: grows with the object, from 8MiB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) part_size: Option<String>,

    /// Folder for parts that memory has no room for [default: the system's temporary folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) spill_dir: Option<String>,

    /// Most bytes that lie there at a time
    #[arg(long, value_name = "SIZE", default_value = "4GiB")]
    pub(crate) spill_limit: String,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "S3")]
pub(crate) struct StoreArgs {
    /// Endpoint of a store that isn't AWS: http://127.0.0.1:8333
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: Option<String>,

    /// Region of the bucket [default: AWS_REGION, AWS_DEFAULT_REGION, or us-east-1]
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<String>,

    /// File with the certificate of the CA that the endpoint is trusted by, in PEM, besides those that the system trusts
    /// [default: AWS_CA_BUNDLE]
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<String>,
}

/// Where jobs are kept.
#[derive(Debug, Args)]
pub(crate) struct StateFolder {
    /// Where the jobs are kept [default: $XDG_STATE_HOME/fhir-export, ~/.local/state/fhir-export]
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<String>,
}

/// Serves exports over HTTP: HealthLake's operations and the Bulk Data profile.
#[derive(Debug, Args)]
#[command(after_help = SERVE_NOTES)]
pub(crate) struct ServeArgs {
    /// A file of TOML with these settings and more, for several data stores; flags go before it
    #[arg(long, value_name = "FILE", required_unless_present = "source")]
    pub(crate) config: Option<String>,

    /// Where resources come from: a folder or file of .ndjson and .ndjson.gz, file:///folder, s3://bucket/prefix,
    /// sqlite:store.db, postgres://user@host/database; it takes the place of the file's data stores
    #[arg(long, value_name = "URI")]
    pub(crate) source: Option<String>,

    /// Address to listen on; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,

    /// The URL under which clients reach the server, if not the address they ask
    #[arg(long, value_name = "URL")]
    pub(crate) public_url: Option<String>,

    /// Certificate for TLS, with those between it and its authority, in PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_certificate: Option<String>,

    /// Key of the certificate, in PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_key: Option<String>,

    /// Id of the data store of --source [default: made of the source's URI, the same each time]
    #[arg(long, value_name = "ID", requires = "source")]
    pub(crate) datastore_id: Option<String>,

    /// Base of the server of --source, for absolute references; repeatable
    #[arg(long = "base-url", value_name = "URL", requires = "source")]
    pub(crate) base_urls: Vec<String>,

    /// Where the files of Bulk Data exports are kept: a folder, or s3://bucket/prefix with signed URLs [default: a folder
    /// beside the jobs]
    #[arg(long, value_name = "URI")]
    pub(crate) files: Option<String>,

    #[command(flatten)]
    pub(crate) folder: StateFolder,

    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Goes on with a job that was interrupted, failed or sealed; without JOB with all of them.
#[derive(Debug, Args)]
#[command(after_help = RESUME_NOTES)]
pub(crate) struct ResumeArgs {
    /// The id of the job, or the beginning of it
    #[arg(value_name = "JOB")]
    pub(crate) job: Option<String>,

    #[command(flatten)]
    pub(crate) folder: StateFolder,

    /// Go on though the source isn't what it was; the manifest says so, and the job ends with errors
    #[arg(long)]
    pub(crate) allow_changed_source: bool,

    /// A database snapshot that is lost is no error: what was changed since comes with the next export
    #[arg(long)]
    pub(crate) allow_time_bounded: bool,

    /// How progress is shown: auto (bars on a terminal, else plain), bar, plain, json (events on stdout) or none
    #[arg(long, value_name = "KIND", default_value = "auto")]
    pub(crate) progress: String,
}

/// Lists the jobs that are kept.
#[derive(Debug, Args)]
pub(crate) struct StateArgs {
    #[command(flatten)]
    pub(crate) folder: StateFolder,
}

/// Cancels a job that another process runs.
#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// The id of the job, or the beginning of it
    #[arg(value_name = "JOB")]
    pub(crate) job: String,

    /// What becomes of what is written: seal (complete what is durable) or discard (remove everything) [default: as the
    /// job was told]
    #[arg(long, value_name = "WAY")]
    pub(crate) on_cancel: Option<String>,

    #[command(flatten)]
    pub(crate) folder: StateFolder,
}

/// Removes what dead jobs have left: open uploads, staged files, old records.
#[derive(Debug, Args)]
#[command(after_help = SWEEP_NOTES)]
pub(crate) struct SweepArgs {
    /// The id of the job, or the beginning of it; it is swept whatever its age
    #[arg(value_name = "JOB")]
    pub(crate) job: Option<String>,

    /// Sweep jobs that could be resumed, but that nobody has run for so many days
    #[arg(long, value_name = "DAYS", default_value = "7")]
    pub(crate) older_than: String,

    /// Forget jobs that have been over for so many days
    #[arg(long, value_name = "DAYS", default_value = "30")]
    pub(crate) forget_after: String,

    /// Remove the objects and manifests of what is swept or forgotten, too
    #[arg(long)]
    pub(crate) objects: bool,

    #[command(flatten)]
    pub(crate) folder: StateFolder,
}

/// Reads every object of an export and compares it with the manifest.
#[derive(Debug, Args)]
#[command(after_help = VERIFY_NOTES)]
pub(crate) struct VerifyArgs {
    /// The manifest: a path, file:///path, or s3://bucket/prefix/….manifest.json
    #[arg(value_name = "MANIFEST")]
    pub(crate) manifest: String,

    /// Look for resources that occur more than once, by type and id; takes up to 50 bytes of memory a resource
    #[arg(long)]
    pub(crate) duplicates: bool,

    /// Threads that check [default: one for each core]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<String>,

    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

const TOP_EXAMPLES: &str = "\
Examples:
  fhir-export run --source ./data --to ./out
  fhir-export run --source ./data --to s3://my-bucket/exports --level patient
  fhir-export resume
  fhir-export import --from ./data --to sqlite:store.db
  fhir-export verify ./out/….manifest.json";

// A paragraph is one line, so that it is wrapped to the terminal's width.
const RUN_NOTES: &str = "\
Sizes are bytes, or a number with KiB, MiB, GiB or TiB (K, M, G, T for short): 256MiB.

Credentials for S3 come from the usual environment variables: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, \
AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL and so on. --endpoint and --region hold for source and destination.

Ctrl-C or SIGTERM cancels the job; a second one stops at once. What was interrupted, failed or sealed goes on with \
fhir-export resume.

With --progress json, stdout has one JSON object a line: started, progress, cancelling, and at last finished, with the \
state, the manifest's URL and the books. Otherwise it has a table at the end. RUST_LOG=debug tells more on stderr.

Exit codes:
  0    complete
  1    failed, or the cancellation failed
  2    wrong arguments or request
  3    completed with errors: the manifest lists them
  130  cancelled

Examples:
  fhir-export run --source ./data --to ./out
  fhir-export run --source ./data --to ./out --level group/42 --type Patient
  fhir-export run --source ./data --to ./out --since 2024-05-09T00:00:00Z
  fhir-export run --source ./data --to s3://my-bucket/exports --compress gzip
  fhir-export run --source s3://my-bucket/in --to ./out --region eu-west-1";

const SERVE_NOTES: &str = "\
POST /datastore/ID/r4/$export (and /Patient/$export, /Group/ID/$export) with HealthLake's body writes to the caller's
bucket with this server's credentials; GET, or POST with a Parameters resource, keeps the files here for download, for 48
hours. One job of an account and Region runs at a time, the others wait. Jobs that a stopped server leaves go on when it
starts again. /healthz, /readyz and /metrics are for those who watch the server.

Nobody is asked who he is, so the server listens on loopback addresses only.";

const RESUME_NOTES: &str = "\
The job goes on with the settings, the source and the destination that it was begun with, under the same transaction \
time: what is durable of it stays, and the rest is written as it would have been. Credentials come from the environment, \
as for run. A source that has changed since is refused.

Exit codes:
  0    complete, or there is no unfinished job
  1    failed, or another process runs the job
  2    wrong arguments
  3    completed with errors: the manifest lists them
  130  cancelled

Examples:
  fhir-export resume
  fhir-export resume 5f0c";

const IMPORT_NOTES: &str = "\
Of a resource that is there already, by type and id, the version with the highest meta.lastUpdated stays, of equal ones \
that with the highest meta.versionId. What is no resource, or has no id, is refused and told with its file and line. An \
import that was interrupted goes on where it was when the same command is given again.

Exit codes:
  0    everything was loaded
  1    failed
  2    wrong arguments
  3    something was refused, or a file can't be read to its end

Examples:
  fhir-export import --from ./data --to sqlite:store.db
  fhir-export run --source sqlite:store.db --to ./out --level group/g1";

const SWEEP_NOTES: &str = "\
A job that is swept can't be resumed any more. Its objects stay, unless --objects is given. A job that runs is left alone.

Examples:
  fhir-export sweep
  fhir-export sweep 5f0c --objects";

const VERIFY_NOTES: &str = "\
Objects are looked for beside the manifest, by their keys. Of each are compared: size, CRC64NVME, number of lines, \
each line a JSON object of the object's type, and gzip members. Besides, the manifest's books must balance, and nothing \
else may lie in the job folder.

Exit codes:
  0    everything is as the manifest says
  1    something isn't, occurs more than once, or can't be read
  2    wrong arguments

Examples:
  fhir-export verify ./out/….manifest.json
  fhir-export verify s3://my-bucket/exports/….manifest.json --duplicates";
