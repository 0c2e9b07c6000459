//! ListParts and ListMultipartUploads, which object_store doesn't have.

use std::fmt;

use async_trait::async_trait;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::is_unknown_operation;
use crate::destination::answer::read_up_to;
use crate::destination::multipart::UploadListing;
use crate::destination::store_error::store_error;
use crate::destination::{MAX_PARTS, StoredPart};
use crate::error::{Error, ErrorKind, Result};

/// The largest answer: a page has at most 1000 entries, a key at most 1 KiB.
const PAGE_BYTES: usize = 8 << 20;

/// More open uploads than this are not ours.
const MAX_UPLOADS: usize = 100_000;

/// What SigV4 leaves as it is in a query; in a path also the separator.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// Signed listings of one bucket.
pub(super) struct S3Listing {
    pub(super) client: HttpClient,
    pub(super) credentials: AwsCredentialProvider,
    pub(super) region: String,
    /// What keys are appended to.
    pub(super) root: String,
    /// The bucket in messages.
    pub(super) url: String,
}

impl fmt::Debug for S3Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Listing").field("root", &self.root).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListPartsResult {
    #[serde(default)]
    is_truncated: bool,
    #[serde(default)]
    next_part_number_marker: String,
    #[serde(default)]
    part: Vec<Part>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Part {
    part_number: u32,
    size: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListMultipartUploadsResult {
    #[serde(default)]
    is_truncated: bool,
    #[serde(default)]
    next_key_marker: String,
    #[serde(default)]
    next_upload_id_marker: String,
    #[serde(default)]
    upload: Vec<OpenUpload>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OpenUpload {
    key: String,
    upload_id: String,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl UploadListing for S3Listing {
    async fn parts(&self, path: &str, upload_id: &str) -> Result<Option<Vec<StoredPart>>> {
        let url = format!("{}/{path}", self.url);
        let target = format!("{}/{}", self.root, utf8_percent_encode(path, PATH));
        let (mut parts, mut marker) = (Vec::new(), String::from("0"));
        loop {
            let query = [("max-parts", "1000"), ("part-number-marker", marker.as_str()), ("uploadId", upload_id)];
            let Some(page) = self.page::<ListPartsResult>(&target, &query, &url).await? else { return Ok(None) };
            let stored = page.part.into_iter().map(|part| StoredPart {
                number: part.part_number,
                size_bytes: part.size,
                crc64nvme: None,
            });
            parts.extend(stored);
            if !page.is_truncated {
                break;
            }
            if parts.len() > MAX_PARTS as usize || page.next_part_number_marker == marker {
                return Err(endless(&url));
            }
            marker = page.next_part_number_marker;
        }
        // Not every store sorts them.
        parts.sort_by_key(|part| part.number);
        Ok(Some(parts))
    }

    async fn uploads(&self, prefix: &str) -> Result<Option<Vec<(String, String)>>> {
        let url = format!("{}/{prefix}", self.url);
        let (mut uploads, mut key, mut id) = (Vec::new(), String::new(), String::new());
        loop {
            let mut query = vec![("max-uploads", "1000"), ("prefix", prefix), ("uploads", "")];
            if !key.is_empty() {
                query.extend([("key-marker", key.as_str()), ("upload-id-marker", id.as_str())]);
            }
            let page = self.page::<ListMultipartUploadsResult>(&self.root, &query, &url).await?;
            let Some(page) = page else { return Ok(None) };
            // Some stores take the prefix for a hint.
            let below = page.upload.into_iter().filter(|upload| upload.key.starts_with(prefix));
            uploads.extend(below.map(|upload| (upload.key, upload.upload_id)));
            if !page.is_truncated {
                return Ok(Some(uploads));
            }
            let stuck = page.next_key_marker == key && page.next_upload_id_marker == id;
            if uploads.len() > MAX_UPLOADS || stuck || page.next_key_marker.is_empty() {
                return Err(endless(&url));
            }
            (key, id) = (page.next_key_marker, page.next_upload_id_marker);
        }
    }
}

impl S3Listing {
    /// Asks for one page; `None` if the store doesn't know the operation.
    async fn page<T: DeserializeOwned>(&self, target: &str, query: &[(&str, &str)], url: &str) -> Result<Option<T>> {
        let body = match self.get(target, query).await {
            Ok(body) => body,
            Err(error) if is_unknown_operation(&error) => return Ok(None),
            Err(error) => return Err(store_error("the uploads can't be listed", url, error)),
        };
        let unreadable =
            || Error::new(ErrorKind::Store, "the store's list of uploads can't be read").with("object", url);
        let text = body.as_deref().and_then(|body| std::str::from_utf8(body).ok()).ok_or_else(unreadable)?;
        quick_xml::de::from_str(text).map(Some).map_err(|error| unreadable().caused_by(error))
    }

    /// Sends one signed GET; `None` if the answer is too long.
    async fn get(&self, target: &str, query: &[(&str, &str)]) -> object_store::Result<Option<bytes::Bytes>> {
        let pairs: Vec<_> =
            query.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, QUERY))).collect();
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.uri_mut() = format!("{target}?{}", pairs.join("&")).parse().map_err(generic)?;
        let credential = self.credentials.get_credential().await?;
        AwsAuthorizer::new(&credential, "s3", &self.region).try_authorize(&mut request, None)?;
        let response = self.client.execute(request).await.map_err(generic)?;
        let (body, whole) = read_up_to(response.into_body(), PAGE_BYTES).await.map_err(generic)?;
        Ok(whole.then_some(body))
    }
}

fn generic(source: impl std::error::Error + Send + Sync + 'static) -> object_store::Error {
    object_store::Error::Generic { store: "S3", source: Box::new(source) }
}

fn endless(url: &str) -> Error {
    Error::new(ErrorKind::LimitExceeded, "the store's list of uploads has no end").with("object", url)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use object_store::StaticCredentialProvider;
    use object_store::aws::AwsCredential;
    use object_store::client::{HttpError, HttpResponse, HttpResponseBody, HttpService};

    use super::*;

    /// Answers with the next text and notes what was asked.
    #[derive(Debug, Clone, Default)]
    struct Answers {
        texts: Arc<Mutex<Vec<String>>>,
        asked: Arc<Mutex<Vec<String>>>,
    }

    #[async_trait]
    impl HttpService for Answers {
        async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
            assert!(request.headers().contains_key("authorization"));
            self.asked.lock().unwrap().push(request.uri().to_string());
            let mut texts = self.texts.lock().unwrap();
            let text = if texts.len() > 1 { texts.remove(0) } else { texts[0].clone() };
            Ok(HttpResponse::new(HttpResponseBody::from(text)))
        }
    }

    fn listing(texts: &[&str]) -> (Answers, S3Listing) {
        let answers = Answers::default();
        answers.texts.lock().unwrap().extend(texts.iter().map(|text| (*text).to_owned()));
        let credential = AwsCredential { key_id: "key".into(), secret_key: "secret".into(), token: None };
        let listing = S3Listing {
            client: HttpClient::new(answers.clone()),
            credentials: Arc::new(StaticCredentialProvider::new(credential)),
            region: "us-east-1".into(),
            root: "http://127.0.0.1:9/bucket".into(),
            url: "s3://bucket".into(),
        };
        (answers, listing)
    }

    #[tokio::test]
    async fn parts_are_read_page_by_page() {
        let (answers, listing) = listing(&[
            "<?xml version=\"1.0\"?><ListPartsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Bucket>bucket</Bucket>\
             <IsTruncated>true</IsTruncated><NextPartNumberMarker>2</NextPartNumberMarker>\
             <Part><PartNumber>2</PartNumber><Size>7</Size><ETag>\"x\"</ETag></Part><Owner><ID>o</ID></Owner>\
             <Part><PartNumber>1</PartNumber><Size>5242880</Size></Part></ListPartsResult>",
            "<ListPartsResult><IsTruncated>false</IsTruncated><NextPartNumberMarker/></ListPartsResult>",
        ]);
        let parts = listing.parts("a b/é", "id+/=").await.unwrap().unwrap();
        assert_eq!(
            parts.iter().map(|part| (part.number, part.size_bytes)).collect::<Vec<_>>(),
            [(1, 5_242_880), (2, 7)]
        );
        let asked = answers.asked.lock().unwrap();
        assert!(
            asked[0].ends_with("/bucket/a%20b/%C3%A9?max-parts=1000&part-number-marker=0&uploadId=id%2B%2F%3D"),
            "{asked:?}"
        );
        assert!(asked[1].contains("part-number-marker=2&"));
    }

    #[tokio::test]
    async fn uploads_are_read_page_by_page_and_keys_decoded() {
        let (answers, listing) = listing(&[
            "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>p/a&amp;b</NextKeyMarker>\
             <NextUploadIdMarker>one</NextUploadIdMarker><Upload><Key>p/a&amp;b&#x20AC;</Key><UploadId>one</UploadId></Upload>\
             </ListMultipartUploadsResult>",
            "<ListMultipartUploadsResult><Upload><Key>p/z</Key><UploadId>two</UploadId></Upload>\
             <Upload><Key>other</Key><UploadId>three</UploadId></Upload></ListMultipartUploadsResult>",
        ]);
        let uploads = listing.uploads("p/").await.unwrap().unwrap();
        let expected = [("p/a&b€".to_owned(), "one".to_owned()), ("p/z".to_owned(), "two".to_owned())];
        assert_eq!(uploads, expected);
        let asked = answers.asked.lock().unwrap();
        assert!(asked[1].ends_with("&uploads=&key-marker=p%2Fa%26b&upload-id-marker=one"), "{asked:?}");
    }

    #[tokio::test]
    async fn a_list_that_does_not_advance_is_an_error() {
        let parts = "<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>1</NextPartNumberMarker></ListPartsResult>";
        let error = listing(&[parts]).1.parts("a", "id").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        let uploads = "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated></ListMultipartUploadsResult>";
        let error = listing(&[uploads]).1.uploads("").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    }

    #[tokio::test]
    async fn an_answer_that_is_no_list_is_an_error() {
        for text in ["", "<html>", "<ListPartsResult><Part><PartNumber>x</PartNumber></Part></ListPartsResult>"] {
            let error = listing(&[text]).1.parts("a", "id").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Store, "{text}");
        }
    }
}
