//! Files of the profile's exports.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use super::guard::Granted;
use super::outcome::Refused;
use super::{Api, status};
use crate::auth::Action;
use crate::job::OutputFile;
use crate::job::service::ExportedFile;

const NDJSON: HeaderValue = HeaderValue::from_static("application/fhir+ndjson");

/// Makes an entry of a manifest point to the router: its name is the last part of its key, which differs from all others.
pub(super) fn point_here(file: &mut OutputFile, base: &str, job: &str) {
    let name = file.extension.key.rsplit('/').next().unwrap_or_default();
    file.url = format!("{base}/export/{job}/files/{name}");
}

/// `GET /export/{job}/files/{name}`.
pub(super) async fn download(
    State(api): State<Api>,
    granted: Granted,
    Path((datastore, job, name)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    granted.covers(Action::GetExportedFile, &datastore)?;
    let view = status::find(&api, &granted, &datastore, &job).await?;
    let unknown = || Refused::not_found("there is no such file, or it is gone");
    let file = api.service.open_file(&view, &name).await?.ok_or_else(unknown)?;
    let etag = format!("\"{}\"", file.crc64nvme);
    if asks(&headers, header::IF_NONE_MATCH).is_some_and(|tags| tags.contains(&etag) || tags == "*") {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    // A range of another version would be joined with what the client has.
    let is_same = asks(&headers, header::IF_RANGE).is_none_or(|tag| tag == etag);
    let range = asks(&headers, header::RANGE).filter(|_| is_same).map(|range| Range::read(range, file.size_bytes));
    let mut response = match range {
        None | Some(Range::Other) => whole(file),
        Some(Range::Part { first, last }) => part(file, first, last),
        Some(Range::Nowhere) => {
            let mut response = StatusCode::RANGE_NOT_SATISFIABLE.into_response();
            insert(&mut response, header::CONTENT_RANGE, format!("bytes */{}", file.size_bytes));
            response
        }
    };
    response.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    insert(&mut response, header::ETAG, etag);
    Ok(response)
}

fn asks(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
}

fn insert(response: &mut Response, name: header::HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().insert(name, value);
    }
}

/// One range of bytes (RFC 9110, section 14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    Part {
        first: u64,
        last: u64,
    },
    /// There is nothing of the file there.
    Nowhere,
    /// Several ranges, or what can't be read: the whole file is the answer.
    Other,
}

impl Range {
    fn read(text: &str, size_bytes: u64) -> Self {
        let Some(range) = text.strip_prefix("bytes=") else { return Self::Other };
        let Some((first, last)) = range.split_once('-') else { return Self::Other };
        let number = |text: &str| text.trim().parse::<u64>();
        match (number(first), number(last)) {
            (Ok(first), Ok(last)) if first > last => Self::Other,
            (Ok(first), _) if first >= size_bytes && (last.trim().is_empty() || number(last).is_ok()) => Self::Nowhere,
            (Ok(first), Ok(last)) => Self::Part { first, last: last.min(size_bytes - 1) },
            (Ok(first), Err(_)) if last.trim().is_empty() => Self::Part { first, last: size_bytes - 1 },
            (Err(_), Ok(0)) if first.trim().is_empty() => Self::Nowhere,
            (Err(_), Ok(_)) if first.trim().is_empty() && size_bytes == 0 => Self::Nowhere,
            (Err(_), Ok(count)) if first.trim().is_empty() => {
                Self::Part { first: size_bytes.saturating_sub(count), last: size_bytes - 1 }
            }
            _ => Self::Other,
        }
    }
}

fn whole(file: ExportedFile) -> Response {
    let is_gzip = file.is_gzip;
    let mut response =
        (StatusCode::OK, [(header::CONTENT_TYPE, NDJSON)], Body::from_stream(file.bytes)).into_response();
    insert(&mut response, header::CONTENT_LENGTH, file.size_bytes.to_string());
    if is_gzip {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// Reads from the start and passes over what comes before: destinations give whole objects only.
fn part(file: ExportedFile, first: u64, last: u64) -> Response {
    let (is_gzip, size_bytes) = (file.is_gzip, file.size_bytes);
    let mut at = 0u64;
    let bytes = file.bytes.map_ok(move |piece: Bytes| {
        let begin = at;
        at += piece.len() as u64;
        let cut = |place: u64| usize::try_from(place.clamp(begin, at) - begin).unwrap_or(piece.len());
        piece.slice(cut(first)..cut(last + 1))
    });
    // Nothing comes behind the last byte.
    let mut left = last + 1 - first;
    let bytes = bytes.take_while(move |piece| {
        let goes_on = left > 0;
        left = left.saturating_sub(piece.as_ref().map_or(0, |piece| piece.len() as u64));
        std::future::ready(goes_on)
    });
    let mut response =
        (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_TYPE, NDJSON)], Body::from_stream(bytes)).into_response();
    insert(&mut response, header::CONTENT_LENGTH, (last + 1 - first).to_string());
    insert(&mut response, header::CONTENT_RANGE, format!("bytes {first}-{last}/{size_bytes}"));
    if is_gzip {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        for (text, expected) in [
            ("bytes=0-9", Range::Part { first: 0, last: 9 }),
            ("bytes=90-", Range::Part { first: 90, last: 99 }),
            ("bytes=90-200", Range::Part { first: 90, last: 99 }),
            ("bytes=-10", Range::Part { first: 90, last: 99 }),
            ("bytes=-1000", Range::Part { first: 0, last: 99 }),
            ("bytes=100-", Range::Nowhere),
            ("bytes=-0", Range::Nowhere),
            ("bytes=0-1,5-6", Range::Other),
            ("bytes=9-0", Range::Other),
            ("lines=0-1", Range::Other),
            ("bytes=a-b", Range::Other),
        ] {
            assert_eq!(Range::read(text, 100), expected, "{text}");
        }
        assert_eq!(Range::read("bytes=0-", 0), Range::Nowhere);
        assert_eq!(Range::read("bytes=-5", 0), Range::Nowhere);
    }
}
