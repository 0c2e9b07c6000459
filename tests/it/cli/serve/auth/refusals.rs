//! What is wrong with the tables of authentication is told at the start, with its place and without a secret.

use std::fs;

use super::super::client::config;
use super::{SECRETS, data_store, policy, two_keys};
use crate::cli::program::{command, end};

const SMART: &str = "[auth.smart]\nissuer = 'https://issuer.example'\nkeys = 'https://issuer.example/jwks.json'\n";

/// Starts with a file that mustn't be taken, and gives what is said.
fn refusal(folder: &std::path::Path, text: &str) -> String {
    let file = config(folder, text);
    let ended = end(command(&["serve", "--config", &file]).envs(SECRETS).env("EMPTY_SECRET", ""));
    ended.assert_exit(2);
    ended.stderr
}

#[test]
fn every_fault_of_the_tables_is_told_with_its_place_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let keys = two_keys(folder.path());
    fs::write(folder.path().join("bad.json"), "{\"Statement\": [{\"Effect\": \"Maybe\"}]}").unwrap();
    policy(folder.path(), "empty.json", &serde_json::json!([]));
    let with = |old: &str, new: &str| {
        assert!(keys.contains(old), "{old}");
        keys.replacen(old, new, 1) + &data_store()
    };
    let smart = |old: &str, new: &str| {
        assert!(SMART.contains(old), "{old}");
        SMART.replacen(old, new, 1) + &data_store()
    };
    let secret = "'${NIGHTLY_SECRET}'";
    let principal = "'arn:aws:iam::111122223333:user/nightly'";
    #[rustfmt::skip]
    let rows = [
        (with(secret, "'${NO_SUCH_SECRET}'"), "serve.toml:6: secret: the environment variable NO_SUCH_SECRET isn't set"),
        (with(secret, "'${EMPTY_SECRET}'"), "serve.toml:6: secret: the environment variable EMPTY_SECRET is empty"),
        (with(secret, "''"), "serve.toml:6: secret: it is empty"),
        (with(secret, "424242424242"), "serve.toml:6: secret: it must be a text in quotes"),
        (with(secret, "'${LOOKER_SECRET}'\nsession_token = '${NO_SUCH_TOKEN}'"), "serve.toml:7: session_token: the environment variable NO_SUCH_TOKEN isn't set"),
        (with(secret, "'${LOOKER_SECRET}'\nexpires = 'soon'"), "serve.toml:7: expires \"soon\" isn't an instant"),
        (with("id = 'NIGHTLY'", "id = ''"), "serve.toml:5: id: it is empty"),
        (with("id = 'LOOKER'", "id = 'NIGHTLY'"), "serve.toml:10: id \"NIGHTLY\" is there twice"),
        (with(principal, "'nightly'"), "serve.toml:7: principal: a principal is an ARN with an account"),
        (with(principal, "'arn:aws:iam::111122223333:user/*'"), "serve.toml:7: principal: a principal is an ARN with an account"),
        (with("all.json", "none.json"), "none.json can't be read: No such file"),
        (with("all.json", "bad.json"), "bad.json: statement 1: Effect"),
        (with("all.json", "empty.json"), "empty.json: the policy: Statement"),
        (with("principal", "principle"), "serve.toml:7: unknown field `principle`"),
        ("[auth]\n".to_owned() + &data_store(), "serve.toml:1: [auth] names nobody"),
        ("\n[auth]\nkeys = []\n".to_owned() + &data_store(), "serve.toml:2: [auth] names nobody"),
        (smart("https://issuer.example/jwks", "http://issuer.example/jwks"), "serve.toml:3: keys: the URL of the keys isn't https"),
        (smart("https://issuer.example/jwks", "http://127.0.0.1.issuer.example/jwks"), "serve.toml:3: keys: the URL of the keys isn't https"),
        (smart("https://issuer.example/jwks", "ftp://issuer.example/jwks"), "serve.toml:3: keys: the URL of the keys isn't https"),
        (smart("https://issuer.example/jwks", "https://me:geheim@issuer.example/jwks"), "serve.toml:3: keys: the URL of the keys has a name or a password in it"),
        (smart("keys", "algorithms = ['ES384', 'HS256']\nkeys"), "serve.toml:3: algorithms \"HS256\" isn't an algorithm of tokens that is taken"),
        (smart("keys", "algorithms = ['none']\nkeys"), "serve.toml:3: algorithms \"none\" isn't an algorithm of tokens that is taken"),
        (smart("keys", "algorithms = []\nkeys"), "serve.toml:3: algorithms: there is none"),
        (smart("keys", "audiences = ['']\nkeys"), "serve.toml:3: issuer, audiences: tokens need an issuer and an audience"),
        (smart("keys", "token_endpoint = 'http://issuer.example/token'\nkeys"), "serve.toml:3: token_endpoint \"http://issuer.example/token\" isn't a URL for secrets"),
        (smart("keys", "token_endpoint = 'http://localhost.issuer.example/token'\nkeys"), "serve.toml:3: token_endpoint \"http://localhost.issuer.example/token\""),
        (smart("'https://issuer.example'", "''"), "serve.toml:2: issuer: tokens need an issuer and an audience"),
        (with("[[auth.keys]]", "[limits]\nhead_bytes = 8191\n[[auth.keys]]"), "serve.toml:5: head_bytes \"8191\" is too small"),
        (with("[[auth.keys]]", "[outputs]\nallow = ['file:///etc']\n[[auth.keys]]"), "serve.toml:5: allow \"file:///etc\""),
    ];
    for (text, said) in rows {
        let told = refusal(folder.path(), &text);
        assert!(told.contains(said), "{said}:\n{told}");
        for secret in [SECRETS[0].1, SECRETS[1].1, "geheim", "424242424242"] {
            assert!(!told.contains(secret), "{told}");
        }
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let text = two_keys(folder.path()).replace("NIGHTLY_SECRET", "NO_SUCH_A").replace("LOOKER_SECRET", "NO_SUCH_B");
    let told = refusal(
        folder.path(),
        &(text + &SMART.replace("https://issuer.example/", "http://issuer.example/") + &data_store()),
    );
    for said in ["serve.toml:6: secret: ", "serve.toml:11: secret: ", "serve.toml:16: keys: "] {
        assert!(told.contains(said), "{said}:\n{told}");
    }
}

#[test]
fn other_machines_are_let_in_with_authentication_and_tls_only() {
    let folder = tempfile::tempdir().unwrap();
    let outside = |text: String| text.replacen("127.0.0.1:0", "192.0.2.1:8443", 1);
    let open = refusal(folder.path(), &outside(format!("listen = '127.0.0.1:0'\n{}", data_store())));
    assert!(open.contains("serve.toml:1: listen \"192.0.2.1:8443\" isn't on this machine alone"), "{open}");
    let clear = refusal(folder.path(), &outside(two_keys(folder.path()) + &data_store()));
    assert!(
        clear.contains("serve.toml:1: listen \"192.0.2.1:8443\" would take tokens and data in the clear"),
        "{clear}"
    );
    let plain = outside(format!("public_url = 'http://fhir.example.org'\n{}{}", two_keys(folder.path()), data_store()));
    assert!(refusal(folder.path(), &plain).contains("in the clear"));
}
