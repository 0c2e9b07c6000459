//! The rows of the goals, run in turns and printed as Markdown.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::arguments::Arguments;
use crate::measure::{self, Sample, median};
use crate::synth::{self, Folders};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Ten gigabits a second.
const THROTTLED_BYTES_PER_SECOND: &str = "1250000000";

/// A sink in a process of its own, which ends with it.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(rate: Option<&str>) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("sink").args(rate.into_iter().flat_map(|rate| ["--rate", rate]));
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut url = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut url)?;
        }
        Ok(Self { child, url: url.trim().to_owned() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// One row: what is run, and what is said of it.
struct Row {
    name: &'static str,
    command: &'static str,
    arguments: Arguments,
    /// Whether it has one core only: a job on one scan thread reads and sends on others.
    on_one_core: bool,
    samples: Vec<Sample>,
}

impl Row {
    fn floor(name: &'static str, source: &Path, to: &str) -> Self {
        Self::baseline(name, "floor", source, to)
    }

    fn bare(name: &'static str, source: &Path, to: &str) -> Self {
        Self::baseline(name, "bare", source, to)
    }

    fn baseline(name: &'static str, kind: &str, source: &Path, to: &str) -> Self {
        let source = source.to_string_lossy();
        let arguments = Arguments::from([("kind", kind), ("source", &*source), ("to", to)]);
        Self { name, command: "baseline", arguments, on_one_core: false, samples: Vec::new() }
    }

    fn engine(name: &'static str, source: &Path, to: &str) -> Self {
        let source = source.to_string_lossy();
        let arguments = Arguments::from([("source", &*source), ("to", to)]);
        Self { name, command: "engine", arguments, on_one_core: false, samples: Vec::new() }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.arguments = self.arguments.with(name, value);
        self
    }

    fn since(self) -> Self {
        self.with("since", synth::SINCE)
    }

    fn on_one_core(mut self) -> Self {
        self.on_one_core = true;
        self.with("threads", "1")
    }

    fn run(&mut self) -> Outcome<()> {
        let program = std::env::current_exe()?;
        let mut command = if self.on_one_core { Command::new("taskset") } else { Command::new(&program) };
        if self.on_one_core {
            command.args(["-c", "0"]).arg(&program);
        }
        let output = command.arg(self.command).args(self.arguments.words()).output()?;
        let sample = Sample::parse(&String::from_utf8_lossy(&output.stdout));
        let said = || format!("{}: {}", self.name, String::from_utf8_lossy(&output.stderr));
        self.samples.push(sample.ok_or_else(said)?);
        let to = Path::new(self.arguments.required("to"));
        if to.is_dir() {
            std::fs::remove_dir_all(to)?;
        }
        Ok(())
    }

    fn median(&self, figure: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(figure))
    }

    /// The median of the ratios of neighbouring runs.
    fn ratio(&self, to: &Self, figure: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().zip(&to.samples).map(|(own, other)| figure(own) / figure(other)))
    }

    fn print(&self, first: &Self) {
        let server = match self.arguments.required("to") {
            "drop" => "none, dropped",
            url if url.starts_with("http") && self.arguments.value("signed").is_some() => "S3 sink, signed",
            url if url.starts_with("http") => "S3 sink, unsigned",
            _ => "local folder",
        };
        let validation = match self.command {
            "baseline" => "none",
            _ => self.arguments.value("validate").unwrap_or("full"),
        };
        let compression =
            self.arguments.value("gzip").map_or_else(|| "none".to_owned(), |level| format!("gzip {level}"));
        println!(
            "| {} | {server} | {validation} | {compression} | {} | {:.3} | {:.2} | {:.3} | {:.0} | {:.2} | {:.2} |",
            self.name,
            self.arguments.value("threads").unwrap_or("2"),
            self.median(|sample| sample.wall_seconds),
            self.median(Sample::gigabytes_per_second),
            self.median(Sample::cpu_per_gigabyte),
            self.median(|sample| sample.peak_mebibytes),
            self.ratio(first, Sample::cpu_per_gigabyte),
            self.ratio(first, |sample| sample.wall_seconds),
        );
    }
}

/// Rows that are run in turns and compared with the first of them.
struct Table {
    title: &'static str,
    rows: Vec<Row>,
}

impl Table {
    fn run(&mut self, rounds: usize) -> Outcome<()> {
        let calibration = measure::calibration();
        for _ in 0..rounds {
            self.rows.iter_mut().try_for_each(Row::run)?;
        }
        println!("\n{} (median of {rounds}, load {}, calibration {calibration:.2})\n", self.title, load());
        println!(
            "| what | server | validation | compression | threads | wall s | GB/s in | CPU s/GB in | peak MiB | CPU ratio | wall ratio |"
        );
        println!("| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
        if let Some(first) = self.rows.first() {
            self.rows.iter().for_each(|row| row.print(first));
        }
        Ok(())
    }
}

fn machine() -> String {
    let field = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let now = jiff::Timestamp::now();
    format!("{}, {cores} cores, {}; {now:.0}", field("/proc/cpuinfo", "model name"), field("/proc/meminfo", "MemTotal"))
}

fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or("?").to_owned()
}

/// Runs everything and prints it.
pub fn print(arguments: &Arguments, folder: &Path) -> Outcome<()> {
    let data = Folders::below(folder)?;
    warm(&data)?;
    println!("{}", machine());
    let (sink, throttled) = (Server::start(None)?, Server::start(Some(THROTTLED_BYTES_PER_SECOND))?);
    let rounds = arguments.number("rounds").unwrap_or(7);
    let level = arguments.value("validate").unwrap_or("full");
    let only = arguments.value("only").unwrap_or_default();
    let out = local_folder(folder);
    let mut tables = tables(&data, &sink.url, &throttled.url, &out);
    tables.retain(|table| table.title.contains(only));
    for table in &mut tables {
        for row in table.rows.iter_mut().filter(|row| row.command == "engine") {
            row.arguments = std::mem::take(&mut row.arguments).with("validate", level);
        }
        table.run(rounds)?;
    }
    extras(&tables, folder)?;
    Ok(())
}

/// A folder in memory if there is one, so that no disk is measured.
fn local_folder(data: &Path) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory } else { data };
    parent.join(format!("fhir-export-floor-{}", std::process::id()))
}

/// Reads everything once, so that it is in the page cache.
fn warm(data: &Folders) -> std::io::Result<()> {
    for folder in [&data.mixed, &data.types] {
        for (path, _) in crate::baseline::files(folder)? {
            std::io::copy(&mut std::fs::File::open(path)?, &mut std::io::sink())?;
        }
    }
    Ok(())
}

fn tables(data: &Folders, sink: &str, throttled: &str, out: &Path) -> Vec<Table> {
    let (mixed, types) = (&*data.mixed, &*data.types);
    let group = format!("group/{}", synth::GROUP);
    let out = &*out.to_string_lossy();
    vec![
        Table {
            title: "Half kept by `_since`, seven types in one file",
            rows: vec![
                Row::floor("floor: read, split, copy half, upload", mixed, sink),
                Row::engine("engine", mixed, sink).since(),
                Row::engine("engine, no checksums of parts", mixed, sink).since().with("checksum", "off"),
                Row::engine("engine, signed payload", mixed, sink).since().with("signed", "yes"),
                Row::engine("engine, budget of 64 MiB", mixed, sink).since().with("memory-mib", "64"),
            ],
        },
        Table {
            title: "System export, nothing filtered, seven files of one type",
            rows: vec![
                Row::bare("read and upload, bare", types, sink),
                Row::engine("engine", types, sink),
                Row::engine("engine, no checksums of parts", types, sink).with("checksum", "off"),
            ],
        },
        Table {
            title: "The same, store throttled to 1.25 GB/s",
            rows: vec![Row::bare("read and upload, bare", types, throttled), Row::engine("engine", types, throttled)],
        },
        Table {
            title: "Group of 1 % of the patients against the system, seven files of one type",
            rows: vec![
                Row::engine("system", &data.types_with_group, sink),
                Row::engine("Group", &data.types_with_group, sink).with("level", &group),
            ],
        },
        Table {
            title: "Group of 1 % of the patients against the system, one file of seven types",
            rows: vec![
                Row::engine("system", &data.mixed_with_group, sink),
                Row::engine("Group", &data.mixed_with_group, sink).with("level", &group),
            ],
        },
        Table {
            title: "Scaling from one core to two, half kept by `_since`, dropped",
            rows: vec![
                Row::engine("engine", mixed, "drop").since().on_one_core(),
                Row::engine("engine", mixed, "drop").since(),
                Row::floor("floor without upload", mixed, "drop").on_one_core(),
                Row::floor("floor without upload", mixed, "drop"),
            ],
        },
        Table {
            title: "Scaling from one core to two, all kept, files of one type, dropped",
            rows: vec![Row::engine("engine", types, "drop").on_one_core(), Row::engine("engine", types, "drop")],
        },
        Table {
            title: "Compression and local files, half kept by `_since`",
            rows: vec![
                Row::engine("engine", mixed, sink).since(),
                Row::engine("engine", mixed, sink).since().with("gzip", "1"),
                Row::engine("engine", mixed, sink).since().with("gzip", "6"),
                Row::engine("engine, local", mixed, out).since(),
            ],
        },
    ]
}

/// Figures that are no rows.
fn extras(tables: &[Table], folder: &Path) -> Outcome<()> {
    println!();
    let row = |title: &str, name: &str| {
        let table = tables.iter().find(|table| table.title.starts_with(title))?;
        table.rows.iter().find(|row| row.name == name)
    };
    if let Some(row) = row("Half kept", "engine") {
        let first = row.median(|sample| sample.first_durable_seconds) * 1e3;
        println!("- Start-up to first durable part, whole process: {first:.1} ms.");
    }
    if let Some(row) = row("System export", "engine") {
        let share = row.median(|sample| sample.uncopied_bytes as f64 / sample.bytes_out as f64);
        println!("- Bytes sent as slices of read blocks, nothing filtered: {:.1} %.", share * 100.0);
    }
    let few = crate::engine::empty_types(folder, 0)?;
    let many = crate::engine::empty_types(folder, 100)?;
    let each = many.saturating_sub(few).as_secs_f64() * 1e3 / 100.0;
    println!(
        "- A job of one line: {:.2} ms; each type of which nothing is kept: {each:.3} ms more.",
        few.as_secs_f64() * 1e3
    );
    Ok(())
}
