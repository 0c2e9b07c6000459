//! A JSON tokenizer that is fed: documents of any size in pieces of any size, in constant memory.
//!
//! For a Group of a million members, which is one line of 70 MB: the line scanner wants a whole line at once. The rules
//! are the same: RFC 8259, UTF-8 checked, lone surrogate escapes and any number accepted, nesting to 256.

use std::fmt;
use std::ops::ControlFlow;

use super::json_text::TextReader;

/// Deepest nesting that is accepted.
const MAX_DEPTH: usize = 256;

/// A token of the document, told as soon as it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    ObjectStart,
    ObjectEnd,
    ArrayStart,
    ArrayEnd,
    /// The name of what follows, escapes resolved; `None` if it is longer than 4 KiB.
    Key(Option<&'a str>),
    /// A string, escapes resolved; `None` if it is longer than 4 KiB.
    String(Option<&'a str>),
    Bool(bool),
    Null,
    Number,
}

/// Takes the tokens of a document.
pub(super) trait Visitor {
    /// Takes the next token; a break says that the rest of the document doesn't matter.
    fn event(&mut self, event: Event<'_>) -> ControlFlow<()>;
}

/// Why bytes aren't a JSON document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonFault {
    Syntax,
    Utf8,
    TooDeep,
    Incomplete,
}

impl fmt::Display for JsonFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "it isn't JSON",
            Self::Utf8 => "it isn't UTF-8",
            Self::TooDeep => "it is nested deeper than 256",
            Self::Incomplete => "it ends too early",
        })
    }
}

/// Reads one document. After a fault or a break it must be [reset](Self::reset).
#[derive(Debug)]
pub(super) struct JsonPush {
    state: State,
    /// The open objects (true) and arrays (false).
    open: Vec<bool>,
    text: TextReader,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Value,
    ElementOrEnd,
    KeyOrEnd,
    Key,
    Colon,
    AfterValue,
    Text { is_key: bool },
    Number(Number),
    Literal { missing: &'static [u8], event: Event<'static> },
}

/// What of a number was read last.
#[derive(Clone, Copy, Debug)]
enum Number {
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

type Step<'b> = Result<(&'b [u8], ControlFlow<()>), JsonFault>;

const GO_ON: ControlFlow<()> = ControlFlow::Continue(());

impl JsonPush {
    pub(super) fn new() -> Self {
        Self { state: State::Value, open: Vec::new(), text: TextReader::new() }
    }

    /// Forgets everything, for the next document.
    pub(super) fn reset(&mut self) {
        self.state = State::Value;
        self.open.clear();
    }

    /// Whether nothing but blanks was read.
    pub(super) fn is_blank(&self) -> bool {
        matches!(self.state, State::Value) && self.open.is_empty()
    }

    /// Takes the next bytes of the document.
    pub(super) fn push(&mut self, mut bytes: &[u8], visitor: &mut impl Visitor) -> Result<ControlFlow<()>, JsonFault> {
        while !bytes.is_empty() {
            let (rest, flow) = match self.state {
                State::Text { is_key } => self.step_text(bytes, is_key, visitor)?,
                _ => self.step(bytes, visitor)?,
            };
            if flow.is_break() {
                return Ok(flow);
            }
            bytes = rest;
        }
        Ok(GO_ON)
    }

    /// Says that no more bytes follow.
    pub(super) fn finish(&mut self, visitor: &mut impl Visitor) -> Result<ControlFlow<()>, JsonFault> {
        let mut flow = GO_ON;
        if let State::Number(number) = self.state
            && number.may_end()
        {
            self.state = State::AfterValue;
            flow = visitor.event(Event::Number);
        }
        if matches!(self.state, State::AfterValue) && self.open.is_empty() {
            return Ok(flow);
        }
        Err(JsonFault::Incomplete)
    }

    fn step_text<'b>(&mut self, bytes: &'b [u8], is_key: bool, visitor: &mut impl Visitor) -> Step<'b> {
        let Some(rest) = self.text.push(bytes)? else { return Ok((&[], GO_ON)) };
        let (state, event) = if is_key {
            (State::Colon, Event::Key(self.text.whole()))
        } else {
            (State::AfterValue, Event::String(self.text.whole()))
        };
        self.state = state;
        Ok((rest, visitor.event(event)))
    }

    /// Takes one byte, or ends a number before it.
    fn step<'b>(&mut self, bytes: &'b [u8], visitor: &mut impl Visitor) -> Step<'b> {
        let Some((&byte, rest)) = bytes.split_first() else { return Ok((bytes, GO_ON)) };
        let is_blank = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        let flow = match self.state {
            State::Number(number) => match number.next(byte) {
                Some(next) => {
                    self.state = State::Number(next);
                    GO_ON
                }
                None if number.may_end() => {
                    self.state = State::AfterValue;
                    return Ok((bytes, visitor.event(Event::Number)));
                }
                None => return Err(JsonFault::Syntax),
            },
            State::Literal { missing, event } => self.literal(byte, missing, event, visitor)?,
            _ if is_blank => GO_ON,
            State::ElementOrEnd if byte == b']' => self.close(false, visitor)?,
            State::KeyOrEnd if byte == b'}' => self.close(true, visitor)?,
            State::Value | State::ElementOrEnd => self.value(byte, visitor)?,
            State::Key | State::KeyOrEnd if byte == b'"' => self.start_text(true),
            State::Colon if byte == b':' => {
                self.state = State::Value;
                GO_ON
            }
            State::AfterValue => self.after_value(byte, visitor)?,
            State::Key | State::KeyOrEnd | State::Colon | State::Text { .. } => return Err(JsonFault::Syntax),
        };
        Ok((rest, flow))
    }

    fn value(&mut self, byte: u8, visitor: &mut impl Visitor) -> Result<ControlFlow<()>, JsonFault> {
        self.state = match byte {
            b'{' => return self.open(true, visitor),
            b'[' => return self.open(false, visitor),
            b'"' => return Ok(self.start_text(false)),
            b't' => State::Literal { missing: b"rue", event: Event::Bool(true) },
            b'f' => State::Literal { missing: b"alse", event: Event::Bool(false) },
            b'n' => State::Literal { missing: b"ull", event: Event::Null },
            b'-' => State::Number(Number::Minus),
            b'0' => State::Number(Number::Zero),
            b'1'..=b'9' => State::Number(Number::Integer),
            _ => return Err(JsonFault::Syntax),
        };
        Ok(GO_ON)
    }

    fn after_value(&mut self, byte: u8, visitor: &mut impl Visitor) -> Result<ControlFlow<()>, JsonFault> {
        match (byte, self.open.last()) {
            (b',', Some(true)) => self.state = State::Key,
            (b',', Some(false)) => self.state = State::Value,
            (b'}', Some(true)) => return self.close(true, visitor),
            (b']', Some(false)) => return self.close(false, visitor),
            _ => return Err(JsonFault::Syntax),
        }
        Ok(GO_ON)
    }

    fn start_text(&mut self, is_key: bool) -> ControlFlow<()> {
        self.text.start();
        self.state = State::Text { is_key };
        GO_ON
    }

    fn literal(
        &mut self,
        byte: u8,
        missing: &'static [u8],
        event: Event<'static>,
        visitor: &mut impl Visitor,
    ) -> Result<ControlFlow<()>, JsonFault> {
        match missing.split_first() {
            Some((&expected, [])) if expected == byte => {
                self.state = State::AfterValue;
                Ok(visitor.event(event))
            }
            Some((&expected, missing)) if expected == byte => {
                self.state = State::Literal { missing, event };
                Ok(GO_ON)
            }
            _ => Err(JsonFault::Syntax),
        }
    }

    fn open(&mut self, is_object: bool, visitor: &mut impl Visitor) -> Result<ControlFlow<()>, JsonFault> {
        if self.open.len() == MAX_DEPTH {
            return Err(JsonFault::TooDeep);
        }
        self.open.push(is_object);
        self.state = if is_object { State::KeyOrEnd } else { State::ElementOrEnd };
        Ok(visitor.event(if is_object { Event::ObjectStart } else { Event::ArrayStart }))
    }

    fn close(&mut self, is_object: bool, visitor: &mut impl Visitor) -> Result<ControlFlow<()>, JsonFault> {
        self.open.pop();
        self.state = State::AfterValue;
        Ok(visitor.event(if is_object { Event::ObjectEnd } else { Event::ArrayEnd }))
    }
}

impl Number {
    const fn next(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Minus, b'0') => Self::Zero,
            (Self::Minus, b'1'..=b'9') | (Self::Integer, b'0'..=b'9') => Self::Integer,
            (Self::Zero | Self::Integer, b'.') => Self::Point,
            (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Zero | Self::Integer | Self::Fraction, b'e' | b'E') => Self::Exponent,
            (Self::Exponent, b'+' | b'-') => Self::ExponentSign,
            (Self::Exponent | Self::ExponentSign | Self::ExponentDigits, b'0'..=b'9') => Self::ExponentDigits,
            _ => return None,
        })
    }

    const fn may_end(self) -> bool {
        matches!(self, Self::Zero | Self::Integer | Self::Fraction | Self::ExponentDigits)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::super::json_text::TEXT_CAP_BYTES;
    use super::*;

    #[derive(Default)]
    struct Recorder(Vec<String>);

    impl Visitor for Recorder {
        fn event(&mut self, event: Event<'_>) -> ControlFlow<()> {
            self.0.push(format!("{event:?}"));
            GO_ON
        }
    }

    fn read(pieces: &[&[u8]]) -> (Vec<String>, Result<(), JsonFault>) {
        let (mut json, mut recorder) = (JsonPush::new(), Recorder::default());
        for piece in pieces {
            if let Err(fault) = json.push(piece, &mut recorder) {
                return (recorder.0, Err(fault));
            }
        }
        let end = json.finish(&mut recorder).map(drop);
        (recorder.0, end)
    }

    fn serde_accepts(bytes: &[u8]) -> bool {
        std::str::from_utf8(bytes).is_ok_and(|text| {
            let mut deserializer = serde_json::Deserializer::from_str(text);
            deserializer.disable_recursion_limit();
            serde::Deserialize::deserialize(&mut deserializer).and_then(|IgnoredAny| deserializer.end()).is_ok()
        })
    }

    #[test]
    fn every_kind_of_token_is_told() {
        let (events, end) = read(&[br#" {"a\u0062":[1,-0.5e+3,true,false,null,{}],"s":"\ud83d\ude00\n"} "#]);
        assert_eq!(end, Ok(()));
        let expected = [
            "ObjectStart",
            "Key(Some(\"ab\"))",
            "ArrayStart",
            "Number",
            "Number",
            "Bool(true)",
            "Bool(false)",
            "Null",
            "ObjectStart",
            "ObjectEnd",
            "ArrayEnd",
            "Key(Some(\"s\"))",
            "String(Some(\"\u{1F600}\\n\"))",
            "ObjectEnd",
        ];
        assert_eq!(events, expected);
    }

    #[test]
    fn a_lone_surrogate_is_accepted_and_told_as_a_replacement() {
        for (text, told) in [
            (r#""\ud800""#, "\u{FFFD}"),
            (r#""\udc00x""#, "\u{FFFD}x"),
            (r#""\ud800\ud83d\ude00""#, "\u{FFFD}\u{1F600}"),
            (r#""\ud800\n\udc00""#, "\u{FFFD}\n\u{FFFD}"),
            (r#""\ud800é""#, "\u{FFFD}é"),
            (r#""\ud800A""#, "\u{FFFD}A"),
            (r#""\ud800\u0041""#, "\u{FFFD}A"),
        ] {
            assert_eq!(read(&[text.as_bytes()]), (vec![format!("String(Some({told:?}))")], Ok(())), "{text}");
        }
    }

    #[test]
    fn a_text_is_kept_up_to_the_cap_and_no_longer_one_at_all() {
        let longest = format!("\"{}\"", "é".repeat(TEXT_CAP_BYTES / 2));
        assert!(read(&[longest.as_bytes()]).0[0].starts_with("String(Some("));
        let (mut json, mut recorder) = (JsonPush::new(), Recorder::default());
        let piece = [b'x'; 1000];
        assert!(json.push(b"{\"", &mut recorder).is_ok());
        for _ in 0..10_000 {
            assert!(json.push(&piece, &mut recorder).is_ok());
        }
        assert!(json.push(b"\":\"\"}", &mut recorder).is_ok());
        assert_eq!(recorder.0, ["ObjectStart", "Key(None)", "String(Some(\"\"))", "ObjectEnd"]);
    }

    #[test]
    fn nesting_to_256_is_accepted_and_no_deeper() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(read(&[nested(256).as_bytes()]).1, Ok(()));
        assert_eq!(read(&[nested(257).as_bytes()]).1, Err(JsonFault::TooDeep));
    }

    #[test]
    fn a_visitor_can_stop_the_reading() {
        struct Stop;
        impl Visitor for Stop {
            fn event(&mut self, event: Event<'_>) -> ControlFlow<()> {
                if matches!(event, Event::Key(_)) { ControlFlow::Break(()) } else { GO_ON }
            }
        }
        assert_eq!(JsonPush::new().push(b"{\"a\" no json", &mut Stop), Ok(ControlFlow::Break(())));
    }

    #[test]
    fn odd_documents_are_judged_as_serde_json_judges_them() {
        for text in [
            "",
            " ",
            "{}",
            "[]",
            "[1,]",
            "[,1]",
            "{\"a\":1,}",
            "{,}",
            "{\"a\"}",
            "{\"a\" 1}",
            "{a:1}",
            "{\"a\":1 \"b\":2}",
            "[1 2]",
            "[}",
            "{]",
            "]",
            "1",
            "-",
            "-0",
            "01",
            "-01",
            "1.",
            ".5",
            "1.5",
            "1e",
            "1e+",
            "1E-9",
            "1e5.5",
            "--1",
            "+1",
            "0x1",
            "1 ",
            "1 1",
            "1a",
            "true",
            "tru",
            "truE",
            "truee",
            "nul",
            "null",
            "falsefalse",
            "NaN",
            "\"",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\\uABcd\"",
            "\"a\nb\"",
            "\"a\u{7f}b\"",
            "\"\u{0}\"",
            "{\"a\":{\"b\":[{}]}}",
            "{\"a\":1,\"a\":2}",
            "\u{feff}{}",
            "{}{}",
            "[\"a\"\"b\"]",
            "\u{a0}{}",
            "{}\u{c}",
            "'a'",
            "[1,2",
            "{\"a\":",
            "\"\\ud800\\u\"",
            "123456789012345678901234567890e99999",
        ] {
            assert_eq!(read(&[text.as_bytes()]).1.is_ok(), serde_accepts(text.as_bytes()), "{text:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_utf_8_are_refused() {
        for first in 0x80..=0xFFu8 {
            for second in [0x22, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF] {
                for rest in [&b""[..], b"\x80", b"\xBF\xBF", b"\x80\x80\x80"] {
                    let text = [b"\"", &[first, second][..], rest, b"\""].concat();
                    assert_eq!(read(&[&text]).1.is_ok(), serde_accepts(&text), "{text:x?}");
                }
            }
        }
    }

    fn document() -> impl Strategy<Value = Vec<u8>> {
        let leaf = prop::sample::select(vec![
            "null",
            "true",
            "false",
            "0",
            "-1.5e3",
            "12",
            "\"\"",
            "\"a\\\"b\"",
            "\"\\ud83d\\ude00é€😀\"",
            "\"\\udc00\"",
            " 7 ",
            "\"\\u0041\"",
        ])
        .prop_map(str::to_owned);
        let tree = leaf.prop_recursive(5, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(|items| format!("[{}]", items.join(", "))),
                prop::collection::vec(("[a-c\\\\u0041é]{0,3}", inner), 0..5).prop_map(|items| {
                    let items: Vec<_> = items.iter().map(|(key, item)| format!("{key:?} :{item}")).collect();
                    format!("{{ {}}}", items.join(","))
                }),
            ]
        });
        let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 0..3);
        (tree, damage).prop_map(|(text, damage)| {
            let mut bytes = text.into_bytes();
            for (place, byte, kind) in damage {
                let index = place.index(bytes.len() + 1);
                match kind {
                    0 => bytes.truncate(index),
                    1 => bytes.insert(index, byte),
                    2 => bytes.insert(index, b"{}[],:\"\\ 0e-"[usize::from(byte) % 12]),
                    _ => drop((index < bytes.len()).then(|| bytes.remove(index))),
                }
            }
            bytes
        })
    }

    proptest! {
        #[test]
        fn documents_are_judged_as_serde_json_judges_them(bytes in document()) {
            prop_assert_eq!(read(&[&bytes]).1.is_ok(), serde_accepts(&bytes), "{}", bytes.escape_ascii());
        }

        #[test]
        fn any_chunking_tells_the_same_tokens(bytes in document(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..9)) {
            let whole = read(&[&bytes]);
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(&read(&single), &whole);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(&read(&pieces), &whole);
        }

        #[test]
        fn a_string_is_told_as_serde_json_reads_it(text in any::<String>(), escaped in any::<bool>()) {
            let mut written = serde_json::to_string(&text).unwrap();
            if escaped {
                written = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
                written = format!("\"{written}\"");
            }
            prop_assert_eq!(read(&[written.as_bytes()]).0, [format!("{:?}", Event::String(Some(&text)))]);
        }
    }
}
