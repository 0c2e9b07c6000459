//! JSON without names that occur twice in an object: of those, `serde_json` silently keeps the last.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::document::quoted;

/// Reads a JSON text.
///
/// # Errors
/// When it isn't one, or a name occurs twice in an object; with line and column.
pub(super) fn parse(text: &str) -> serde_json::Result<Value> {
    serde_json::from_str::<Distinct>(text)?;
    serde_json::from_str(text)
}

/// Any JSON whose names are distinct.
struct Distinct;

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Names)
    }
}

struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = Distinct;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_str<E>(self, _: &str) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Distinct, A::Error> {
        while items.next_element::<Distinct>()?.is_some() {}
        Ok(Distinct)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Distinct, A::Error> {
        let mut names = BTreeSet::new();
        while let Some(name) = members.next_key::<String>()? {
            members.next_value::<Distinct>()?;
            if names.contains(&name) {
                return Err(A::Error::custom(format!("{} occurs twice", quoted(&name))));
            }
            names.insert(name);
        }
        Ok(Distinct)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_occurs_once_at_every_depth_however_it_is_escaped() {
        for text in [r#"{"a":1,"a":1}"#, r#"[{"b":[{"a":1,"c":{},"\u0061":2}]}]"#, r#"{"a":{},"b":{"":null,"":null}}"#]
        {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("occurs twice") && error.contains("line 1"), "{error}");
        }
    }

    #[test]
    fn all_other_json_is_read_as_it_is() {
        for text in [r#"{"a":[1,-2,3.5,1e9,true,false,null,"b",{"a":{}}],"A":[]}"#, "1", "\"a\"", "[]"] {
            assert_eq!(parse(text).unwrap(), serde_json::from_str::<Value>(text).unwrap());
        }
        for text in ["", "{", "{}{}", "{\"a\":1,}", "nul", &"[".repeat(1000)] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
