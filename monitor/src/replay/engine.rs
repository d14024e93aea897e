//! Decides recorded requests as the kernel side would, one after the other.
//!
//! ```text
//! request -> the proposals that it is for -> the buckets of each -> ask in order
//!    no `deny` refuses -> all that admit are charged
//!    one refuses       -> nothing is charged; it counts for the one with the longest wait
//! ```
//!
//! Three things differ from the kernel, none of which a record can tell: a credential counts as accepted from the first request
//! on when any request of the record was answered 2xx or 3xx with it; paths are compared as recorded, in lower case, not in
//! every reading that a server could have; buckets of clients are never evicted.

use std::collections::{HashMap, HashSet};

use ipnet::IpNet;
use monitor_common::cap::{action, scope};
use monitor_common::gcra::{self, Answer};

use super::requests::host_name;
use super::{Members, Proposal, Request};
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

/// Who has a bucket of a proposal: `None` is the only one of a proposal with one bucket.
type Who = Option<String>;

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

/// Credentials that a server accepted, by direction.
type Accepted<'a> = HashSet<&'a str>;

/// The client that an inbound request is charged to, as identities are shown.
fn client(request: &Request) -> String {
    format!("client:{}", request.peer)
}

/// Whose buckets of a proposal a request is charged to, and who that is for people; empty when the proposal is not for it.
fn charged(proposal: &Proposal, request: &Request, accepted: &Accepted<'_>) -> Vec<(Who, String)> {
    let outbound = request.direction == Direction::Outbound;
    let of_host = proposal.host.as_deref().is_none_or(|host| host_name(host) == request.host);
    let of_route = proposal.route.as_deref().is_none_or(|route| {
        request
            .path
            .as_bytes()
            .get(..route.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(route.as_bytes()))
    });
    if proposal.direction != request.direction || !of_host || !of_route {
        return Vec::new();
    }
    let known = |credential: &String| outbound || accepted.contains(credential.as_str());
    let named = |credential: &&String| match &proposal.members {
        Members::Everybody => true,
        Members::Of { identities, .. } => identities.contains(credential),
        Members::Workload(_) => false,
    };
    let carried: Vec<_> = request.credentials.iter().filter(named).collect();
    match proposal.scope {
        scope::EACH_CREDENTIAL => carried
            .into_iter()
            .map(|credential| {
                // a credential that is configured is nobody's guess
                let own = known(credential) || matches!(proposal.members, Members::Of { .. });
                (Some(if own { credential.clone() } else { client(request) }), credential.clone())
            })
            .collect(),
        scope::EACH_CLIENT => {
            // outbound there are no clients: who calls is a local workload
            if outbound || proposal.except.iter().any(|members| is_excepted(members, request, &known)) {
                return Vec::new();
            }
            vec![(Some(client(request)), client(request))]
        }
        _ => {
            let who = match &proposal.members {
                Members::Workload(workload) => (*workload == request.workload).then(|| workload.clone()),
                Members::Everybody => Some(client(request)),
                Members::Of { identities, networks } => {
                    let inside = !outbound && is_inside(networks, request);
                    let is_client = !outbound && identities.contains(&client(request));
                    let first = carried.first().map(|credential| (*credential).clone());
                    first.or_else(|| (inside || is_client).then(|| client(request)))
                }
            };
            who.map(|who| vec![(None, who)]).unwrap_or_default()
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
pub fn replay(proposals: &[Proposal], requests: &[Request]) -> Vec<Report> {
    let good = requests.iter().filter(|request| request.accepted);
    let accepted: Accepted<'_> = good.flat_map(|request| &request.credentials).map(String::as_str).collect();
    let name = |proposal: &Proposal| Report { cap: proposal.name.clone(), ..Report::default() };
    let mut states: Vec<_> =
        proposals.iter().map(|proposal| State { report: name(proposal), ..State::default() }).collect();
    for request in requests {
        decide(proposals, &mut states, request, &accepted);
    }
    states.into_iter().map(State::finish).collect()
}

fn decide(proposals: &[Proposal], states: &mut [State], request: &Request, accepted: &Accepted<'_>) {
    // what to give back when the request is denied: proposal, bucket, its time before
    let mut taken: Vec<(usize, Who, Option<u64>)> = Vec::new();
    let mut asked: Vec<(usize, Option<String>)> = Vec::new();
    // the refusal with the longest wait: proposal, wait
    let mut denied: Option<(usize, u64)> = None;
    for (at, proposal) in proposals.iter().enumerate() {
        let subjects = charged(proposal, request, accepted);
        if subjects.is_empty() {
            continue;
        }
        let mut refused = None;
        for (bucket, shown) in subjects {
            let before = states[at].tats.get(&bucket).copied();
            match gcra::ask(&proposal.limit, before.unwrap_or(0), request.time_ns) {
                Answer::Admit(next) => {
                    states[at].tats.insert(bucket.clone(), next);
                    taken.push((at, bucket, before));
                }
                Answer::Refuse(wait) => {
                    refused.get_or_insert(shown);
                    if proposal.action == action::DENY && denied.is_none_or(|(_, longest)| wait > longest) {
                        denied = Some((at, wait));
                    }
                }
            }
        }
        asked.push((at, refused));
    }
    if denied.is_some() {
        // newest first: one request can be charged to a bucket twice
        for (at, bucket, before) in taken.into_iter().rev() {
            match before {
                Some(before) => drop(states[at].tats.insert(bucket, before)),
                None => drop(states[at].tats.remove(&bucket)),
            }
        }
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
