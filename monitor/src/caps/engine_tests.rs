use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use monitor_common::cap::{Bucket, BucketKey, PathValue, Rule, Subject, SubjectKey, VERDICTS};

use super::*;
use crate::sensor::{NetworkEntry, PathEntry};

/// Rules, subjects, accepted credentials, policy.
type InMemory = (HashMap<u16, Rule>, HashMap<SubjectKey, Subject>, HashSet<SubjectKey>, Policy);

/// Tables in memory, and the calls that changed them.
struct Fake {
    tables: Mutex<InMemory>,
    writes: AtomicU64,
    resets: Mutex<Vec<u16>>,
    buckets: Mutex<HashSet<BucketKey>>,
    needs: Mutex<Vec<Need>>,
    inherited: Mutex<Inherited>,
    names: Mutex<HashMap<u16, String>>,
    refuses: std::sync::atomic::AtomicBool,
    /// Writes that succeed before one fails.
    room: AtomicU64,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            tables: Mutex::default(),
            writes: AtomicU64::default(),
            resets: Mutex::default(),
            buckets: Mutex::default(),
            needs: Mutex::default(),
            inherited: Mutex::default(),
            names: Mutex::default(),
            refuses: false.into(),
            room: u64::MAX.into(),
        }
    }
}

impl Fake {
    fn wrote(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.refuses.load(Ordering::Relaxed), "the table is full");
        anyhow::ensure!(self.room.fetch_sub(1, Ordering::Relaxed) != 0, "the table is full");
        self.writes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl Enforcer for Fake {
    fn prepare(&self, need: Need) -> anyhow::Result<()> {
        self.needs.lock().unwrap().push(need);
        Ok(())
    }
    fn rule(&self, index: u16, rule: &Rule) -> anyhow::Result<()> {
        self.tables.lock().unwrap().0.insert(index, *rule);
        self.wrote()
    }
    fn text(&self, _index: u16, _text: &monitor_common::answer::Text) -> anyhow::Result<()> {
        self.wrote()
    }
    fn every(&self, _place: u32, _subject: &Subject) -> anyhow::Result<()> {
        self.wrote()
    }
    fn subject(&self, key: &SubjectKey, subject: Option<&Subject>) -> anyhow::Result<()> {
        let subjects = &mut self.tables.lock().unwrap().1;
        match subject {
            Some(subject) => subjects.insert(*key, *subject),
            None => subjects.remove(key),
        };
        self.wrote()
    }
    fn path(&self, _path: &PathEntry, _value: Option<PathValue>) -> anyhow::Result<()> {
        self.wrote()
    }
    fn network(&self, _network: &NetworkEntry, _subject: Option<&Subject>) -> anyhow::Result<()> {
        self.wrote()
    }
    fn proven(&self, change: &Proven) -> anyhow::Result<()> {
        let proven = &mut self.tables.lock().unwrap().2;
        match change {
            Proven::Credential(key, true) => drop(proven.insert(*key)),
            Proven::Credential(key, false) => drop(proven.remove(key)),
            Proven::End(..) | Proven::NoEnd(_) => {}
        }
        Ok(())
    }
    fn policy(&self, policy: &Policy) -> anyhow::Result<()> {
        self.tables.lock().unwrap().3 = *policy;
        Ok(())
    }
    fn inherited(&self) -> Inherited {
        self.inherited.lock().unwrap().clone()
    }
    fn name(&self, index: u16, name: &str) {
        self.names.lock().unwrap().insert(index, name.to_owned());
    }
    fn reset(&self, index: u16) -> anyhow::Result<()> {
        self.resets.lock().unwrap().push(index);
        Ok(())
    }
    fn reset_bucket(&self, key: &BucketKey) -> anyhow::Result<bool> {
        Ok(self.buckets.lock().unwrap().remove(key))
    }
    fn counts(&self, _index: u16) -> [u64; VERDICTS as usize] {
        [1, 2, 3, 4]
    }
    fn bucket(&self, _index: u16) -> Bucket {
        Bucket::default()
    }
    fn buckets(&self) -> Vec<(BucketKey, Bucket)> {
        self.buckets.lock().unwrap().iter().map(|key| (*key, Bucket::default())).collect()
    }
    fn now_ns(&self) -> u64 {
        1_000
    }
}

const NOW: u64 = 1_800_000_000;

/// A server has answered a caller with this credential, 0 for none.
fn seen(value: u64, good: bool, claim: Option<Accepted>) -> Acceptance {
    let mut presented = [(0, 0); 4];
    presented[0] = (value, u8::from(value != 0));
    let answered = crate::proof::Answered {
        end: monitor_common::cap::ServerKey { address: [0, 1], netns: 1, port: 80 },
        server: "unit:api.service root".into(),
        route: "GET /v1".into(),
        path: "/v1".into(),
        network: 1,
        presented,
        good,
    };
    Acceptance { answered: Some(answered), claim }
}

impl Fake {
    /// What is proven: fingerprint and server.
    fn proven(&self) -> Vec<(u64, u32)> {
        self.tables.lock().unwrap().2.iter().map(|key| (key.value, key.direction)).collect()
    }
}

struct World {
    engine: Engine,
    kernel: Arc<Fake>,
    config: Config,
    _dir: tempfile::TempDir,
}

fn settings() -> Settings {
    Settings {
        names: [("bearer:00000000000000ab".to_owned(), "acme".to_owned())].into(),
        ..Settings::default()
    }
}

fn world(text: &str) -> World {
    let dir = tempfile::tempdir().unwrap();
    let mut config: Config = toml::from_str(text).unwrap();
    config.state.dir = dir.path().to_owned();
    let mut engine = Engine::new(&config, &settings(), [0; 16]).unwrap();
    let kernel = Arc::new(Fake::default());
    engine.attach(kernel.clone()).unwrap();
    World { engine, kernel, config, _dir: dir }
}

fn cap(name: &str, rest: &str) -> Cap {
    toml::from_str(&format!("name = {name:?}\nrate = \"5/s\"\n{rest}")).unwrap()
}

const ONE: &str = "[[cap]]\nname = \"one\"\nidentity = \"acme\"\nrate = \"100/s\"\n";

#[test]
fn a_change_is_written_as_a_difference_and_kept_when_asked() {
    let World { mut engine, kernel, config, _dir } = world(ONE);
    assert_eq!(kernel.tables.lock().unwrap().1.len(), 1);
    assert_eq!(
        kernel.tables.lock().unwrap().3.flags,
        policy_flag::ON | policy_flag::GATE | policy_flag::DENIES | policy_flag::UNFRAMED_DENIED
    );
    assert!(kernel.needs.lock().unwrap().iter().all(|need| need.fences && !need.early));
    let before = kernel.writes.load(Ordering::Relaxed);
    let set = Change::Set { cap: cap("two", "identity = \"bearer:0000000000000001\""), persist: true };
    engine.change(&set).unwrap();
    assert_eq!(kernel.writes.load(Ordering::Relaxed) - before, 3, "a rule, its answer and a subject");
    assert_eq!(
        engine.rows().iter().map(|one| (&*one.row.name, &*one.row.source)).collect::<Vec<_>>(),
        [("one", "config"), ("two", "persisted")]
    );
    let again = Engine::new(&config, &settings(), [0; 16]).unwrap();
    assert_eq!(again.caps().len(), 2);
    engine.change(&Change::Remove { name: "two".into() }).unwrap();
    assert_eq!(Engine::new(&config, &settings(), [0; 16]).unwrap().caps().len(), 1);
    assert_eq!(kernel.tables.lock().unwrap().1.len(), 1);
}

#[test]
fn caps_are_switched_and_their_indices_stay() {
    let World { mut engine, kernel, config, _dir } = world(ONE);
    let on = || kernel.tables.lock().unwrap().0[&0].on;
    engine.change(&Change::Enable { name: "one".into(), on: false, persist: false }).unwrap();
    assert_eq!((on(), kernel.tables.lock().unwrap().3.flags), (0, 0));
    engine.change(&Change::Enable { name: "one".into(), on: true, persist: true }).unwrap();
    engine.change(&Change::Action { name: "one".into(), action: Action::Shadow, persist: true }).unwrap();
    assert_eq!((on(), kernel.tables.lock().unwrap().0[&0].action), (1, 1));
    engine.change(&Change::Set { cap: cap("a", "each = \"client\""), persist: false }).unwrap();
    assert_eq!(engine.caps().iter().map(|one| one.index).collect::<Vec<_>>(), [1, 0]);
    let resets = kernel.resets.lock().unwrap().len();
    engine.change(&Change::Reset { name: "one".into(), identity: None }).unwrap();
    assert_eq!(kernel.resets.lock().unwrap()[resets..], [0]);
    let again = Engine::new(&config, &settings(), [0; 16]).unwrap();
    assert_eq!(again.caps()[0].cap.action, Action::Shadow);
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let World { mut engine, kernel, .. } = world(ONE);
    let before = kernel.writes.load(Ordering::Relaxed);
    for (change, why) in [
        (Change::Set { cap: cap("one", "identity = \"x\""), persist: false }, "is in the configuration"),
        (Change::Set { cap: cap("two", ""), persist: false }, "exactly one of"),
        (Change::Set { cap: cap("two", "role = \"nobody\""), persist: false }, "no role"),
        (Change::Remove { name: "one".into() }, "is in the configuration"),
        (Change::Remove { name: "two".into() }, "there is no cap"),
        (Change::Reset { name: "two".into(), identity: None }, "there is no cap"),
    ] {
        let error = engine.change(&change).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    assert_eq!(kernel.writes.load(Ordering::Relaxed), before);
    kernel.refuses.store(true, Ordering::Relaxed);
    let set = Change::Set { cap: cap("two", "identity = \"bearer:0000000000000001\""), persist: true };
    assert!(engine.change(&set).unwrap_err().contains("the table is full"));
    assert_eq!(engine.caps().len(), 1);
}

#[test]
fn accepted_credentials_join_what_they_claim() {
    let text = "[[role]]\nname = \"staff\"\nkind = \"jwt\"\n[[cap]]\nname = \"one\"\nrole = \"staff\"\nrate = \"1/s\"\n\
                [[cap]]\nname = \"each\"\neach = \"credential\"\nrate = \"1/s\"\n";
    let World { mut engine, kernel, .. } = world(text);
    let key = SubjectKey { value: 9, kind: 1, direction: 1 };
    let alice = Accepted {
        key,
        identity: "jwt:alice@idp".into(),
        kind: "jwt".into(),
        issuer: "idp".into(),
        subject: "alice".into(),
    };
    // where nothing is guarded a claim is worth nothing
    engine.answered(vec![seen(9, true, Some(alice.clone()))], NOW);
    assert!(kernel.tables.lock().unwrap().1.is_empty());
    engine.answered(vec![seen(0, false, None), seen(9, true, Some(alice))], NOW);
    assert_eq!(kernel.tables.lock().unwrap().1.get(&key).map(|subject| subject.rules[0]), Some(2));
    assert_eq!(kernel.proven(), [(9, 16)]);
    let rows = engine.explain("jwt:alice@idp");
    assert_eq!(rows.iter().map(|row| &*row.cap).collect::<Vec<_>>(), ["each", "one"]);
    assert!(rows[1].decided.contains("is proven"), "{rows:?}");
    // a claim that is known is nobody's before it is proven
    engine.answered(vec![seen(9, false, None)], NOW);
    assert!(kernel.proven().is_empty());
}

#[test]
fn a_restart_forgets_nobody() {
    let World { mut engine, config, _dir, .. } = world(ONE);
    engine.answered(vec![seen(0, false, None), seen(9, true, None)], NOW);
    let (file, text) = engine.take_proofs().unwrap();
    file.write(&text).unwrap();
    assert!(engine.take_proofs().is_none());
    let kernel = Arc::new(Fake::default());
    *kernel.inherited.lock().unwrap() = Inherited {
        accepted: [SubjectKey { value: 7, kind: 1, direction: 16 }].into(),
        ..Inherited::default()
    };
    kernel.tables.lock().unwrap().2.insert(SubjectKey { value: 7, kind: 1, direction: 16 });
    let mut again = Engine::new(&config, &settings(), [0; 16]).unwrap();
    again.attach(kernel.clone()).unwrap();
    // nothing asks yet: what was proven before and is not any more has gone
    assert!(kernel.proven().is_empty());
    again.change(&Change::Set { cap: cap("each", "each = \"credential\""), persist: false }).unwrap();
    assert_eq!(kernel.proven(), [(9, 16)]);
}

#[test]
fn a_cap_cannot_be_in_the_configuration_and_set_at_run_time() {
    let World { mut engine, mut config, _dir, .. } = world("");
    engine.change(&Change::Set { cap: cap("one", "each = \"client\""), persist: true }).unwrap();
    config.cap = vec![cap("one", "each = \"client\"")];
    assert!(engine.configure(&config, &settings()).unwrap_err().contains("set at run time"));
    assert!(Engine::new(&config, &settings(), [0; 16]).is_err());
}

#[test]
fn another_cap_at_the_same_index_begins_anew() {
    let World { mut engine, kernel, mut config, _dir } = world(ONE);
    let resets = kernel.resets.lock().unwrap().len();
    config.cap = vec![cap("other", "identity = \"acme\"")];
    engine.configure(&config, &settings()).unwrap();
    let index = engine.caps()[0].index;
    assert_eq!(kernel.resets.lock().unwrap()[resets..], [index]);
    assert_eq!((index, kernel.tables.lock().unwrap().0[&0]), (1, Rule::default()));
}

#[test]
fn a_change_that_fails_half_way_leaves_nothing_behind() {
    let World { mut engine, kernel, .. } = world(ONE);
    let before = kernel.tables.lock().unwrap().1.clone();
    let rule = kernel.tables.lock().unwrap().0.get(&1).copied().unwrap_or_default();
    // the rule still fits, its subject does not
    kernel.room.store(1, Ordering::Relaxed);
    let set = Change::Set { cap: cap("two", "identity = \"bearer:0000000000000001\""), persist: false };
    assert!(engine.change(&set).unwrap_err().contains("the table is full"));
    let tables = kernel.tables.lock().unwrap();
    assert_eq!(tables.0.get(&1).copied().unwrap_or_default(), rule);
    assert_eq!(tables.1, before);
}

#[test]
fn setting_a_cap_anew_ends_earlier_changes_of_it() {
    let World { mut engine, .. } = world("");
    let set = Change::Set { cap: cap("two", "each = \"client\""), persist: false };
    engine.change(&set).unwrap();
    engine.change(&Change::Action { name: "two".into(), action: Action::Shadow, persist: false }).unwrap();
    engine.change(&Change::Enable { name: "two".into(), on: false, persist: false }).unwrap();
    engine.change(&set).unwrap();
    assert_eq!((engine.caps()[0].cap.action, engine.caps()[0].on), (Action::Deny, true));
}

#[test]
fn what_is_not_to_be_kept_is_gone_after_a_restart() {
    let World { mut engine, config, _dir, .. } = world(ONE);
    let action = |action, persist| Change::Action { name: "one".into(), action, persist };
    engine.change(&action(Action::Shadow, true)).unwrap();
    engine.change(&action(Action::Deny, false)).unwrap();
    engine.change(&Change::Enable { name: "one".into(), on: false, persist: false }).unwrap();
    let kept = cap("two", "each = \"client\"");
    let mut passing = kept.clone();
    passing.rate = "9/s".parse().unwrap();
    engine.change(&Change::Set { cap: kept.clone(), persist: true }).unwrap();
    engine.change(&Change::Set { cap: passing, persist: false }).unwrap();
    assert_eq!((engine.caps()[0].cap.action, engine.caps()[0].on), (Action::Deny, false));
    let again = Engine::new(&config, &settings(), [0; 16]).unwrap().caps();
    assert_eq!((again[0].cap.action, again[0].on), (Action::Shadow, true));
    assert_eq!(again[1].cap, kept);
}

#[test]
fn acceptance_is_remembered_for_caps_that_come_later() {
    let World { mut engine, kernel, .. } = world(ONE);
    engine.answered(vec![seen(0, false, None), seen(9, true, None)], NOW);
    assert!(kernel.proven().is_empty());
    engine.change(&Change::Set { cap: cap("each", "each = \"credential\""), persist: false }).unwrap();
    assert_eq!(kernel.proven(), [(9, 16)]);
    engine.answered(vec![seen(9, false, None)], NOW);
    assert!(kernel.proven().is_empty());
}

#[test]
fn a_change_among_ten_thousand_named_members_writes_three_entries() {
    let mut settings = settings();
    let names = (0..10_000u64).map(|n| (format!("bearer:{n:016x}"), format!("partner-{n}")));
    settings.names = names.collect();
    let members: Vec<_> = settings.names.values().map(|name| format!("{name:?}")).collect();
    let mut config: Config = toml::from_str(&format!(
        "[[role]]\nname = \"all\"\nidentities = [{}]\n[[cap]]\nname = \"one\"\nrole = \"all\"\nrate = \"1/s\"\n",
        members.join(",")
    )).unwrap();
    let dir = tempfile::tempdir().unwrap();
    config.state.dir = dir.path().to_owned();
    let mut engine = Engine::new(&config, &settings, [0; 16]).unwrap();
    let kernel = Arc::new(Fake::default());
    engine.attach(kernel.clone()).unwrap();
    let before = kernel.writes.load(Ordering::Relaxed);
    engine.change(&Change::Set { cap: cap("two", "identity = \"partner-7\""), persist: false }).unwrap();
    assert_eq!(kernel.writes.load(Ordering::Relaxed) - before, 3);
}

#[test]
fn one_bucket_of_many_is_reset_by_any_name_of_its_owner() {
    let text = format!("{ONE}[[cap]]\nname = \"each\"\neach = \"credential\"\nrate = \"1/s\"\n");
    let World { mut engine, kernel, .. } = world(&text);
    let rule = engine.index("each").unwrap().into();
    let bucket = |kind, value| BucketKey { subject: SubjectKey { value, kind, direction: 1 }, rule, pad: 0 };
    let address = u64::from_ne_bytes([0, 0, 0xff, 0xff, 10, 0, 0, 7]);
    let client = monitor_common::cap::client_key([0, address]);
    let all = [bucket(1, 0xab), bucket(1, 9), bucket(0, client), bucket(0, 0xdead), bucket(1, 7)];
    *kernel.buckets.lock().unwrap() = all.into();
    let key = SubjectKey { value: 9, kind: 1, direction: 1 };
    let alice = Accepted {
        key,
        identity: "jwt:alice@idp".into(),
        kind: "jwt".into(),
        issuer: "idp".into(),
        subject: "alice".into(),
    };
    engine.answered(vec![seen(0, false, None), seen(9, true, Some(alice))], NOW);
    let resets = kernel.resets.lock().unwrap().len();
    let mut reset = |name: &str, identity: &str| {
        engine.change(&Change::Reset { name: name.into(), identity: Some(identity.into()) })
    };
    for identity in ["acme", "jwt:alice@idp", "client:10.0.0.7", "client:000000000000dead"] {
        reset("each", identity).unwrap();
        assert!(reset("each", identity).unwrap_err().contains("has no bucket"), "{identity}");
    }
    assert_eq!(*kernel.buckets.lock().unwrap(), [bucket(1, 7)].into());
    assert!(reset("one", "acme").unwrap_err().contains("one bucket"));
    assert!(reset("none", "acme").unwrap_err().contains("there is no cap"));
    assert_eq!(kernel.resets.lock().unwrap().len(), resets, "the cap itself is not reset");
    let old: Change = serde_json::from_str(r#"{"change":"reset","name":"each"}"#).unwrap();
    assert_eq!(old, Change::Reset { name: "each".into(), identity: None });
}

#[test]
fn a_cap_goes_on_with_the_bucket_that_an_earlier_daemon_kept() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("{ONE}[[cap]]\nname = \"two\"\nidentity = \"acme\"\nrate = \"1/s\"\n");
    let mut config: Config = toml::from_str(&text).unwrap();
    config.state.dir = dir.path().to_owned();
    config.enforce = Enforce { on_exit: OnExit::Keep, ..Enforce::default() };
    let mut engine = Engine::new(&config, &settings(), [0; 16]).unwrap();
    let key = SubjectKey { value: 9, kind: 1, direction: 1 };
    let kernel = Fake::default();
    *kernel.inherited.lock().unwrap() =
        Inherited { caps: [("two".into(), 7), ("gone".into(), 0)].into(), accepted: [key].into() };
    let kernel = Arc::new(kernel);
    engine.attach(kernel.clone()).unwrap();
    let index = |name: &str| engine.caps().iter().find(|one| one.cap.name == name).map(|one| one.index);
    assert_eq!((index("one"), index("two")), (Some(1), Some(7)));
    // the new one begins anew, the one that is gone leaves nothing
    assert_eq!(*kernel.resets.lock().unwrap(), [1, 0]);
    assert_eq!(*kernel.names.lock().unwrap(), [(0, String::new()), (1, "one".to_owned())].into());
    assert_eq!(kernel.tables.lock().unwrap().3.lease_ns, 30_000_000_000);
    // names do not outlive their caps
    engine.change(&Change::Set { cap: cap("three", "each = \"client\""), persist: false }).unwrap();
    engine.change(&Change::Remove { name: "three".into() }).unwrap();
    assert_eq!(kernel.names.lock().unwrap().values().filter(|name| *name == "three").count(), 0);
}
