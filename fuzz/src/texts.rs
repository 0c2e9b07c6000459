//! Texts of limited form, against plain words.

use fhir_export::fhir::ResourceType;
use fhir_export::job::Manifest;
use fhir_export::request::{ClientToken, DatastoreId, JobId, JobName, KmsKeyId, ResourceId, RoleArn, S3Uri};

pub fn fields(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let length = text.chars().count();

    let is_id = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let all = |allowed: &dyn Fn(u8) -> bool| text.bytes().all(allowed);
    assert_eq!(ClientToken::new(text).is_ok(), (1..=64).contains(&length) && all(&is_id));
    let is_resource_id = (1..=64).contains(&length) && all(&|byte| is_id(byte) || byte == b'.');
    assert_eq!(ResourceId::new(text).is_ok(), is_resource_id);
    let is_type = (2..=64).contains(&length) && all(&|byte| byte.is_ascii_alphabetic());
    assert_eq!(ResourceType::new(text).is_ok(), is_type && text.starts_with(|first: char| first.is_ascii_uppercase()));

    let name = JobName::new(text);
    assert_eq!(name.is_ok(), (1..=64).contains(&length) && text.chars().all(is_name));
    let fits_id = name.is_ok() && length <= 32;
    assert_eq!((DatastoreId::new(text).is_ok(), JobId::new(text).is_ok()), (fits_id, fits_id));

    assert_eq!(RoleArn::new(text).is_ok(), (20..=2048).contains(&length) && is_role(text));
    let uri = S3Uri::new(text);
    assert_eq!(uri.is_ok(), length <= 1024 && is_s3_uri(text));
    if let Ok(uri) = uri {
        let slash = if text.len() > "s3://".len() + uri.bucket().len() { "/" } else { "" };
        assert_eq!(format!("s3://{}{slash}{}", uri.bucket(), uri.prefix()), text);
    }
    assert_eq!(KmsKeyId::new(text).is_ok(), (1..=400).contains(&length) && is_key(text));
}

/// Letters, separators and numbers of any script, and some signs.
fn is_name(character: char) -> bool {
    static CLASS: std::sync::LazyLock<regex::Regex> =
        std::sync::LazyLock::new(|| regex::Regex::new(r"^[\p{L}\p{Z}\p{N}]$").expect("a constant"));
    "_.:/=+-%@".contains(character) || CLASS.is_match(character.encode_utf8(&mut [0; 4]))
}

fn is_role(text: &str) -> bool {
    let pieces: Vec<&str> = text.splitn(6, ':').collect();
    let ["arn", partition, "iam", "", account, resource] = pieces.as_slice() else { return false };
    let partition_fits = match partition.strip_prefix("aws") {
        Some(rest) => rest.is_empty() || (rest.starts_with('-') && rest.len() > 1 && !rest.contains(|c| c == ':')),
        None => false,
    };
    let path = resource.strip_prefix("role/").unwrap_or_default();
    partition_fits && is_account(account) && !path.is_empty() && !path.contains('\n')
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_s3_uri(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("s3://") else { return false };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let is_end = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let inner = |byte: u8| is_end(Some(byte)) || matches!(byte, b'.' | b'-');
    let ends_fit = is_end(bucket.bytes().next()) && is_end(bucket.bytes().next_back());
    (3..=63).contains(&bucket.len()) && ends_fit && bucket.bytes().all(inner) && !prefix.contains('\n')
}

/// Each piece in front may be missing, so all ways to take some off are tried.
fn is_key(text: &str) -> bool {
    let partitions =
        ["arn:aws:kms:", "arn:aws-us-gov:kms:", "arn:aws-iso:kms:", "arn:aws-iso-b:kms:", "arn:aws-cn:kms:"];
    let bare = partitions.iter().find_map(|partition| text.strip_prefix(partition));
    [Some(text), bare].into_iter().flatten().any(|rest| {
        let without_region = rest.split_once(':').filter(|(region, _)| is_region(region)).map(|(_, rest)| rest);
        [Some(rest), without_region].into_iter().flatten().any(|rest| {
            let without_account = rest.split_once(':').filter(|(account, _)| is_account(account)).map(|(_, rest)| rest);
            [Some(rest), without_account].into_iter().flatten().any(is_key_name)
        })
    })
}

fn is_region(text: &str) -> bool {
    let pieces: Vec<&str> = text.split('-').collect();
    let letters = |piece: &&str| !piece.is_empty() && piece.bytes().all(|byte| byte.is_ascii_lowercase());
    let digit = |piece: &str| piece.len() == 1 && piece.bytes().all(|byte| byte.is_ascii_digit());
    match pieces.as_slice() {
        [country, middle @ .., number] => {
            (1..=2).contains(&middle.len())
                && country.len() == 2
                && letters(country)
                && middle.iter().all(letters)
                && digit(number)
        }
        _ => false,
    }
}

fn is_key_name(text: &str) -> bool {
    let fits = |name: &str, more: &str| {
        !name.is_empty()
            && name.chars().all(|char| char.is_ascii_alphanumeric() || "-_".contains(char) || more.contains(char))
    };
    fits(text.strip_prefix("key/").unwrap_or(text), "")
        || text.strip_prefix("alias/").is_some_and(|name| fits(name, ":/"))
}

/// A manifest that is read is the same when it was written and read again.
pub fn manifest(data: &[u8]) {
    let Ok(manifest) = serde_json::from_slice::<Manifest>(data) else { return };
    let written = serde_json::to_vec(&manifest).expect("a manifest can be written");
    assert_eq!(serde_json::from_slice::<Manifest>(&written).expect("and read"), manifest);
}
