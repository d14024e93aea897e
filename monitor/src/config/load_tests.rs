//! Table tests of the configuration: what is accepted, and what an error says.

use super::*;

fn check(text: &str) -> Result<Config, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let source = Source { file: Some(file.path().to_owned()) };
    load(&source, &Overrides::default())
        .map_err(|error| error.to_string().replace(&file.path().display().to_string(), "FILE"))
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(check("").unwrap(), Config::default());
    let config = Config::default();
    assert_eq!(config.metrics.listen.to_string(), "127.0.0.1:9465");
    assert_eq!(config.control.socket.to_str(), Some("/run/weir/weir.sock"));
    assert_eq!(config.state.dir.to_str(), Some("/var/lib/weir"));
}

#[test]
fn what_is_shown_can_be_read_again() {
    let shown = toml::to_string(&Config::default()).unwrap();
    assert_eq!(check(&shown).unwrap(), Config::default());
}

#[test]
fn every_section_is_read() {
    let config = check(
        r#"
        [metrics]
        listen = "[::1]:9000"
        [observe]
        ring_bytes = "32MiB"
        drain_interval = "10ms"
        tls = false
        exclude_exe = ["/usr/bin/curl"]
        [identity]
        headers = ["x-key"]
        query_keys = ["token"]
        cookies = ["sid"]
        trusted_proxies = ["10.0.0.0/8", "::1"]
        [[identity.name]]
        name = "acme"
        identity = "bearer:3f9c2a7be1d04c55"
        [route]
        patterns = ["/v1/users/{id}", "/files/{*path}"]
        [limits]
        identities = 1000
        [log]
        level = "info,monitor::bpf=debug"
        "#,
    )
    .unwrap();
    assert_eq!(config.observe.ring_bytes.0, 32 << 20);
    assert_eq!(config.observe.drain_interval.0.as_millis(), 10);
    assert_eq!(config.identity.name[0].name, "acme");
    assert_eq!(config.identity.trusted_proxies.len(), 2);
    assert_eq!(config.route.patterns.len(), 2);
    assert_eq!(config.limits.connections, 65_536);
}

#[test]
fn errors_name_place_key_and_way_out() {
    for (text, wanted) in [
        (
            "[metrics]\nlisten_ = \"127.0.0.1:1\"\n",
            "FILE:2: metrics.listen_: unknown key; did you mean `metrics.listen`?",
        ),
        ("[metric]\n", "FILE:1: metric: unknown key; did you mean `metrics`?"),
        ("\nzzz = 1\n", "FILE:2: zzz: unknown key; `weir config show` lists every key"),
        (
            "[[identity.name]]\nname=\"a\"\nidentity=\"bearer:1\"\nidentty=\"x\"\n",
            "FILE:4: identity.name.identty: unknown key",
        ),
        ("[metrics]\n\nlisten = 9465\n", "FILE:3: metrics.listen: invalid type: integer"),
        ("[metrics]\nlisten = \"localhost\"\n", "FILE:2: metrics.listen: "),
        ("[observe]\ntls = \"yes\"\n", "FILE:2: observe.tls: invalid type: string"),
        (
            "[observe]\nring_bytes = \"16 apples\"\n",
            "FILE:2: observe.ring_bytes: \"16 apples\" is not a size",
        ),
        ("[observe]\nring_bytes = 12\n", "FILE:2: observe.ring_bytes: 12 is outside 65536"),
        ("[observe]\ndrain_interval = \"2h\"\n", "FILE:2: observe.drain_interval: outside 1ms to 1s"),
        ("[identity]\nheaders = [\"a b\"]\n", "FILE:2: identity.headers: \"a b\" is not a name"),
        (
            "[identity]\ntrusted_proxies = [\"10.0.0.0/40\"]\n",
            "identity.trusted_proxies: \"10.0.0.0/40\" is not a network",
        ),
        ("[[identity.name]]\nname = \"bearer:x\"\nidentity = \"y\"\n", "identity.name: name \"bearer:x\""),
        ("[[identity.name]]\nname = \"x\"\n", "missing field `identity`"),
        ("[route]\npatterns = [\"/a/{b\"]\n", "route.patterns: \"/a/{b\" is not a route pattern"),
        ("[log]\nlevel = \"loud\"\n", "FILE:2: log.level: \"loud\" is not a log level"),
        ("[control]\nsocket = \"weir.sock\"\n", "FILE:2: control.socket: weir.sock is not an absolute path"),
        ("[limits]\nidentities = 3\n", "FILE:2: limits.identities: 3 is outside"),
        ("[metrics\n", "FILE:1: "),
        ("[[role]]\nnam = \"x\"\n", "FILE:2: role.nam: unknown key; did you mean `role.name`?"),
        ("[[role]]\naccess = [\"get /\"]\n", "role.access: \"get /\" has a method that is not in upper case"),
        ("[[cap]]\nname = \"x\"\n", "missing field `rate`"),
        ("[[cap]]\nname = \"x\"\nrate = \"5\"\n", "FILE:3: cap.rate: \"5\" is not a rate"),
        ("[[cap]]\nname = \"x\"\nrate = \"5/s\"\n", "FILE:1: cap: cap \"x\": needs exactly one of"),
        (
            "[[role]]\nname = \"partner\"\n[[cap]]\nname = \"x\"\nrate = \"5/s\"\nrole = \"partnr\"\n",
            "cap: cap \"x\": there is no role \"partnr\"; did you mean \"partner\"?",
        ),
        ("[[listener]]\nport = 1\n", "listener: a listener has a `port` and `respond = 429` or `guarded`"),
        ("[[listener]]\nport = 1\nguarded = \"some\"\n", "all"),
        ("[[listener]]\nport = 1\nguarded = [\"v1\"]\n", "`guarded` has a path"),
        ("[enforce]\non_exit = \"keep\"\nlease = \"10ms\"\n", "enforce.lease: a lease is at least 1 s"),
    ] {
        let error = check(text).unwrap_err();
        assert!(error.contains(wanted), "{text:?}\n  says   {error}\n  wanted {wanted}");
        assert!(error.contains("FILE"), "{text:?} says {error}");
    }
}

#[test]
fn all_unknown_keys_are_told_at_once() {
    let error = check("[metrics]\nlisen = 1\n[log]\nlvel = 2\n").unwrap_err();
    assert_eq!(error.lines().count(), 2, "{error}");
}

#[test]
fn a_missing_named_file_is_an_error() {
    let source = Source { file: Some("/nonexistent/weir.toml".into()) };
    let error = load(&source, &Overrides::default()).unwrap_err().to_string();
    assert!(error.starts_with("/nonexistent/weir.toml: cannot be read"), "{error}");
}

#[test]
fn later_files_win_and_lists_of_tables_grow() {
    let mut base: Table =
        toml::from_str("[log]\nlevel=\"warn\"\n[[identity.name]]\nname=\"a\"\nidentity=\"x\"").unwrap();
    let over: Table = toml::from_str(
        "[log]\nlevel=\"debug\"\n[identity]\nheaders=[\"h\"]\n[[identity.name]]\nname=\"b\"\nidentity=\"y\"",
    )
    .unwrap();
    merge(&mut base, over);
    let config = Config::deserialize(base).unwrap();
    assert_eq!(config.log.level.0, "debug");
    assert_eq!(config.identity.headers, ["h"]);
    assert_eq!(config.identity.name.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn flags_and_environment_come_last() {
    let overrides = Overrides {
        metrics_listen: Some("127.0.0.1:1".parse().unwrap()),
        control_socket: Some("/tmp/x".into()),
        state_dir: Some("/tmp/y".into()),
        log_level: Some("debug".parse().unwrap()),
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "[metrics]\nlisten = \"127.0.0.1:2\"\n").unwrap();
    let config = load(&Source { file: Some(file.path().to_owned()) }, &overrides).unwrap();
    assert_eq!(config.metrics.listen.port(), 1);
    assert_eq!(config.control.socket.to_str(), Some("/tmp/x"));
    assert_eq!(config.log.level.0, "debug");
}

#[test]
fn the_packaged_file_shows_every_key_with_its_default() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/weir.toml");
    let packaged = fs::read_to_string(path).unwrap();
    assert_eq!(check(&packaged).unwrap(), Config::default());
    let setting = |line: &str| {
        line.starts_with("[[") || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
    };
    let shown: Vec<_> = packaged
        .lines()
        .map(|line| line.strip_prefix('#').filter(|line| setting(line)).unwrap_or(line))
        .collect();
    let mut config = check(&shown.join("\n")).unwrap();
    assert_eq!(config.identity.name.len(), 1);
    config.identity.name.clear();
    assert_eq!((config.role.len(), config.cap.len(), config.listener.len()), (2, 5, 2));
    config.role.clear();
    config.cap.clear();
    config.listener.clear();
    assert_eq!(config, Config::default());
    for key in known().iter().filter(|key| key.contains('.')) {
        let leaf = key.rsplit('.').next().unwrap();
        assert!(shown.iter().any(|line| line.starts_with(&format!("{leaf} = "))), "{key} is not shown");
    }
}
