//! JSON of a request, read so that nothing in it is overlooked: a key that comes twice is seen twice.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::draft::repeated;
use super::fault::{Fault, FaultKind};

/// Largest body that is read, in bytes.
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// When any crate of a build turns on serde_json's `arbitrary_precision`, a number comes as a map with this key.
const NUMBER_KEY: &str = "$serde_json::private::Number";

/// A JSON value; of scalars that no request has, only what they are.
#[derive(Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool,
    Number,
    Text(String),
    Array(Vec<Self>),
    Object(Object),
}

/// The members of an object in their order, repeated keys included.
#[derive(Debug, PartialEq)]
pub(super) struct Object(pub(super) Vec<(String, Json)>);

impl Json {
    /// Reads a body: one JSON value of at most [`MAX_BODY_BYTES`], nested at most 127 deep.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Fault> {
        let refuse = |problem, accepted: String| Err(Fault::new(FaultKind::Structure, "body", problem, accepted));
        if body.len() > MAX_BODY_BYTES {
            return refuse(format!("has {} bytes", body.len()), format!("at most {MAX_BODY_BYTES} bytes"));
        }
        // serde_json's own limit of depth is in force: nothing here turns it off.
        serde_json::from_slice(body)
            .or_else(|error| refuse(format!("can't be read: {error}"), "one JSON object".to_owned()))
    }

    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number => "a number",
            Self::Text(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    pub(super) fn as_text(&self, parameter: &str) -> Result<&str, Fault> {
        if let Self::Text(text) = self { Ok(text) } else { Err(self.wrong_kind(parameter, "a string")) }
    }

    pub(super) fn as_object(&self, parameter: &str) -> Result<&Object, Fault> {
        if let Self::Object(object) = self { Ok(object) } else { Err(self.wrong_kind(parameter, "an object")) }
    }

    pub(super) fn as_array(&self, parameter: &str) -> Result<&[Self], Fault> {
        if let Self::Array(items) = self { Ok(items) } else { Err(self.wrong_kind(parameter, "an array")) }
    }

    fn wrong_kind(&self, parameter: &str, accepted: &'static str) -> Fault {
        Fault::new(FaultKind::Structure, parameter, format!("is {}", self.kind()), accepted)
    }
}

impl Object {
    /// The one member whose key fits, if there is one; `parameter` is its name in the fault of a repeated one.
    pub(super) fn member(&self, parameter: &str, fits: impl Fn(&str) -> bool) -> Result<Option<&Json>, Fault> {
        let mut found = self.0.iter().filter(|(key, _)| fits(key));
        match (found.next(), found.next()) {
            (first, None) => Ok(first.map(|(_, value)| value)),
            (_, Some(_)) => Err(repeated(parameter)),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Bool)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
        Ok(Json::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Json, E> {
        Ok(Json::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Number)
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut members: Vec<(String, Json)> = Vec::new();
        while let Some(member) = access.next_entry()? {
            members.push(member);
        }
        let is_number = matches!(members.as_slice(), [(key, Json::Text(_))] if key == NUMBER_KEY);
        Ok(if is_number { Json::Number } else { Json::Object(Object(members)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_comes_twice_is_seen_twice() {
        let json = Json::parse(br#"{"a":1,"b":[true,null,-2.5e9,"x"],"a":"y"}"#).unwrap();
        let object = json.as_object("body").unwrap();
        assert!(object.member("a", |key| key == "a").is_err());
        assert_eq!(object.member("c", |key| key == "c"), Ok(None));
        let items = [Json::Bool, Json::Null, Json::Number, Json::Text("x".into())].into();
        assert_eq!(object.member("b", |key| key == "b"), Ok(Some(&Json::Array(items))));
    }

    #[test]
    fn what_is_too_large_too_deep_or_no_json_is_refused() {
        let deep = [b"[".repeat(200), b"]".repeat(200)].concat();
        let large = [b"\"".to_vec(), b"a".repeat(MAX_BODY_BYTES), b"\"".to_vec()].concat();
        for bad in [&b""[..], b"{", b"{} x", b"\xff", b"\"\xff\"", b"{\"a\":1,}", &deep, &large] {
            assert_eq!(Json::parse(bad).unwrap_err().parameter(), "body");
        }
    }
}
