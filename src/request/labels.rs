//! The filters by label: `_security` and `_tag`.

use std::collections::BTreeSet;

use super::fault::{Fault, FaultKind, Faults};
use crate::fhir::{Token, TokenError};

const ACCEPTED: &str = "system|code, system| for any code, code for any system, or |code for none; | sent as %7C";

/// Each resource is compared with all of them.
const MOST_LABELS: usize = 64;

/// Adds the tokens of a list to those that were asked for before.
pub(super) fn add(labels: &mut BTreeSet<Token>, parameter: &str, list: &str, faults: &mut Faults) {
    for read in read_list(parameter, list) {
        match read {
            Ok(token) => drop(labels.insert(token)),
            Err(fault) => faults.push(fault),
        }
        if labels.len() > MOST_LABELS {
            let problem = format!("asks for more than {MOST_LABELS} labels");
            faults.push(Fault::new(FaultKind::Value, parameter, problem, format!("at most {MOST_LABELS}")));
            return;
        }
    }
}

/// Reads a comma-separated list of tokens; what is none comes as a fault of its own.
///
/// A list that names nothing is a fault: it must not come to mean everything.
fn read_list<'a>(parameter: &'a str, list: &'a str) -> impl Iterator<Item = Result<Token, Fault>> + use<'a> {
    let tokens = || Token::split_list(list).map(str::trim).filter(|token| !token.is_empty());
    let nothing = tokens().next().is_none().then(|| Err(fault(parameter, "names no label", list)));
    let read = move |token: &str| Token::parse(token).map_err(|error| fault(parameter, why(error), token));
    nothing.into_iter().chain(tokens().map(read))
}

const fn why(error: TokenError) -> &'static str {
    match error {
        TokenError::Bars => "has more than one |",
        _ => "names neither a system nor a code",
    }
}

fn fault(parameter: &str, problem: &'static str, value: &str) -> Fault {
    Fault::new(FaultKind::Value, parameter, problem, ACCEPTED).with_value(value)
}

/// Writes tokens as parameters of a query that is percent-decoded, but for what would end a value.
pub(super) fn write_all(name: &str, tokens: &BTreeSet<Token>, query: &mut String) {
    use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
    const ENDS_A_VALUE: AsciiSet = CONTROLS.add(b' ').add(b'%').add(b'&').add(b'+').add(b'#');
    for token in tokens {
        query.push('&');
        query.push_str(name);
        query.push('=');
        query.extend(utf8_percent_encode(&token.to_string(), &ENDS_A_VALUE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &str) -> Vec<String> {
        read_list("_tag", list)
            .map(|read| read.map_or_else(|fault| fault.to_string(), |token| token.to_string()))
            .collect()
    }

    #[test]
    fn lists_are_split_at_commas_and_trimmed() {
        assert_eq!(read(r"http://x|a , b,,|c,d\,e|"), ["http://x|a", "b", "|c", r"d\,e|"]);
    }

    #[test]
    fn a_flood_of_labels_is_refused() {
        let list = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
        let (mut labels, mut faults) = (BTreeSet::new(), Faults::default());
        add(&mut labels, "_tag", &list(64), &mut faults);
        assert_eq!((labels.len(), faults.is_empty()), (64, true));
        add(&mut labels, "_tag", &list(100_000), &mut faults);
        assert_eq!(
            (labels.len(), faults.to_string()),
            (65, "_tag asks for more than 64 labels (accepted: at most 64)".into())
        );
    }

    #[test]
    fn what_is_no_token_is_told_with_the_others() {
        let told = read("a|b|c,ok,|");
        assert!(told[0].starts_with(r#"_tag "a|b|c" has more than one | (accepted: system|code"#), "{told:?}");
        assert_eq!(told[1], "ok");
        assert!(told[2].starts_with(r#"_tag "|" names neither a system nor a code"#), "{told:?}");
        assert!(read(" ,")[0].starts_with(r#"_tag " ," names no label"#));
    }
}
