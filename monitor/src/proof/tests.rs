use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_800_000_000;
const API: &str = "unit:api.service www-data";
const BEARER: u8 = cred::AUTHORIZATION;

fn end(port: u32) -> ServerKey {
    ServerKey { address: [0, 7], netns: 1, port }
}

fn answered(server: &str, credentials: &[u64], good: bool) -> Answered {
    let mut presented = [(0, 0); 4];
    for (to, value) in presented.iter_mut().zip(credentials) {
        *to = (*value, BEARER);
    }
    Answered {
        end: end(80),
        server: server.into(),
        route: "GET /v1/{id}".into(),
        path: "/v1/7".into(),
        network: 1,
        presented,
        good,
    }
}

fn has(proofs: &Proofs, value: u64) -> bool {
    proofs.proven().any(|key| key.value == value)
}

/// A server whose route has refused somebody.
fn guarded() -> Proofs {
    let mut proofs = Proofs::default();
    proofs.answered(&answered(API, &[], false), NOW);
    proofs
}

#[test]
fn a_public_page_proves_nothing() {
    let mut proofs = Proofs::default();
    proofs.answered(&answered(API, &[5], true), NOW);
    assert!(!has(&proofs, 5));
    // a route that is open to those without a credential stays so, whatever it refuses
    proofs.answered(&answered(API, &[], true), NOW);
    proofs.answered(&answered(API, &[6], false), NOW + 1);
    proofs.answered(&answered(API, &[5], true), NOW + 2);
    assert!(!has(&proofs, 5));
    // for a week
    proofs.answered(&answered(API, &[5], true), NOW + MEMORY + 1);
    assert!(has(&proofs, 5));
}

#[test]
fn a_guarded_route_proves_at_its_server_only() {
    let mut proofs = guarded();
    let generation = proofs.generation();
    let (changes, good) = proofs.answered(&answered(API, &[5], true), NOW);
    let key = SubjectKey { value: 5, kind: 1, direction: FIRST };
    assert_eq!((changes, good), (vec![Change::Credential(key, true)], true));
    assert_eq!(proofs.generation(), generation);
    // another route, and another server, have refused nobody
    let mut elsewhere = answered(API, &[6], true);
    elsewhere.route = "GET /public".into();
    proofs.answered(&elsewhere, NOW);
    let mut other = answered("exe:/usr/bin/python3 nobody", &[7], true);
    other.end = end(81);
    assert_eq!(
        proofs.answered(&other, NOW).0,
        [Change::End(end(81), At { number: FIRST + 1, owner: owner("x nobody") })]
    );
    assert!(!has(&proofs, 6) && !has(&proofs, 7));
    // its user takes the port over: what was proven there is not
    let taken = proofs.answered(&answered("exe:/usr/bin/python3 nobody", &[5], true), NOW).0;
    assert_eq!(taken, [Change::End(end(80), At { number: FIRST + 1, owner: owner("x nobody") })]);
}

#[test]
fn beside_a_proven_credential_nothing_is_proven() {
    let mut proofs = guarded();
    proofs.answered(&answered(API, &[5], true), NOW);
    let (changes, good) = proofs.answered(&answered(API, &[6, 5], true), NOW);
    assert!(changes.is_empty() && good && !has(&proofs, 6));
    // nor is one taken back for the sake of another
    proofs.answered(&answered(API, &[6, 5], false), NOW);
    assert!(has(&proofs, 5));
    let generation = proofs.generation();
    assert_eq!(proofs.answered(&answered(API, &[5], false), NOW).0.len(), 1);
    assert!(!has(&proofs, 5));
    // nobody is a newcomer twice
    proofs.configure(0, Vec::new());
    proofs.answered(&answered(API, &[5], true), NOW);
    assert!(has(&proofs, 5) && proofs.generation() == generation);
}

#[test]
fn newcomers_have_a_budget_for_each_client() {
    let mut proofs = guarded();
    for value in 100..150 {
        proofs.answered(&answered(API, &[value], true), NOW);
    }
    let mut other = answered(API, &[99], true);
    other.network = 2;
    proofs.answered(&other, NOW);
    assert_eq!((proofs.proven().count(), proofs.waiting()), (21, 30));
    assert!(has(&proofs, 99) && has(&proofs, 119) && !has(&proofs, 120));
    proofs.answered(&answered(API, &[120], true), NOW + HOUR);
    assert!(has(&proofs, 120));
}

#[test]
fn a_public_name_is_proven_for_who_has_its_secret() {
    let mut proofs = guarded();
    let mut one = answered(API, &[5], true);
    one.presented[0].1 = cred::AWS;
    let (changes, _) = proofs.answered(&one, NOW);
    let value = cap::of_client(5, 1);
    let kind = u32::from(cred::AWS);
    assert_eq!(changes, [Change::Credential(SubjectKey { value, kind, direction: FIRST }, true)]);
    // a bad signature of another client takes nothing from it
    one.network = 2;
    one.good = false;
    proofs.answered(&one, NOW);
    assert!(has(&proofs, value));
}

#[test]
fn servers_of_one_owner_vouch_together() {
    assert_eq!(owner("unit:a.service 80 root"), owner("exe:/bin/b 81 root"));
    let others = ["exe:/bin/b 81 nobody", "container:12ab 80 root", "container:34cd 80 root"];
    let all: HashSet<_> = others.iter().chain(&["x root"]).map(|name| owner(name)).collect();
    assert!(all.len() == 4 && !all.contains(&0));
    let mut proofs = guarded();
    proofs.configure(20, vec![(80, vec!["/v1/".into()])]);
    let (changes, _) = proofs.answered(&answered(API, &[], false), NOW);
    assert_eq!(changes, [Change::End(end(80), At { number: FIRST, owner: 0 })]);
}

#[test]
fn the_operator_may_say_what_is_guarded() {
    let mut proofs = Proofs::default();
    proofs.configure(20, vec![(80, vec!["/v1/".into()])]);
    proofs.answered(&answered(API, &[5], true), NOW);
    assert!(has(&proofs, 5));
    proofs.configure(20, vec![(80, vec!["/v2/".into()]), (81, vec!["/".into()])]);
    proofs.answered(&answered(API, &[6], true), NOW);
    assert!(!has(&proofs, 6));
    let mut all = answered(API, &[7], true);
    all.end = end(81);
    all.path = "/v1/../public".into();
    proofs.answered(&all, NOW);
    assert!(!has(&proofs, 7));
    all.path = "/".into();
    proofs.answered(&all, NOW);
    assert!(has(&proofs, 7));
}

#[test]
fn who_fills_the_tables_pushes_out_himself_only() {
    let mut proofs = guarded();
    proofs.configure(u32::MAX, Vec::new());
    let mut victim = answered(API, &[1], true);
    victim.network = 9;
    proofs.answered(&victim, NOW);
    for value in 2..=SHARE as u64 + 2 {
        proofs.answered(&answered(API, &[value], true), NOW + value);
    }
    assert!(has(&proofs, 1) && !has(&proofs, 2) && has(&proofs, SHARE as u64 + 2));
    assert_eq!(proofs.proven().count(), SHARE + 1);
    // servers of one user, and the ends of one server
    for n in 0..3 * SERVERS_EACH {
        let mut own = answered(&format!("exe:/tmp/{n} nobody"), &[], false);
        own.end = end(1000 + n as u32);
        proofs.answered(&own, NOW);
    }
    assert_eq!((proofs.servers.len(), proofs.ends.len()), (1 + SERVERS_EACH, 1 + SERVERS_EACH));
    assert!(proofs.servers.contains_key(API) && has(&proofs, 1));
    for n in 0..3 * ENDS_EACH as u32 {
        let mut own = answered(API, &[], false);
        own.end = end(10_000 + n);
        proofs.answered(&own, NOW);
    }
    assert_eq!(proofs.ends.values().filter(|at| at.number == FIRST).count(), ENDS_EACH);
    assert_eq!(proofs.expire(NOW + UNUSED + 1_000_000).len(), SHARE + 1);
}

#[test]
fn what_is_proven_is_kept() {
    let mut proofs = guarded();
    proofs.answered(&answered(API, &[5, 6], true), NOW);
    proofs.answered(&answered(API, &[6], false), NOW);
    let text = proofs.take_text().unwrap();
    assert_eq!(proofs.take_text(), None);
    let mut again = Proofs::read(&text).unwrap();
    let sorted = |proofs: &Proofs| {
        let mut all: Vec<_> = proofs.all().map(|change| format!("{change:?}")).collect();
        all.sort();
        all
    };
    assert_eq!(sorted(&again), sorted(&proofs));
    assert_eq!(again.networks[&1].held, 2);
    // the route is guarded still, and one that was taken back is no newcomer
    again.configure(0, Vec::new());
    again.answered(&answered(API, &[6], true), NOW);
    assert!(has(&again, 5) && has(&again, 6));
}

proptest! {
    #[test]
    fn a_damaged_file_is_an_error_or_within_bounds(text in "weir proven 1\n(server (1[5-9]|x) 1 [a-z]{1,3} [a-z]\n|end 16 [0-9a-f]{1,3} 1 1 80 [0-9]\n|route 16 1 0 GET /[a-z]\n|proven 1[6-9] f 1 1 1 [01]\n|[ -~]{0,9}\n){0,9}") {
        if let Ok(proofs) = Proofs::read(&text) {
            prop_assert!(Proofs::read(&proofs.text()).is_ok());
        }
    }

    /// Whatever comes: nothing is proven that was not answered well with nothing proven beside it, and no client has more
    /// newcomers in an hour than it may.
    #[test]
    fn nothing_is_proven_without_evidence(
        steps in proptest::collection::vec((0u64..3, proptest::collection::vec(1u64..9, 0..3), any::<bool>(), 0u64..600), 1..200),
    ) {
        let mut proofs = Proofs::default();
        proofs.configure(2, Vec::new());
        let (mut now, mut refused, mut open) = (NOW, false, false);
        let mut started: HashMap<(u64, u64), u32> = HashMap::new();
        for (network, values, good, later) in steps {
            now += later;
            let mut one = answered(API, &values, good);
            one.network = network;
            let before: HashSet<_> = proofs.proven.keys().copied().collect();
            let any = values.iter().any(|value| has(&proofs, *value));
            proofs.answered(&one, now);
            let fresh: Vec<_> = proofs.proven.keys().filter(|key| !before.contains(key)).collect();
            *started.entry((network, now / HOUR)).or_default() += fresh.len() as u32;
            prop_assert!(fresh.iter().all(|key| values.contains(&key.value)));
            prop_assert!(fresh.is_empty() || (good && !any && refused && !open));
            refused |= !good && !any;
            open |= good && values.is_empty();
        }
        prop_assert!(started.values().all(|count| *count <= 2), "{started:?}");
    }
}
