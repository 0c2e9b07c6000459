//! HTTP/1.1 as far as S3 clients speak it: heads are read, bodies dropped.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;

use percent_encoding::percent_decode_str;
use rustix::net::RecvFlags;

use super::Throttle;
use super::store::Answer;

const HEAD_BYTES: usize = 32 << 10;
/// Most bytes that are dropped at once; the throttle's grain.
const DISCARD_BYTES: usize = 256 << 10;

/// The head of a request.
#[derive(Debug)]
pub struct Request {
    pub method: String,
    /// Decoded, without the slash at its beginning: bucket and key.
    pub path: String,
    pub query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
}

impl Request {
    pub fn parse(head: &str) -> io::Result<Self> {
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(target)) = (words.next(), words.next()) else { return Err(invalid("no request line")) };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pair = |text: &str| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            (name.to_owned(), decoded(value))
        };
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        Ok(Self {
            method: method.to_owned(),
            path: decoded(path.trim_start_matches('/')),
            query: query.split('&').filter(|text| !text.is_empty()).map(pair).collect(),
            headers: lines.filter_map(header).collect(),
        })
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.parse().ok()
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// A client's connection and what was read of it too early.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    early: Vec<u8>,
    scratch: Vec<u8>,
}

impl Connection {
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, early: Vec::with_capacity(HEAD_BYTES), scratch: vec![0; DISCARD_BYTES] })
    }

    /// The next head without its empty line; `None` when the client is gone.
    pub fn head(&mut self) -> io::Result<Option<String>> {
        self.take_until(b"\r\n\r\n")
    }

    fn take_until(&mut self, end: &[u8]) -> io::Result<Option<String>> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.early, end) {
                let text = String::from_utf8_lossy(&self.early[..at]).into_owned();
                self.early.drain(..at + end.len());
                return Ok(Some(text));
            }
            if self.early.len() > HEAD_BYTES {
                return Err(invalid("the head is too long"));
            }
            let count = self.stream.read(&mut self.scratch[..HEAD_BYTES])?;
            if count == 0 {
                return Ok(None);
            }
            self.early.extend_from_slice(&self.scratch[..count]);
        }
    }

    /// Drops the body and tells its size, in bytes, without the framing of chunks.
    pub fn discard_body(&mut self, request: &Request, throttle: Option<&Throttle>) -> io::Result<u64> {
        if request.header("expect").is_some() {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let chunked = request.header("transfer-encoding").is_some_and(|encoding| encoding.contains("chunked"));
        let sent = match request.number("content-length") {
            Some(bytes) => self.discard(bytes, throttle)?,
            None if chunked => self.discard_chunks(throttle)?,
            None => 0,
        };
        Ok(request.number("x-amz-decoded-content-length").unwrap_or(sent))
    }

    fn discard(&mut self, bytes: u64, throttle: Option<&Throttle>) -> io::Result<u64> {
        let early = self.early.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
        self.early.drain(..early);
        let mut rest = bytes - early as u64;
        while rest > 0 {
            let wanted = self.scratch.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
            // The kernel drops the bytes: the buffer only says how many.
            let (_, count) = rustix::net::recv(&self.stream, &mut self.scratch[..wanted], RecvFlags::TRUNC)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            rest -= count as u64;
            if let Some(throttle) = throttle {
                throttle.pass(count);
            }
        }
        Ok(bytes)
    }

    fn discard_chunks(&mut self, throttle: Option<&Throttle>) -> io::Result<u64> {
        let mut total = 0;
        loop {
            let line = self.take_until(b"\r\n")?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| invalid("a chunk has no size"))?;
            if size > 0 {
                total += self.discard(size, throttle)?;
            }
            // Behind the last chunk come trailers and an empty line.
            while self.take_until(b"\r\n")?.is_some_and(|line| size == 0 && !line.is_empty()) {}
            if size == 0 {
                return Ok(total);
            }
        }
    }

    pub fn send(&mut self, request: &Request, answer: &Answer) -> io::Result<()> {
        let Answer { status, body, .. } = answer;
        let length = answer.length_bytes();
        let mut text = format!(
            "HTTP/1.1 {status} -\r\nContent-Length: {length}\r\nContent-Type: application/xml\r\nETag: \"sink\"\r\n\
             Last-Modified: Mon, 23 Nov 2026 00:00:00 GMT\r\n\r\n"
        );
        if request.method != "HEAD" {
            text.push_str(body);
        }
        self.stream.write_all(text.as_bytes())
    }
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
