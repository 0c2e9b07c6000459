//! The type that a file declares, whatever its first line is, against `serde_json`.

use std::io::Write as _;
use std::sync::Arc;

use fhir_export::fhir::ResourceType;
use fhir_export::source::{Asked, NdjsonSource, Source as _};
use flate2::Compression;
use flate2::write::GzEncoder;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::wait_for;

const NAMES: [&str; 2] = ["Patient", "Observation"];

/// The first byte names the file and says how it is stored, the rest is its text.
pub fn first_line(data: &[u8]) {
    let Some((how, text)) = data.split_first() else { return };
    let name = NAMES[usize::from(how & 1)];
    let packed = how & 2 != 0;
    let declared = wait_for(declared(name, text, packed));
    if let Some(declared) = &declared {
        assert_eq!(declared.as_str(), name, "only what the name says too is declared");
    }
    match expected(text) {
        First::Missing => assert!(declared.is_some(), "a file without lines is taken by its name"),
        First::Type(found) => assert_eq!(declared.is_some(), found == name, "the first line says {found}"),
        First::None => assert!(declared.is_none(), "the first line is an object without a type of its own"),
        First::Unknown => {}
    }
}

async fn declared(name: &str, text: &[u8], packed: bool) -> Option<ResourceType> {
    let file = if packed {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).expect("memory takes it");
        encoder.finish().expect("memory takes it")
    } else {
        text.to_vec()
    };
    let path = format!("{name}.ndjson{}", if packed { ".gz" } else { "" });
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    store.put(&Path::from(path), file.into()).await.expect("memory takes it");
    let snapshot = NdjsonSource::object_prefix(store, Path::default(), "memory").open().await.expect("there is a file");
    let plan = snapshot.plan(&Asked::default()).await.expect("memory can be listed");
    let [range] = plan.ranges.as_slice() else { panic!("one file is one range: {:?}", plan.ranges) };
    range.resource_type.clone()
}

/// What the first line says by `serde_json`.
enum First {
    Missing,
    Type(String),
    /// It is an object, and no type can be told of it.
    None,
    /// It is no JSON, or written in a way that `serde_json` doesn't let see.
    Unknown,
}

fn expected(text: &[u8]) -> First {
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    let Some(start) = text.iter().position(|byte| !b" \t\r\n".contains(byte)) else { return First::Missing };
    let line = text[start..].split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.windows(2).any(|pair| pair == b"\\u" || pair == b"\\/") {
        return First::Unknown;
    }
    match serde_json::from_slice::<Type>(line) {
        Ok(Type(Some(name))) if ResourceType::new(&name).is_ok() => First::Type(name),
        Ok(_) => First::None,
        Err(_) => First::Unknown,
    }
}

/// The first member `resourceType` of an object, if no name before it has an escape.
struct Type(Option<String>);

impl<'de> Deserialize<'de> for Type {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Type;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Type, A::Error> {
                let (mut found, mut is_open) = (None, true);
                while let Some(key) = members.next_key::<String>()? {
                    if is_open && key == "resourceType" {
                        found = members.next_value::<Value>()?.as_str().map(str::to_owned);
                        is_open = false;
                    } else {
                        members.next_value::<IgnoredAny>()?;
                    }
                    // Without `\u` and `\/`, only these are written with an escape.
                    is_open &= !key.contains(|letter: char| letter.is_ascii_control() || "\"\\".contains(letter));
                }
                Ok(Type(found))
            }
        }
        deserializer.deserialize_map(Members)
    }
}
