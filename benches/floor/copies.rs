//! Real data in any size: a folder of NDJSON repeated, each copy with ids of its own.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

/// Writes about so many bytes of copies of a folder's files to another folder, unless they are there already.
///
/// Copy after copy gets a prefix on the id of each resource and of each relative reference. A part of a copy takes the
/// same share of every file.
pub fn repeat(from: &Path, to: &Path, bytes: u64) -> io::Result<()> {
    let done = to.join("copies.done");
    if fs::exists(&done)? {
        return Ok(());
    }
    fs::create_dir_all(to)?;
    let files = files(from)?;
    let mut whole_bytes = 0;
    for file in &files {
        whole_bytes += io::copy(&mut open(file)?, &mut io::sink())?;
    }
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let path = to.join(name.trim_end_matches(".gz"));
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        let own_bytes = io::copy(&mut open(file)?, &mut io::sink())?;
        let mut rest = (own_bytes as f64 * bytes as f64 / whole_bytes as f64) as u64;
        for copy in 0.. {
            if !copy_once(file, copy, &mut rest, &mut out)? {
                break;
            }
        }
        out.flush()?;
    }
    fs::write(done, "")
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.to_string_lossy();
        if name.ends_with(".ndjson") || name.ends_with(".ndjson.gz") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn open(file: &Path) -> io::Result<Box<dyn Read>> {
    let opened = BufReader::with_capacity(1 << 20, File::open(file)?);
    Ok(if file.extension().is_some_and(|ending| ending == "gz") {
        Box::new(MultiGzDecoder::new(opened))
    } else {
        Box::new(opened)
    })
}

/// Copies lines until the file or the rest of the bytes is used up; tells whether there is more to write.
fn copy_once(file: &Path, copy: u32, rest: &mut u64, out: &mut impl Write) -> io::Result<bool> {
    let prefix = format!("{copy}-");
    let mut reader = BufReader::new(open(file)?);
    let (mut line, mut renamed) = (Vec::new(), Vec::new());
    let before = *rest;
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(*rest > 0 && *rest < before);
        }
        renamed.clear();
        rename(&line, prefix.as_bytes(), &mut renamed);
        if renamed.len() as u64 > *rest {
            return Ok(false);
        }
        *rest -= renamed.len() as u64;
        out.write_all(&renamed)?;
    }
}

/// Puts the prefix before the id at the beginning of the line and before that of each relative reference.
fn rename(line: &[u8], prefix: &[u8], renamed: &mut Vec<u8>) {
    const ID: &[u8] = br#","id":""#;
    const REFERENCE: &[u8] = br#""reference":""#;
    let id_end = memchr::memmem::find(line, ID).map_or(0, |at| at + ID.len());
    renamed.extend_from_slice(&line[..id_end]);
    renamed.extend_from_slice(prefix);
    let mut done = id_end;
    for at in memchr::memmem::find_iter(line, REFERENCE) {
        let start = at + REFERENCE.len();
        let name = line[start..].iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        if name > 0 && start > done && line.get(start + name) == Some(&b'/') {
            renamed.extend_from_slice(&line[done..=start + name]);
            renamed.extend_from_slice(prefix);
            done = start + name + 1;
        }
    }
    renamed.extend_from_slice(&line[done..]);
}
