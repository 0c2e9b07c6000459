//! What is valid and what isn't.

use crate::resource::testing::{naive, scanned};
use crate::resource::{Defect, DefectKind, References, ScanPlan, scan};

fn with_value(value: &str) -> String {
    format!(r#"{{"resourceType":"Basic","x":{value}}}"#)
}

fn check(line: &[u8]) -> Result<(), Defect> {
    scan(line, &ScanPlan::default(), &mut References::new()).map(|_| ())
}

fn kind(line: &[u8]) -> DefectKind {
    check(line).unwrap_err().kind
}

/// The rows that differ between the JSON readers that one could have used instead.
#[test]
fn the_cases_that_readers_disagree_on_are_decided() {
    let id_of = |line: &str| scanned(line.as_bytes(), &ScanPlan::default()).map(|found| found.id.unwrap_or_default());
    for (case, members, expected) in [
        ("contained with own id first", r#""contained":[{"resourceType":"Patient","id":"B"}],"id":"A""#, Ok("A")),
        ("id inside a string", r#""text":"\"id\":\"B\"","id":"A""#, Ok("A")),
        ("duplicate id", r#""id":"A","id":"B""#, Ok("B")),
        ("escaped key", r#""\u0069d":"A""#, Ok("A")),
        ("escaped value", r#""id":"A\/1""#, Ok("A/1")),
        ("mismatched brackets", r#""id":"A","x":[1}"#, Err(DefectKind::Grammar("missing comma or bracket"))),
        ("missing comma", r#""id":"A" "x":1"#, Err(DefectKind::Grammar("missing comma or brace"))),
        ("nul", r#""id":"A","x":nul"#, Err(DefectKind::Grammar("unknown literal"))),
        ("01x", r#""id":"A","x":01x"#, Err(DefectKind::Grammar("number with a leading zero"))),
        ("unknown escape", r#""id":"A","x":"\q""#, Err(DefectKind::Grammar("unknown escape"))),
        ("raw control character", "\"id\":\"A\",\"x\":\"\u{1}\"", Err(DefectKind::ControlCharacter)),
        ("lone surrogate escape", r#""id":"A","x":"\ud800""#, Ok("A")),
        ("spaces around tokens", " \"id\" : \"A\" , \"x\" : [ 1 , { \"y\" : 2 } ] ", Ok("A")),
        ("CRLF around tokens", "\r\n\"id\"\r\n:\t\"A\"\r\n", Ok("A")),
    ] {
        let line = format!(r#"{{"resourceType":"Basic",{members}}}"#);
        let found = id_of(&line).map_err(|defect| defect.kind);
        assert_eq!(found, expected.map(str::to_owned), "{case}");
    }
    let good = r#"{"resourceType":"Basic","id":"A"}"#;
    assert_eq!(kind(good.replace('}', "").as_bytes()), DefectKind::Truncated);
    assert_eq!(kind(format!("{good} x").as_bytes()), DefectKind::TrailingBytes);
    assert_eq!(kind(format!("\u{feff}{good}").as_bytes()), DefectKind::NotAnObject);
    assert_eq!(id_of(&format!(" \t\r\n{good}\r\n")), Ok("A".to_owned()));
    assert_eq!(kind(b"{\"resourceType\":\"Basic\",\"x\":\"\xC3\"}"), DefectKind::Utf8);
    let deep = with_value(&format!("{}{}", "[".repeat(200), "]".repeat(200)));
    assert_eq!(check(deep.as_bytes()), Ok(()));
}

#[test]
fn nesting_to_256_is_taken_and_one_more_is_not() {
    let shapes = [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]"), ("{\"a\":[", "]}")];
    for (open, close) in shapes {
        let levels = open.matches(['[', '{']).count();
        let nested = |count: usize| {
            let (times, rest) = (count / levels, count % levels);
            let inner = if rest == 1 { "[]" } else { "0" };
            with_value(&format!("{}{inner}{}", open.repeat(times), close.repeat(times)))
        };
        assert_eq!(check(nested(255).as_bytes()), Ok(()), "{open}");
        assert_eq!(kind(nested(256).as_bytes()), DefectKind::TooDeep, "{open}");
        assert_eq!(kind(nested(100_000).as_bytes()), DefectKind::TooDeep, "{open}");
    }
}

#[test]
fn nesting_counts_the_same_on_the_way_to_a_reference() {
    let plan = ScanPlan::with_references(std::sync::Arc::new(crate::resource::Compartment::r4_patient()));
    for (count, deep) in [(253, false), (254, false), (255, true), (256, true), (100_000, true)] {
        let value = format!("{}{{\"reference\":\"A\"}}{}", "[".repeat(count), "]".repeat(count));
        for line in [
            format!(r#"{{"resourceType":"Flag","subject":{value}}}"#),
            format!(r#"{{"subject":{value},"resourceType":"Flag"}}"#),
        ] {
            match scanned(line.as_bytes(), &plan) {
                Ok(found) => assert!(!deep && found.references == ["A"], "{count}"),
                Err(defect) => assert!(deep && defect.kind == DefectKind::TooDeep, "{count}"),
            }
        }
        let beside = format!(r#"{{"resourceType":"Flag","subject":{{"x":{value}}}}}"#);
        assert_eq!(scanned(beside.as_bytes(), &plan).is_err(), count > 253, "{count}");
    }
}

#[test]
fn numbers_are_taken_in_any_size_and_only_in_their_grammar() {
    let digits = "7".repeat(100);
    for good in ["0", "-0", "10", "1.50", "1e999", "-1E+05", "0.0e-0", "1E400", &digits] {
        assert_eq!(check(with_value(good).as_bytes()), Ok(()), "{good}");
        assert_eq!(check(with_value(&format!("[{good},{good} ]")).as_bytes()), Ok(()), "{good}");
    }
    for bad in
        ["-", "+1", "01", "-01", "1.", ".5", "1.e1", "1e", "1e+", "1e+-1", "0x1", "1_0", "--1", "NaN", "Infinity"]
    {
        assert!(matches!(kind(with_value(bad).as_bytes()), DefectKind::Grammar(_)), "{bad}");
    }
}

#[test]
fn every_rule_of_the_grammar_has_its_reason_and_place() {
    for (value, reason, offset) in [
        ("[1 2]", "missing comma or bracket", 3),
        ("[1,]", "value expected", 3),
        ("[,1]", "value expected", 1),
        ("{,}", "member name expected", 1),
        (r#"{"a":1,}"#, "member name expected", 7),
        (r#"{"a" 1}"#, "missing colon", 5),
        (r#"{"a":}"#, "value expected", 5),
        (r#"{"a":1 "b":2}"#, "missing comma or brace", 7),
        ("{1:2}", "member name expected", 1),
        ("[1}", "missing comma or bracket", 2),
        (r#"{"a":1]"#, "missing comma or brace", 6),
        ("tru", "unknown literal", 0),
        ("True", "value expected", 0),
        ("'a'", "value expected", 0),
        (r#""\x""#, "unknown escape", 1),
        (r#""\u12G4""#, "\\u without four hexadecimal digits", 1),
        ("1.x", "digit expected", 2),
        ("/**/1", "value expected", 0),
    ] {
        let expected = Err(Defect { kind: DefectKind::Grammar(reason), offset: with_value("").len() - 1 + offset });
        assert_eq!(check(with_value(value).as_bytes()), expected, "{value}");
    }
}

#[test]
fn every_beginning_of_a_resource_is_truncated() {
    let line = r#"{"resourceType":"Basic","a":[true,false,null,-1.5e+3,{"é":"\u00e9\n"}], "meta":{"x":[]} }"#;
    for length in 0..line.len() {
        let cut = &line.as_bytes()[..length];
        let expected = if std::str::from_utf8(cut).is_ok() { DefectKind::Truncated } else { DefectKind::Utf8 };
        assert_eq!(kind(cut), expected, "{length}");
    }
    assert_eq!(check(line.as_bytes()), Ok(()));
}

#[test]
fn a_line_that_opens_no_object_is_none() {
    for line in ["[]", "[{}]", "\"x\"", "1", "null", "x", "<html>", "}"] {
        assert_eq!(kind(line.as_bytes()), DefectKind::NotAnObject, "{line}");
    }
    for blank in ["", " ", "\r"] {
        assert_eq!(kind(blank.as_bytes()), DefectKind::Truncated);
    }
}

#[test]
fn every_control_character_and_nothing_else_is_refused_in_a_string() {
    for code in 0..=0x9f_u32 {
        let character = char::from_u32(code).unwrap();
        let expected = match character {
            '"' | '\\' => continue,
            '\0'..' ' => Err(DefectKind::ControlCharacter),
            _ => Ok(()),
        };
        for distance in [0, 7, 8, 63, 64, 65, 400] {
            let line = with_value(&format!("\"{}{character}{}\"", "a".repeat(distance), "b".repeat(9)));
            assert_eq!(check(line.as_bytes()).map_err(|defect| defect.kind), expected, "{code:x} after {distance}");
            if let Err(defect) = check(line.as_bytes()) {
                assert_eq!(defect.offset, with_value("").len() + distance);
            }
        }
    }
}

#[test]
fn invalid_utf_8_is_found_anywhere() {
    for bad in [&b"\xFF"[..], b"\xC0\x80", b"\xED\xA0\x80", b"\xF4\x90\x80\x80", b"\xE2\x82"] {
        for line in [
            [b"{\"resourceType\":\"Basic\",\"x\":\"", bad, b"\"}"].concat(),
            [b"{\"resourceType\":\"Basic\",\"", bad, b"\":1}"].concat(),
            [b"{\"resourceType\":\"Basic\"}", bad].concat(),
        ] {
            assert_eq!(kind(&line), DefectKind::Utf8);
            assert_eq!(naive(&line, &ScanPlan::default()), None);
        }
    }
}

#[test]
fn a_body_of_20_mb_is_one_string_like_any_other() {
    let body = "QUJD".repeat(5 << 20);
    let good = format!(r#"{{"data":"{body}","resourceType":"Binary","id":"1"}}"#);
    assert_eq!(check(good.as_bytes()), Ok(()));
    let bad = format!("{{\"data\":\"{body}\u{1}\",\"resourceType\":\"Binary\"}}");
    assert_eq!(
        check(bad.as_bytes()).unwrap_err(),
        Defect { kind: DefectKind::ControlCharacter, offset: 9 + body.len() }
    );
}

#[test]
fn a_report_of_a_defect_tells_nothing_of_the_resource() {
    let defect = check(br#"{"resourceType":"Basic","name":Smith}"#).unwrap_err();
    assert_eq!(defect.to_string(), "not valid JSON: value expected (at byte 31)");
    let defect = check(br#"{"resourceType":"Sm/ith"}"#).unwrap_err();
    assert_eq!(defect.to_string(), "resourceType is not one upper-case letter and 1 to 63 more letters (at byte 17)");
}
