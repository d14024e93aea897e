//! The differential test: payloads from a grammar at eleven real servers. What a server's handler saw is the truth, and
//! what Weir counted for the connection must not be less.
//!
//! Every payload comes from a loopback address of its own, so that one daemon counts thousands of them apart. Each form of
//! the grammar is sent alone in some places of a connection; then come random payloads. What is known to be uncounted
//! stands in [`known::KNOWN`].
//!
//! - `WEIR_TEST_SEED` is the seed of the random payloads;
//! - `WEIR_TEST_PAYLOADS` is their number at each server;
//! - `WEIR_TEST_SERVER` is the one server to try.

mod client;
mod forms;
mod grammar;
mod known;
mod servers;

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::time::Instant;

use monitor::view::Direction::Inbound;

use crate::harness::servers::go_program;
use crate::harness::weir::{Place, Weir};
use crate::harness::{Findings, need, note, skipped, turn};
use client::Back;
use forms::{FORMS, Form};
use grammar::{Payload, Random};
use known::{KNOWN, Known};
use servers::Running;

/// Seed and number of random payloads at each server where nothing else is asked for.
const SEED: u64 = 17;
const PAYLOADS: usize = 150;
/// Differences of one server that are shrunk and shown.
const SHOWN: usize = 200;
/// Where every payload goes to.
const TARGET: &str = "/v1/x";

fn number<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// One payload at one server.
#[derive(Clone)]
struct Trial {
    payload: Payload,
    handled: u64,
    counted: u64,
    back: Back,
}

impl Trial {
    fn uncounted(&self) -> bool {
        self.handled > self.counted
    }
}

/// A daemon, and the addresses that are left for payloads.
struct Field {
    weir: Weir,
    next: u32,
}

impl Field {
    fn new(payloads: usize) -> Self {
        let identities = (2 * payloads).clamp(100_000, 1_000_000);
        Self { weir: Place::new(&format!("[limits]\nidentities = {identities}\n")).start(), next: 0 }
    }

    /// An address that no payload came from.
    fn address(&mut self) -> Ipv4Addr {
        self.next += 1;
        Ipv4Addr::from(0x7f40_0000 + self.next)
    }

    /// Sends payloads to a server of their own and compares once it has ended: a request without an answer is counted when
    /// its connection ends, and a handler may run for some time after its client went.
    fn run(&mut self, name: &str, payloads: Vec<Payload>) -> Vec<Trial> {
        let server = Running::start(name);
        let sent: Vec<_> = payloads.iter().map(|payload| (self.address(), payload)).collect();
        // A connection from the daemon's own port counts as a scrape.
        let backs = client::send_all(server.address, self.weir.place.port, TARGET, &sent);
        let handled = server.finish();
        self.weir.settle();
        let counted = self.counted();
        let of = |counts: &HashMap<Ipv4Addr, u64>, at: usize| counts.get(&sent[at].0).copied().unwrap_or(0);
        let trials: Vec<_> = payloads
            .iter()
            .zip(backs)
            .enumerate()
            .map(|(at, (payload, back))| Trial {
                payload: payload.clone(),
                handled: of(&handled, at),
                counted: of(&counted, at),
                back,
            })
            .collect();
        trials
    }

    /// Requests by client address.
    fn counted(&self) -> HashMap<Ipv4Addr, u64> {
        let rows = self.weir.identities().into_iter();
        rows.filter(|row| row.direction == Inbound && row.kind == "client")
            .filter_map(|row| Some((row.peers.first()?.parse().ok()?, row.totals.requests)))
            .collect()
    }

    /// The smallest payload that is still uncounted.
    fn shrink(&mut self, name: &str, mut trial: Trial) -> Trial {
        loop {
            let tried = self.run(name, trial.payload.smaller());
            match tried.into_iter().find(Trial::uncounted) {
                Some(smaller) => trial = smaller,
                None => return trial,
            }
        }
    }
}

fn forms_of(known: &Known) -> Vec<&'static Form> {
    let of = |class: &str| FORMS.iter().find(|form| form.class == class);
    known.classes().map(|class| of(class).unwrap_or_else(|| panic!("no form {class}"))).collect()
}

/// What is known to be uncounted at a server.
fn known_at(server: &str) -> impl Iterator<Item = &'static Known> {
    KNOWN.iter().filter(move |known| known.servers.split(' ').any(|name| name == server))
}

/// Whether forms include something that is known to be uncounted at a server.
fn is_known(server: &str, forms: &[&'static Form]) -> bool {
    known_at(server).any(|known| known.classes().all(|class| forms.iter().any(|form| form.class == class)))
}

#[test]
fn no_request_goes_uncounted() {
    need!("nginx", "node", "go");
    if servers::python().is_none() {
        assert!(std::env::var_os("CI").is_none(), "no Python with servers: cargo xtask setup");
        skipped("no Python with servers (cargo xtask setup)");
        return;
    }
    go_program();
    let _turn = turn();
    let only = std::env::var("WEIR_TEST_SERVER").ok();
    let names: Vec<_> =
        servers::ALL.iter().copied().filter(|name| only.as_ref().is_none_or(|only| only == name)).collect();
    assert!(!names.is_empty(), "WEIR_TEST_SERVER is none of {:?}", servers::ALL);
    let (seed, count) = (number("WEIR_TEST_SEED", SEED), number("WEIR_TEST_PAYLOADS", PAYLOADS));
    let mut findings = Findings::default();
    let mut differing = BTreeMap::<String, Vec<&str>>::new();
    let mut field = Field::new(names.len() * (FORMS.len() * 5 + count));
    for name in names {
        let begin = Instant::now();
        let trials = at_server(&mut field, name, Random(seed), count);
        judge(&mut findings, &mut differing, &mut field, name, &trials);
        note(&format!(
            "differential: {name}: {} in {:.1} s",
            figures(&trials),
            begin.elapsed().as_secs_f64()
        ));
    }
    for (classes, servers) in differing {
        note(&format!("differential: uncounted: [{classes}] at {servers:?}"));
    }
    findings.none();
}

/// Every form in some places, what is known in the same, and random payloads of what is not known.
fn at_server(field: &mut Field, name: &str, mut random: Random, count: usize) -> Vec<Trial> {
    let mut payloads: Vec<_> = FORMS.iter().flat_map(|form| Payload::in_every_place(&[form])).collect();
    for known in known_at(name).filter(|known| known.classes().count() > 1) {
        payloads.extend(Payload::in_every_place(&forms_of(known)));
    }
    payloads.extend((0..count).map(|_| Payload::random(&mut random, |forms| is_known(name, forms))));
    field.run(name, payloads)
}

fn judge(
    findings: &mut Findings,
    differing: &mut BTreeMap<String, Vec<&'static str>>,
    field: &mut Field,
    name: &'static str,
    trials: &[Trial],
) {
    for known in known_at(name) {
        let same = |trial: &&Trial| {
            let classes = trial.payload.classes();
            classes.len() == known.classes().count() && known.classes().all(|class| classes.contains(&class))
        };
        if !trials.iter().filter(same).any(Trial::uncounted) {
            findings
                .add(format!("{name}: {} ({}) is counted now: take it out of KNOWN", known.forms, known.why));
        }
    }
    let forms = |trial: &Trial| trial.payload.requests.iter().flatten().copied().collect::<Vec<_>>();
    let mut shown = Vec::new();
    for trial in trials.iter().filter(|trial| trial.uncounted() && !is_known(name, &forms(trial))) {
        if shown.contains(&trial.payload.classes()) || shown.len() >= SHOWN {
            continue;
        }
        // What is odd about a payload with one form is known.
        let single = trial.payload.classes().len() == 1;
        let least = if single { trial.clone() } else { field.shrink(name, trial.clone()) };
        let classes = least.payload.classes();
        if !shown.contains(&classes) {
            findings.add(format!(
                "{name}: handled {}, counted {}: {classes:?} {}",
                least.handled, least.counted, least.payload
            ));
            differing.entry(classes.join(" + ")).or_default().push(name);
            shown.push(classes);
        }
    }
}

/// Sums over payloads, in words.
fn figures(trials: &[Trial]) -> String {
    let sum = |of: fn(&Trial) -> u64| trials.iter().map(of).sum::<u64>();
    format!(
        "{} payloads, {} handled, {} counted ({} uncounted in {} payloads, {} counted and not handled), {} refused, {} left \
         open",
        trials.len(),
        sum(|trial| trial.handled),
        sum(|trial| trial.counted),
        sum(|trial| trial.handled.saturating_sub(trial.counted)),
        trials.iter().filter(|trial| trial.uncounted()).count(),
        sum(|trial| trial.counted.saturating_sub(trial.handled)),
        sum(|trial| trial.back.refusals),
        sum(|trial| u64::from(!trial.back.ended)),
    )
}
