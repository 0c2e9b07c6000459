//! What is refused, and in which words.

use std::time::Duration;

use super::super::UnsignedPayload;
use super::super::testing::PathStyle;
use super::*;

fn name(verdict: Result<(), Refusal>) -> &'static str {
    verdict.map_or_else(Refusal::name, |()| "accepted")
}

#[test]
fn what_our_own_signer_signs_is_accepted_in_both_forms_and_path_styles() {
    for path_style in [PathStyle::Again, PathStyle::Once, PathStyle::AsSent] {
        for path in [START.path, "/r4/%24export", "/a%20b/$c/%C3%A9/"] {
            let signer = Signer { path_style, ..signer() };
            for request in [Unsigned { path, ..START }, Unsigned { path, ..LOOK }] {
                assert_eq!(verdict(&signed(&signer, &request)), Ok(()), "{path}");
            }
            assert_eq!(verdict(&presigned(&signer, &Unsigned { path, ..LOOK }, 60)), Ok(()), "{path}");
        }
    }
}

#[test]
fn an_unsigned_request_misses_its_token() {
    let sent = sent(&START);
    assert_eq!(name(verdict(&sent)), "MissingAuthenticationTokenException");
    assert!(!sent.with(Claimed::is_in));
    assert_eq!(verdict(&sent.without("host")), Err(Refusal::Missing));
}

#[test]
fn a_request_is_known_to_be_signed_before_it_is_read() {
    assert!(signed(&signer(), &START).with(Claimed::is_in));
    assert!(presigned(&signer(), &LOOK, 1).with(Claimed::is_in));
    assert!(sent(&LOOK).header("authorization", " aws4-x").with(Claimed::is_in));
    assert!(!sent(&LOOK).header("authorization", "Bearer AWS4").with(Claimed::is_in));
    let broken = Sent { query: Some("a=%&x-amz-%64ate=1".to_owned()), ..sent(&LOOK) };
    assert!(broken.with(Claimed::is_in));
}

#[test]
fn clocks_may_be_five_minutes_apart_and_no_second_more() {
    let sent = signed(&signer(), &START);
    for (now, expected) in [
        ("2026-11-24T02:55:00Z", Ok(())),
        ("2026-11-24T03:05:00.999Z", Ok(())),
        ("2026-11-24T02:54:59.999Z", Err(Refusal::NotYetCurrent)),
        ("2026-11-24T03:05:01Z", Err(Refusal::Expired)),
        ("2025-11-24T03:00:00Z", Err(Refusal::NotYetCurrent)),
        ("2027-11-24T03:00:00Z", Err(Refusal::Expired)),
    ] {
        assert_eq!(sent.verdict(&SECRET, &at(now), &Expectation::healthlake(REGION)), expected, "{now}");
    }
}

#[test]
fn a_presigned_url_ends_when_it_says_so() {
    let sent = presigned(&signer(), &LOOK, 60);
    for (now, expected) in [
        ("2026-11-24T02:55:00Z", Ok(())),
        ("2026-11-24T03:01:00Z", Ok(())),
        ("2026-11-24T03:01:01Z", Err(Refusal::Expired)),
        ("2026-11-24T02:54:59Z", Err(Refusal::NotYetCurrent)),
    ] {
        assert_eq!(sent.verdict(&SECRET, &at(now), &Expectation::healthlake(REGION)), expected, "{now}");
    }
    let forever = presigned(&signer(), &LOOK, 604_801);
    assert_eq!(name(verdict(&forever)), "IncompleteSignatureException");
}

#[test]
fn another_region_service_or_day_is_out_of_scope() {
    let home = Expectation::healthlake(REGION);
    let sent = signed(&signer(), &START);
    for expected in [Expectation::healthlake("us-east-1"), Expectation { service: "s3", ..home }] {
        let verdict = sent.verdict(&SECRET, &signer().at, &expected);
        assert!(matches!(verdict, Err(Refusal::OutOfScope(_))), "{verdict:?}");
    }
    for (from, to) in [("20261124/", "20261123/"), ("aws4_request", "aws4_requess"), ("/eu-west-1/", "//")] {
        let authorization = sent.value("authorization").replace(from, to);
        let verdict = verdict(&sent.clone().without("authorization").header("authorization", &authorization));
        assert!(matches!(verdict, Err(Refusal::OutOfScope(_))), "{to}: {verdict:?}");
    }
}

#[test]
fn an_unknown_key_and_a_wrong_secret_are_told_in_the_same_words() {
    for sent in [signed(&signer(), &START), presigned(&signer(), &LOOK, 1)] {
        let claimed = sent.claimed(&signer().at, &Expectation::healthlake(REGION)).unwrap();
        assert_eq!(claimed.access_key_id(), "AKIDEXAMPLE");
        let hash = sha256(&sent.body);
        assert_eq!(claimed.verify(Some(&SECRET), &hash), Ok(()));
        assert_eq!(claimed.verify(None, &hash), Err(Refusal::Mismatch));
        assert_eq!(claimed.verify(Some(&Secret { access_key: "other", ..SECRET }), &hash), Err(Refusal::Mismatch));
    }
}

#[test]
fn the_secret_of_nobody_opens_nothing() {
    let nobody = Secret::OF_NOBODY;
    let sent = signed(&Signer { secret: nobody.access_key, ..signer() }, &START);
    let claimed = sent.claimed(&signer().at, &Expectation::healthlake(REGION)).unwrap();
    assert_eq!(claimed.verify(None, &sha256(&sent.body)), Err(Refusal::Mismatch));
}

#[test]
fn a_token_goes_with_its_secret_and_with_no_other() {
    let temporary = Signer { session_token: Some("token"), ..signer() };
    for make in [|signer: &Signer<'_>| signed(signer, &LOOK), |signer: &Signer<'_>| presigned(signer, &LOOK, 9)] {
        for (signer, token, is_right) in [
            (&temporary, Some("token"), true),
            (&temporary, Some("tokem"), false),
            (&temporary, Some("token2"), false),
            (&temporary, Some(""), false),
            (&temporary, None, false),
            (&signer(), Some("token"), false),
            (&signer(), Some(""), false),
            (&signer(), None, true),
        ] {
            let secret = Secret { session_token: token, ..SECRET };
            let expected = if is_right { Ok(()) } else { Err(Refusal::Mismatch) };
            let verdict = make(signer).verdict(&secret, &signer.at, &Expectation::healthlake(REGION));
            assert_eq!(verdict, expected, "{token:?}");
        }
    }
}

#[test]
fn a_request_is_not_signed_twice() {
    let (header, url) = (signed(&signer(), &LOOK), presigned(&signer(), &LOOK, 60));
    let both = Sent { query: url.query.clone(), ..header.clone() };
    assert_eq!(name(verdict(&both)), "IncompleteSignatureException");
    for query in ["X-Amz-Security-Token=a", "x-amz-signature", "X-AMZ-CONTENT-SHA256=UNSIGNED-PAYLOAD"] {
        let both = Sent { query: Some(query.to_owned()), ..header.clone() };
        assert_eq!(name(verdict(&both)), "IncompleteSignatureException", "{query}");
    }
    assert!(verdict(&url.clone().header("authorization", "Bearer x")).is_err());
    let twice = header.clone().header("authorization", &header.value("authorization"));
    assert_eq!(name(verdict(&twice)), "IncompleteSignatureException");
    for name in ["x-amz-date", "x-amz-security-token"] {
        assert!(verdict(&url.clone().header(name, "20261124T030000Z")).is_err(), "{name}");
    }
    let twice = Sent { query: url.query.clone().map(|query| format!("{query}&X-Amz-Date=20261124T030000Z")), ..url };
    assert_eq!(name(verdict(&twice)), "IncompleteSignatureException");
}

#[test]
fn every_part_of_a_presigned_url_must_be_there_as_it_is_spelt() {
    let url = presigned(&signer(), &LOOK, 60);
    let query = url.query.clone().unwrap();
    for pair in query.split('&') {
        let rest: Vec<&str> = query.split('&').filter(|other| *other != pair).collect();
        let verdict_without = verdict(&Sent { query: Some(rest.join("&")), ..url.clone() });
        assert_eq!(name(verdict_without), "IncompleteSignatureException", "{pair}");
        let lower = query.replace(pair, &pair.replacen("X-Amz-", "x-amz-", 1));
        let verdict_lower = verdict(&Sent { query: Some(lower), ..url.clone() });
        assert_eq!(name(verdict_lower), "IncompleteSignatureException", "{pair}");
    }
    let other = query.replace("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1");
    assert_eq!(name(verdict(&Sent { query: Some(other), ..url })), "IncompleteSignatureException");
}

#[test]
fn headers_that_matter_must_be_signed() {
    let sent = signed(&signer(), &START);
    for name in ["x-amz-target", "x-amz-anything", "X-Amz-Meta", "x-amz-content-sha256", "x-amz-security-token"] {
        let verdict = verdict(&sent.clone().header(name, "0"));
        assert!(verdict.is_err_and(|refusal| refusal != Refusal::Mismatch), "{name}");
    }
    assert_eq!(verdict(&sent.clone().header("accept", "*/*")), Ok(()), "others needn't");
    assert_eq!(verdict(&sent.clone().header("content-type", "x")), Err(Refusal::Mismatch));
    assert!(verdict(&sent.clone().without("host")).is_err());
    let listed = sent.value("authorization").replace("content-type;host;", "content-type;");
    assert!(verdict(&sent.without("authorization").header("authorization", &listed)).is_err());
    let undated = signed(&signer(), &LOOK).without("x-amz-date").header("date", "Tue, 24 Nov 2026 03:00:00 GMT");
    assert_eq!(name(verdict(&undated)), "IncompleteSignatureException");
}

#[test]
fn a_path_that_servers_read_differently_is_refused_whatever_else_is_there() {
    for path in ["/r4//$export", "/r4/../$export", "/r4/%2e/x", "/r4/a%2Fb", "/r4/%", "", "r4"] {
        let refused = verdict(&signed(&signer(), &Unsigned { path, ..START }));
        assert_eq!(name(refused), "IncompleteSignatureException", "{path}");
        assert_eq!(name(verdict(&sent(&Unsigned { path, ..START }))), "IncompleteSignatureException", "{path}");
    }
}

#[test]
fn the_hash_in_the_header_must_be_the_bodys() {
    let hash: String = sha256(START.body).iter().map(|byte| format!("{byte:02x}")).collect();
    let headers = [("host", "localhost"), ("x-amz-content-sha256", hash.as_str())];
    let sent = signed(&signer(), &Unsigned { headers: &headers, ..START });
    assert_eq!(verdict(&sent), Ok(()));
    let changed = verdict(&Sent { body: b"{}".to_vec(), ..sent });
    assert!(matches!(changed, Err(Refusal::Payload(_))), "{changed:?}");
}

#[test]
fn an_unsigned_body_is_for_presigned_gets_alone_and_where_it_is_allowed() {
    let open = Expectation { unsigned_payload: UnsignedPayload::InPresignedGet, ..Expectation::healthlake(REGION) };
    let headers = [("host", "localhost"), ("x-amz-content-sha256", "UNSIGNED-PAYLOAD")];
    let check = |sent: &Sent, expected: &Expectation<'_>| sent.verdict(&SECRET, &signer().at, expected);
    for request in [Unsigned { headers: &headers, ..START }, Unsigned { headers: &headers, ..LOOK }] {
        let sent = signed(&signer(), &request);
        for expected in [open, Expectation::healthlake(REGION)] {
            assert!(matches!(check(&sent, &expected), Err(Refusal::Payload(_))), "{}", request.method);
        }
    }
    // The signer signs the hash of the body that it is given, so these are refused for what they say, not as they are
    // signed.
    let url = presigned(&signer(), &Unsigned { headers: &headers, ..LOOK }, 60);
    assert!(matches!(check(&url, &Expectation::healthlake(REGION)), Err(Refusal::Payload(_))));
    assert_eq!(check(&url, &open), Err(Refusal::Mismatch));
    let url = Sent { method: "DELETE".to_owned(), ..url };
    assert!(matches!(check(&url, &open), Err(Refusal::Payload(_))));
}

#[test]
fn a_presigned_get_with_an_unsigned_body_has_no_body() {
    let open = Expectation { unsigned_payload: UnsignedPayload::InPresignedGet, ..Expectation::healthlake(REGION) };
    let query = format!("{}&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD", LOOK.query);
    let url = Sent {
        query: Some(signer().presign_unsigned(&Unsigned { query: query.trim_start_matches('&'), ..LOOK }, 60)),
        ..sent(&LOOK)
    };
    assert_eq!(url.verdict(&SECRET, &signer().at, &open), Ok(()));
    assert!(matches!(verdict(&url), Err(Refusal::Payload(_))));
    let with_body = Sent { body: b"{}".to_vec(), ..url };
    assert!(matches!(with_body.verdict(&SECRET, &signer().at, &open), Err(Refusal::Payload(_))));
}

#[test]
fn bodies_in_signed_chunks_and_hashes_that_are_none_are_refused() {
    for hash in [
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "unsigned-payload",
        "",
        "e3b0",
        "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
    ] {
        let headers = [("host", "localhost"), ("x-amz-content-sha256", hash)];
        for expected in [
            Expectation::healthlake(REGION),
            Expectation { unsigned_payload: UnsignedPayload::InPresignedGet, ..Expectation::healthlake(REGION) },
        ] {
            let request = Unsigned { headers: &headers, ..LOOK };
            for sent in [signed(&signer(), &request), presigned(&signer(), &request, 9)] {
                let verdict = sent.verdict(&SECRET, &signer().at, &expected);
                assert!(matches!(verdict, Err(Refusal::Payload(_))), "{hash}: {verdict:?}");
            }
        }
    }
}

#[test]
fn no_skew_is_too_large_for_sums() {
    let expected = Expectation { max_skew: Duration::MAX, ..Expectation::healthlake(REGION) };
    for year in ["0001", "9999"] {
        let now = at(&format!("{year}-12-31T23:59:59Z"));
        assert_eq!(signed(&signer(), &START).verdict(&SECRET, &now, &expected), Ok(()));
    }
}

#[test]
fn nothing_that_is_printed_holds_a_secret() {
    let signer = Signer { session_token: Some("a-token"), ..signer() };
    let sent = signed(&signer, &LOOK);
    let signature = sent.value("authorization").rsplit('=').next().unwrap().to_owned();
    let claimed = sent.claimed(&signer.at, &Expectation::healthlake(REGION)).unwrap();
    let printed = format!("{claimed:?} {SECRET:?} {}", sent.with(|head| format!("{head:?}")));
    for secret in [signer.secret, "a-token", signature.as_str()] {
        assert!(!printed.contains(secret), "{printed}");
    }
}
