//! Writes `testdata/small` and `testdata/odd`.
//!
//! ```sh
//! cargo run --example generate_testdata
//! ```
//!
//! The same bytes come out on every machine and at any time; a test compares them with what is committed. The README
//! files in `testdata` are written by hand.

#[path = "generate_testdata/groups.rs"]
mod groups;
#[path = "generate_testdata/gzip.rs"]
mod gzip;
#[path = "generate_testdata/odd.rs"]
mod odd;
#[path = "generate_testdata/resources.rs"]
mod resources;
#[path = "generate_testdata/small.rs"]
mod small;
#[path = "generate_testdata/templates.rs"]
mod templates;

use std::path::Path;
use std::{fs, io};

/// One file: its path below `testdata`, with `/` between folders, and its bytes.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) bytes: Vec<u8>,
}

/// All generated files.
pub(crate) fn files() -> Vec<File> {
    let mut files = small::files();
    files.extend(odd::files());
    files
}

/// Writes all generated files below `folder`.
pub(crate) fn write(folder: &Path) -> io::Result<()> {
    for file in files() {
        let path = folder.join(&file.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, &file.bytes)?;
    }
    Ok(())
}

#[allow(dead_code, reason = "the tests include this file as a module and have a main of their own")]
fn main() -> io::Result<()> {
    write(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata"))
}
