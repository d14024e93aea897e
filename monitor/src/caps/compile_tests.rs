use monitor_common::http1::method;
use proptest::prelude::*;

use super::*;
use crate::config::Config;
use crate::sensor::network_key;

fn config(text: &str) -> Config {
    toml::from_str(text).unwrap()
}

fn resolver() -> Resolver {
    Resolver {
        names: [("acme".to_owned(), vec!["bearer:00000000000000ab".to_owned()])].into(),
        headers: vec!["authorization".into(), "x-api-key".into()],
        ..Resolver::default()
    }
}

fn tables(text: &str, accepted: &[Accepted]) -> Result<Tables, String> {
    let config = config(text);
    let caps: Vec<_> = (0u16..).zip(&config.cap).map(|(index, cap)| (index, cap, true)).collect();
    let proxies = ["10.9.0.0/16".parse().unwrap()];
    compile(&Inputs {
        roles: &config.role,
        caps: &caps,
        enforce: &config.enforce,
        proxies: &proxies,
        resolver: &resolver(),
        accepted,
        key: [1, 2],
    })
}

fn key(value: u64, kind: u32, direction: u32) -> SubjectKey {
    SubjectKey { value, kind, direction }
}

const PARTNER: &str = r#"
[[role]]
name = "partner"
identities = ["acme", "api_key:00000000000000cd"]
access = ["GET /v1/", "POST /v1/orders"]
[[cap]]
name = "fast"
role = "partner"
route = "/v1/"
rate = "100/s"
burst = 20
"#;

#[test]
fn the_members_of_a_role_share_a_rule() {
    let tables = tables(PARTNER, &[]).unwrap();
    let rule = tables.rules[&0];
    assert_eq!((rule.limit.interval_ns, rule.limit.burst()), (10_000_000, 20));
    assert_eq!((rule.scope, rule.action, rule.on, rule.route), (scope::ONE, 2, 1, 1));
    let subject = Subject { rules: [1, 0, 0, 0, 0, 0, 0, 0], access: 1, flags: 0 };
    assert_eq!(tables.subjects[&key(0xab, 1, 1)], subject);
    assert_eq!(tables.subjects[&key(0xcd, 9, 1)], subject);
    assert_eq!(tables.subjects[&key(0xcd, 1, 1)], subject);
    assert!(tables.denies);
    let gate = policy_flag::GATE | policy_flag::LEVELS | policy_flag::DENIES;
    assert_eq!(tables.flags, policy_flag::ON | policy_flag::ROUTES | policy_flag::PATHS | gate);
    let get = 1 << method::GET | 1 << method::HEAD;
    assert_eq!(tables.paths[&(1, b"/v1/".to_vec())], get);
    for key in ["/v1/orders\0", "/v1/orders/"] {
        assert_eq!(tables.paths[&(1, key.into())], get | 1 << method::POST);
    }
    assert_eq!(tables.paths.len(), 3 + 1);
    assert_eq!(tables.paths[&(space::ROUTES, b"/v1/".to_vec())], 1);
}

#[test]
fn nothing_configured_is_nothing_to_decide() {
    let tables = tables("[enforce]\nexempt = [\"/healthz\", \"127.0.0.1\"]", &[]).unwrap();
    assert_eq!(tables.flags, 0);
}

#[test]
fn claims_are_members_once_accepted() {
    let text = r#"
[[role]]
name = "staff"
kind = "jwt"
issuer = "https://idp.*"
[[cap]]
name = "staff"
role = "staff"
rate = "10/s"
"#;
    assert!(tables(text, &[]).unwrap().subjects.is_empty());
    let one = |issuer: &str, value| Accepted {
        key: key(value, 1, 1),
        identity: format!("jwt:a@{issuer}"),
        kind: "jwt".into(),
        issuer: issuer.into(),
        subject: "a".into(),
    };
    let tables = tables(text, &[one("https://idp.example", 7), one("https://other", 8)]).unwrap();
    assert_eq!(tables.subjects.keys().collect::<Vec<_>>(), [&key(7, 1, 1)]);
}

#[test]
fn what_is_known_by_a_public_name_has_to_be_proven() {
    let text = r#"
[[cap]]
name = "alice"
identity = "jwt:alice@idp"
rate = "10/s"
[[cap]]
name = "cloud"
identity = "aws:00000000000000ef"
rate = "10/s"
[[cap]]
name = "partner"
identity = "acme"
rate = "10/s"
strangers = { rate = "20/s", burst = 3 }
"#;
    let alice = |value| Accepted {
        key: key(value, 1, 1),
        identity: "jwt:alice@idp".into(),
        kind: "jwt".into(),
        issuer: "idp".into(),
        subject: "alice".into(),
    };
    let of = tables(text, &[alice(7)]).unwrap();
    let flags = |key| of.subjects[&key].flags;
    assert_eq!(flags(key(7, 1, 1)), subject_flag::CLAIMED);
    assert_eq!(flags(key(0xef, 2, 1)), subject_flag::CLAIMED);
    assert_eq!(flags(key(0xab, 1, 1)), 0);
    assert!(of.flags & policy_flag::PROVEN != 0);
    assert_eq!(of.rules[&0].strangers.burst(), 10);
    assert_eq!(of.rules[&2].strangers.burst(), 3);
    // a secret stays one, whatever else it claims
    let of = tables(&text.replace("jwt:alice@idp", "jwt:0000000000000007"), &[alice(7)]).unwrap();
    assert_eq!(of.subjects[&key(7, 1, 1)].flags, 0);
    let secrets = text.replace("aws:", "bearer:").replace("jwt:alice@idp", "acme");
    assert_eq!(tables(&secrets, &[]).unwrap().flags & policy_flag::PROVEN, 0);
}

#[test]
fn exceptions_are_listed_with_those_who_are_left_alone() {
    let text = r#"
[[role]]
name = "partner"
identities = ["acme"]
networks = ["10.0.0.0/8"]
[[cap]]
name = "clients"
each = "client"
except = ["role:partner"]
rate = "10/s"
"#;
    let of = tables(text, &[]).unwrap();
    assert_eq!(of.every[1].rules[0], 1);
    assert_eq!(of.subjects[&key(0xab, 1, 1)].rules[0], 1 | EXCEPT);
    assert_eq!(of.networks[&(1, "10.0.0.0/8".parse().unwrap())].rules[0], 1 | EXCEPT);
    let nobody = tables(&text.replace("role:partner", "role:nobody"), &[]).unwrap_err();
    assert!(nobody.contains("there is no role \"nobody\""), "{nobody}");
}

#[test]
fn every_and_networks_and_exemptions() {
    let text = r#"
[[role]]
name = "office"
networks = ["10.0.0.0/8"]
[[cap]]
name = "each"
each = "credential"
rate = "10/s"
[[cap]]
name = "clients"
each = "client"
rate = "10/s"
action = "shadow"
[[cap]]
name = "office"
role = "office"
rate = "10/s"
[[cap]]
name = "bill"
workload = "exe:/proc/self/exe"
host = "API.example.com"
rate = "10/m"
[enforce]
exempt = ["10.1.0.0/16", "acme", "/healthz"]
"#;
    let tables = tables(text, &[]).unwrap();
    assert_eq!(tables.every[0].rules[0], 1);
    assert_eq!(tables.every[1].rules[0], 2);
    let network = |text: &str| tables.networks[&(1, text.parse().unwrap())];
    assert_eq!((network("10.0.0.0/8").rules[0], network("10.0.0.0/8").flags), (3, 0));
    assert_eq!((network("10.1.0.0/16").rules[0], network("10.1.0.0/16").flags), (3, subject_flag::EXEMPT));
    assert_eq!(network("10.9.0.0/16").flags, subject_flag::PROXY);
    assert_eq!(tables.subjects[&key(0xab, 1, 1)].flags, subject_flag::EXEMPT);
    assert_eq!(tables.rules[&3].host, siphash::host([1, 2], b"api.example.com"));
    let workload = tables.subjects.iter().find(|(_, subject)| subject.rules[0] == 4).unwrap();
    assert_eq!((workload.0.kind, workload.0.direction), (cap::subject::EXECUTABLE, 2));
    for flag in [
        policy_flag::EACH,
        policy_flag::NETWORKS,
        policy_flag::EARLY,
        policy_flag::HOSTS,
        policy_flag::WORKLOADS,
    ] {
        assert!(tables.flags & flag != 0, "{flag}");
    }
    let key = network_key(&(1, "10.0.0.0/8".parse().unwrap()));
    assert_eq!((key.bits, &key.address[10..13]), (32 + 96 + 8, &[0xff, 0xff, 10][..]));
}

#[test]
fn what_does_not_fit_is_an_error_that_names_it() {
    let caps: Vec<_> =
        (0..9).map(|n| format!("[[cap]]\nname = \"c{n}\"\nidentity = \"acme\"\nrate = \"1/s\"\n")).collect();
    let error = tables(&caps.concat(), &[]).unwrap_err();
    assert!(error.contains("c0, c1") && error.contains("c8"), "{error}");
    let roles: Vec<_> = (0..2)
        .map(|n| format!("[[role]]\nname = \"r{n}\"\nidentities = [\"acme\"]\naccess = [\"GET /\"]\n"))
        .collect();
    assert!(tables(&roles.concat(), &[]).unwrap_err().contains("two roles"));
}

#[test]
fn patterns() {
    for (pattern, text, want) in [
        ("*", "", true),
        ("a*c", "abc", true),
        ("a*c", "abcd", false),
        ("*b*", "abc", true),
        ("abc", "abc", true),
        ("abc", "ab", false),
        ("https://*.example.com", "https://a.example.com", true),
        ("*\u{e9}", "caf\u{e9}", true),
    ] {
        assert_eq!(matches(pattern, text), want, "{pattern} {text}");
    }
}

proptest! {
    /// The longest prefix in the trie says what all prefixes say together.
    #[test]
    fn the_longest_prefix_speaks_for_all(
        routes in proptest::collection::btree_set("/[ab]{0,2}(/[ab]{0,2})?", 1..10), path in "/[abAB]{0,3}(/[ab]{0,3}){0,2}",
    ) {
        let caps: Vec<_> = routes.iter().enumerate()
            .map(|(n, route)| format!("[[cap]]\nname = \"c{n}\"\nidentity = \"acme{n}\"\nroute = {route:?}\nrate = \"1/s\"\n"))
            .collect();
        let tables = tables(&caps.concat(), &[]).unwrap();
        let path = path.to_ascii_lowercase();
        let reading = format!("{path}\0");
        let longest = tables.paths.iter()
            .filter(|((space, key), _)| *space == cap::space::ROUTES && reading.as_bytes().starts_with(key))
            .max_by_key(|((_, prefix), _)| prefix.len())
            .map_or(0, |(_, value)| *value);
        for (n, route) in routes.iter().enumerate() {
            let bit = tables.rules[&(n as u16)].route - 1;
            let under = monitor_common::path::is_under(path.as_bytes(), route.as_bytes());
            prop_assert_eq!(longest >> bit & 1 == 1, under, "{} {}", route, path);
        }
    }
}
