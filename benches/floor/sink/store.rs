//! What the sink remembers: keys, sizes, open uploads.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::connection::Request;

/// The keys of a store, of all buckets: every bucket exists.
#[derive(Debug, Default)]
pub struct Store(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// By bucket and key.
    objects: BTreeMap<String, u64>,
    uploads: BTreeMap<String, Upload>,
    begun: u64,
}

#[derive(Debug, Default)]
struct Upload {
    path: String,
    parts: BTreeMap<u32, u64>,
}

/// What is sent back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
    /// Size that a HEAD tells.
    size_bytes: Option<u64>,
}

impl Answer {
    fn new(status: u16, body: String) -> Self {
        Self { status, body, size_bytes: None }
    }

    fn empty(status: u16) -> Self {
        Self::new(status, String::new())
    }

    fn error(status: u16, code: &str) -> Self {
        Self::new(status, format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>"))
    }

    pub fn length_bytes(&self) -> u64 {
        self.size_bytes.unwrap_or(self.body.len() as u64)
    }
}

impl Store {
    /// Does what a request asks for.
    pub fn answer(&self, request: &Request, body_bytes: u64) -> Answer {
        let mut state = self.0.lock().unwrap();
        let query = |name: &str| request.query.get(name).map(String::as_str);
        let upload_id = query("uploadId");
        match (request.method.as_str(), upload_id) {
            ("PUT", Some(id)) => state.put_part(id, query("partNumber"), body_bytes),
            ("PUT", None) => {
                state.objects.insert(request.path.clone(), body_bytes);
                Answer::empty(200)
            }
            ("POST", None) if query("uploads").is_some() => state.begin(&request.path),
            ("POST", Some(id)) => state.complete(id),
            ("DELETE", Some(id)) => {
                state.uploads.remove(id);
                Answer::empty(204)
            }
            ("DELETE", None) => {
                state.objects.remove(&request.path);
                Answer::empty(204)
            }
            ("GET", Some(id)) => state.list_parts(id),
            ("GET", None) if query("uploads").is_some() => state.list_uploads(&request.path),
            ("GET", None) if query("list-type").is_some() => state.list(&request.path, query("prefix")),
            ("HEAD", None) => state.head(&request.path),
            _ => Answer::error(404, "NoSuchKey"),
        }
    }
}

impl State {
    fn begin(&mut self, path: &str) -> Answer {
        self.begun += 1;
        let id = self.begun.to_string();
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let body = format!(
            "<InitiateMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{key}</Key><UploadId>{id}</UploadId>\
             </InitiateMultipartUploadResult>"
        );
        self.uploads.insert(id, Upload { path: path.to_owned(), parts: BTreeMap::new() });
        Answer::new(200, body)
    }

    fn put_part(&mut self, id: &str, number: Option<&str>, bytes: u64) -> Answer {
        let (Some(upload), Some(number)) = (self.uploads.get_mut(id), number.and_then(|number| number.parse().ok()))
        else {
            return Answer::error(404, "NoSuchUpload");
        };
        upload.parts.insert(number, bytes);
        Answer::empty(200)
    }

    fn complete(&mut self, id: &str) -> Answer {
        let Some(upload) = self.uploads.remove(id) else { return Answer::error(404, "NoSuchUpload") };
        let (bucket, key) = upload.path.split_once('/').unwrap_or((&upload.path, ""));
        let body = format!(
            "<CompleteMultipartUploadResult><Location>{}</Location><Bucket>{bucket}</Bucket><Key>{key}</Key>\
             <ETag>\"sink\"</ETag></CompleteMultipartUploadResult>",
            upload.path
        );
        let size = upload.parts.values().sum();
        self.objects.insert(upload.path, size);
        Answer::new(200, body)
    }

    fn head(&self, path: &str) -> Answer {
        if !path.contains('/') {
            return Answer::empty(200);
        }
        match self.objects.get(path) {
            Some(size) => Answer { size_bytes: Some(*size), ..Answer::empty(200) },
            None => Answer::empty(404),
        }
    }

    fn list(&self, bucket: &str, prefix: Option<&str>) -> Answer {
        let bucket = format!("{}/", bucket.trim_end_matches('/'));
        let wanted = format!("{bucket}{}", prefix.unwrap_or_default());
        let found = self.objects.range(wanted.clone()..).take_while(|(path, _)| path.starts_with(&wanted));
        let entries: String = found
            .map(|(path, size)| {
                let key = &path[bucket.len()..];
                format!(
                    "<Contents><Key>{key}</Key><LastModified>2026-11-23T00:00:00.000Z</LastModified>\
                     <ETag>\"sink\"</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
                )
            })
            .collect();
        let count = entries.matches("<Key>").count();
        Answer::new(
            200,
            format!(
                "<ListBucketResult><KeyCount>{count}</KeyCount><IsTruncated>false</IsTruncated>{entries}\
                 </ListBucketResult>"
            ),
        )
    }

    fn list_parts(&self, id: &str) -> Answer {
        let Some(upload) = self.uploads.get(id) else { return Answer::error(404, "NoSuchUpload") };
        let part = |(number, size): (&u32, &u64)| {
            format!("<Part><PartNumber>{number}</PartNumber><ETag>\"sink\"</ETag><Size>{size}</Size></Part>")
        };
        let parts: String = upload.parts.iter().map(part).collect();
        Answer::new(200, format!("<ListPartsResult><IsTruncated>false</IsTruncated>{parts}</ListPartsResult>"))
    }

    fn list_uploads(&self, bucket: &str) -> Answer {
        let bucket = format!("{}/", bucket.trim_end_matches('/'));
        let of_bucket = |(id, upload): (&String, &Upload)| {
            let key = upload.path.strip_prefix(&bucket)?;
            Some(format!("<Upload><Key>{key}</Key><UploadId>{id}</UploadId></Upload>"))
        };
        let uploads: String = self.uploads.iter().filter_map(of_bucket).collect();
        Answer::new(
            200,
            format!(
                "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>{uploads}</ListMultipartUploadsResult>"
            ),
        )
    }
}
