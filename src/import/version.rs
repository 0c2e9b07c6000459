//! Which of two versions of the same time is the newer one.

use serde::Deserialize;

/// A `versionId`: numbers compare as such and are before anything else.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    None,
    Number(u64),
    Text(String),
}

impl Version {
    /// Read only when two versions are of the same time.
    pub(super) fn of(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Resource {
            meta: Option<Meta>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Meta {
            version_id: Option<String>,
        }
        let text = serde_json::from_slice::<Resource>(body).ok().and_then(|resource| resource.meta?.version_id);
        match text {
            None => Self::None,
            Some(text) => text.parse().map_or(Self::Text(text), Self::Number),
        }
    }
}
