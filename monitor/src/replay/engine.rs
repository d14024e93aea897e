//! Decides recorded requests as the kernel side would, one after the other.
//!
//! ```text
//! request -> the proposals that it is for -> the buckets of each (`monitor_common::charge`) -> ask in order
//!    no `deny` refuses -> all that admit are charged
//!    one refuses       -> nothing is charged; it counts for the one with the longest wait
//! ```
//!
//! Who is proven is decided by [`crate::proof`], as in the daemon, which knows more: a record shows a credential by the name that it
//! claims, so that an impostor's looks like its owner's; it has no local port, so that a server is its workload; and an answer counts
//! from the request on that follows it, however long it took. Paths are compared as recorded, in lower case, not in every reading that
//! a server could have; buckets of clients are never evicted.

use std::collections::{HashMap, HashSet};
use std::hash::{Hash as _, Hasher as _};
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use monitor_common::cap::{ServerKey, action, scope};
use monitor_common::charge;
use monitor_common::event::{CREDS, cred};
use monitor_common::gcra::{self, Answer};
use monitor_common::path;

use super::requests::host_name;
use super::{Members, Proposal, Request, Trial};
use crate::proof::{Answered, Proofs};
use crate::view::Direction;

/// Identities that a report names.
const TOP: usize = 10;
/// Nanoseconds of a second.
const SECOND_NS: u64 = 1_000_000_000;

/// What a proposal would have done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Name of the proposal.
    pub cap: String,
    /// Requests that it was for: `admitted + refused + elsewhere`.
    pub applied: u64,
    /// Those that it would have admitted.
    pub admitted: u64,
    /// Those that it would have refused, or counted when its action is not `deny`.
    pub refused: u64,
    /// Those that another proposal would have denied: they use up nothing of this one.
    pub elsewhere: u64,
    /// Time of the first refusal, ns since 1970.
    pub first_ns: Option<u64>,
    /// The second with the most refusals: its beginning in ns since 1970, and how many. The earliest of several.
    pub worst: Option<(u64, u64)>,
    /// Who was refused most often: identity and requests, at most 10.
    pub top: Vec<(String, u64)>,
}

/// A bucket of a proposal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    /// The only one.
    One,
    /// Of a credential or a client.
    Own(String),
    /// Of the strangers at a client.
    Strangers(String),
}

/// A bucket that is charged, and who that is for people.
type Charge = (Who, String);

#[derive(Default)]
struct State {
    /// Theoretical arrival times.
    tats: HashMap<Who, u64>,
    report: Report,
    /// The second that is being counted, and its refusals: requests come in order.
    second: (u64, u64),
    refused: HashMap<String, u64>,
}

impl State {
    fn refuse(&mut self, request: &Request, who: &str) {
        self.report.refused += 1;
        self.report.first_ns.get_or_insert(request.time_ns);
        let second = request.time_ns / SECOND_NS * SECOND_NS;
        if self.second.0 != second {
            self.second = (second, 0);
        }
        self.second.1 += 1;
        if self.report.worst.is_none_or(|(_, most)| self.second.1 > most) {
            self.report.worst = Some(self.second);
        }
        match self.refused.get_mut(who) {
            Some(count) => *count += 1,
            None => drop(self.refused.insert(who.to_owned(), 1)),
        }
    }

    fn finish(mut self) -> Report {
        let mut top: Vec<_> = self.refused.into_iter().collect();
        top.sort_by(|(a, of_a), (b, of_b)| of_b.cmp(of_a).then_with(|| a.cmp(b)));
        top.truncate(TOP);
        self.report.top = top;
        self.report
    }
}

/// What is known of credentials.
pub(super) struct Known {
    /// Those that proposals list by what is secret.
    secrets: HashSet<String>,
    proofs: Proofs,
}

impl Known {
    pub fn new(proposals: &[Proposal], trial: &Trial) -> Self {
        let mut secrets = HashSet::new();
        for members in proposals.iter().flat_map(|one| one.except.iter().chain([&one.members])) {
            if let Members::Of { identities, .. } = members {
                secrets.extend(identities.iter().filter(|text| is_secret(text)).cloned());
            }
        }
        let mut proofs = Proofs::default();
        // a record does not say at which port
        let guarded = trial.guarded.iter().map(|paths| (PORT, paths.clone()));
        proofs.configure(trial.newcomers, guarded.collect());
        Self { secrets, proofs }
    }

    /// Whether a credential of a request is proven by now.
    fn is_proven(&self, request: &Request, credential: &str) -> bool {
        request.direction == Direction::Outbound
            || self.secrets.contains(credential)
            || self.proofs.is_proven_at(&request.workload, print(credential), hash(&network(request)))
    }

    /// Takes note of the answer to a request.
    pub fn answered(&mut self, request: &Request) {
        let good = match request.status {
            200..=399 => true,
            401 | 403 => false,
            _ => return,
        };
        if request.direction == Direction::Outbound {
            return;
        }
        let mut presented = [(0, 0); CREDS];
        for (to, credential) in presented.iter_mut().zip(&request.credentials) {
            *to = print(credential);
        }
        let one = Answered {
            end: ServerKey { address: [0; 2], netns: 0, port: u32::from(PORT) },
            server: request.workload.as_str().into(),
            route: request.route.as_str().into(),
            path: request.path.as_str().into(),
            network: hash(&network(request)),
            presented,
            good,
        };
        let _ = self.proofs.answered(&one, request.time_ns / SECOND_NS);
    }
}

/// Stands for every port.
const PORT: u16 = 1;

/// Whether nobody can present this identity who was not given its secret.
fn is_secret(identity: &str) -> bool {
    match identity.split_once(':') {
        Some(("jwt" | "basic", rest)) => {
            rest.len() == 16 && rest.bytes().all(|byte| byte.is_ascii_hexdigit())
        }
        Some(("aws" | "client" | "workload", _)) => false,
        _ => true,
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Stands for a fingerprint and kind.
fn print(credential: &str) -> (u64, u8) {
    (hash(credential), if credential.starts_with("aws:") { cred::AWS } else { cred::AUTHORIZATION })
}

/// The network that the client of a request stands for, as buckets of clients are shown: an IPv6 /64 is one.
fn network(request: &Request) -> String {
    match request.address {
        Some(IpAddr::V6(address)) if address.segments() != [0, 0, 0, 0, 0, 0, 0, 1] => {
            let [a, b, c, d, ..] = address.segments();
            format!("client:{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        _ => client(request),
    }
}

/// The client that an inbound request is charged to, as identities are shown.
fn client(request: &Request) -> String {
    format!("client:{}", request.peer)
}

/// Whose buckets of a proposal a request is charged to; empty when the proposal is not for it.
fn charged(proposal: &Proposal, request: &Request, known: &Known) -> Vec<Charge> {
    let outbound = request.direction == Direction::Outbound;
    let of_host = proposal.host.as_deref().is_none_or(|host| host_name(host) == request.host);
    let of_route = proposal
        .route
        .as_deref()
        .is_none_or(|route| path::is_under(request.path.as_bytes(), route.to_ascii_lowercase().as_bytes()));
    if proposal.direction != request.direction || !of_host || !of_route {
        return Vec::new();
    }
    // those that the kernel tells apart
    let credentials = || request.credentials.iter().take(CREDS);
    let is_proven = |credential: &String| known.is_proven(request, credential);
    match (&proposal.members, proposal.scope) {
        (Members::Everybody, scope::EACH_CREDENTIAL) => {
            let bits = |keep: &dyn Fn(&String) -> bool| {
                let places = credentials().enumerate().filter(|(_, credential)| keep(credential));
                places.fold(0, |bits, (at, _)| bits | 1 << at)
            };
            let proven = bits(&is_proven);
            let payer = charge::payer(bits(&|_| true), proven);
            let Some(credential) = request.credentials.get(payer as usize) else { return Vec::new() };
            let parts = charge::of_payer(proven >> payer & 1 != 0);
            let mut charged = Vec::new();
            if parts & charge::STRANGERS != 0 {
                charged.push((Who::Strangers(network(request)), network(request)));
            }
            if parts & charge::OWN != 0 {
                charged.push((Who::Own(credential.clone()), credential.clone()));
            }
            charged
        }
        (_, scope::EACH_CLIENT) => {
            // outbound there are no clients: who calls is a local workload
            if outbound || proposal.except.iter().any(|members| is_excepted(members, request, is_proven)) {
                return Vec::new();
            }
            vec![(Who::Own(network(request)), network(request))]
        }
        (members, scope) => {
            // several credentials of a role charge it once
            let who = match members {
                Members::Workload(workload) => (*workload == request.workload).then(|| workload.clone()),
                Members::Everybody => Some(client(request)),
                Members::Of { identities, networks } => {
                    let inside = !outbound && is_inside(networks, request);
                    let is_client = !outbound && identities.contains(&client(request));
                    let listed = || credentials().filter(|credential| identities.contains(credential));
                    let first = listed().find(|credential| is_proven(credential)).cloned();
                    let proven = credentials().filter(|credential| is_proven(credential)).count() as u32;
                    let claimed = first.is_none() && listed().next().is_some() && !inside && !is_client;
                    if claimed && charge::of_member(true, proven) & charge::STRANGERS != 0 {
                        return vec![(Who::Strangers(network(request)), network(request))];
                    }
                    let shared = scope != scope::EACH_CREDENTIAL;
                    first.or_else(|| (shared && (inside || is_client)).then(|| client(request)))
                }
            };
            let bucket = |who: &String| match scope {
                scope::EACH_CREDENTIAL => Who::Own(who.clone()),
                _ => Who::One,
            };
            who.map(|who| vec![(bucket(&who), who)]).unwrap_or_default()
        }
    }
}

fn is_inside(networks: &[IpNet], request: &Request) -> bool {
    request.address.is_some_and(|at| networks.iter().any(|net| net.contains(&at)))
}

/// Whether a request is one of members that a proposal for each client leaves alone.
fn is_excepted(members: &Members, request: &Request, known: impl Fn(&String) -> bool) -> bool {
    match members {
        Members::Of { identities, networks } => {
            is_inside(networks, request)
                || identities.contains(&client(request))
                || request.credentials.iter().any(|one| identities.contains(one) && known(one))
        }
        Members::Everybody | Members::Workload(_) => false,
    }
}

/// Replays requests, which must be in order of time, against proposals: a report for each, in their order.
pub fn replay(proposals: &[Proposal], requests: &[Request], trial: &Trial) -> Vec<Report> {
    let mut known = Known::new(proposals, trial);
    let name = |proposal: &Proposal| Report { cap: proposal.name.clone(), ..Report::default() };
    let mut states: Vec<_> =
        proposals.iter().map(|proposal| State { report: name(proposal), ..State::default() }).collect();
    for request in requests {
        decide(proposals, &mut states, request, &known);
        known.answered(request);
    }
    states.into_iter().map(State::finish).collect()
}

/// Puts back what buckets were before a request, the newest first.
fn give_back(states: &mut [State], taken: impl DoubleEndedIterator<Item = (usize, Who, Option<u64>)>) {
    for (at, bucket, before) in taken.rev() {
        let Some(state) = states.get_mut(at) else { continue };
        match before {
            Some(before) => drop(state.tats.insert(bucket, before)),
            None => drop(state.tats.remove(&bucket)),
        }
    }
}

fn decide(proposals: &[Proposal], states: &mut [State], request: &Request, known: &Known) {
    // what to give back when the request is denied: proposal, bucket, its time before
    let mut taken: Vec<(usize, Who, Option<u64>)> = Vec::new();
    let mut asked: Vec<(usize, Option<String>)> = Vec::new();
    // the refusal with the longest wait: proposal, wait
    let mut denied: Option<(usize, u64)> = None;
    for (at, (proposal, state)) in proposals.iter().zip(&mut *states).enumerate() {
        let charges = charged(proposal, request, known);
        if charges.is_empty() {
            continue;
        }
        let mut refused = None;
        let first = taken.len();
        for (bucket, shown) in charges {
            let limit = match bucket {
                Who::Strangers(_) => &proposal.strangers,
                Who::One | Who::Own(_) => &proposal.limit,
            };
            let before = state.tats.get(&bucket).copied();
            match gcra::ask(limit, before.unwrap_or(0), request.time_ns) {
                Answer::Admit(next) => {
                    state.tats.insert(bucket.clone(), next);
                    taken.push((at, bucket, before));
                }
                Answer::Refuse(wait) => {
                    refused = Some(shown);
                    if proposal.action == action::DENY && denied.is_none_or(|(_, longest)| wait > longest) {
                        denied = Some((at, wait));
                    }
                    break;
                }
            }
        }
        if refused.is_some() {
            // one that a bucket of a proposal refuses uses up nothing of its other one
            give_back(
                std::slice::from_mut(state),
                taken.drain(first..).map(|(_, who, before)| (0, who, before)),
            );
        }
        asked.push((at, refused));
    }
    if denied.is_some() {
        give_back(states, taken.into_iter());
    }
    for (at, refused) in asked {
        let state = &mut states[at];
        state.report.applied += 1;
        match (refused, denied) {
            (Some(who), Some((by, _))) if by == at => state.refuse(request, &who),
            // what only counts, counts whatever else becomes of the request
            (Some(who), _) if proposals[at].action != action::DENY => state.refuse(request, &who),
            (_, Some(_)) => state.report.elsewhere += 1,
            (_, None) => state.report.admitted += 1,
        }
    }
}
