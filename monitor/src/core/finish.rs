//! The end of a request: the credential's name is accepted or not, rows are charged, the recent ring takes it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use monitor_common::cap::action;
use monitor_common::event::response_flag;

use super::Core;
use crate::identity::Seen;
use crate::rates::{SECOND_NS, Sample};
use crate::tracker::{Judged, Paired, Shape};

/// A finished request, as it is kept for `tail`: everything shared is shared, text is made only when somebody asks.
#[derive(Clone, Debug)]
pub struct Finished {
    /// End of the request's head, ns.
    pub ts_ns: u64,
    /// Time to the end of the response, ns; 0 without an answer.
    pub latency_ns: u64,
    /// Bytes of the request.
    pub request_bytes: u64,
    /// Bytes of the response.
    pub response_bytes: u64,
    /// Status code, 0 without an answer.
    pub status: u16,
    /// `event::request_flag`s.
    pub flags: u16,
    /// `event::response_flag`s.
    pub response_flags: u16,
    /// What was decided about it.
    pub verdict: Option<Judged>,
    /// Everything else.
    pub shape: Arc<Shape>,
}

/// The last finished requests, numbered from 0 since the start.
pub(super) struct Recent {
    pub ring: VecDeque<Finished>,
    /// Number of the oldest one in the ring.
    pub first: u64,
    limit: usize,
}

impl Recent {
    pub fn new(limit: usize) -> Self {
        Self { ring: VecDeque::new(), first: 0, limit: limit.max(1) }
    }

    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.max(1);
    }

    fn push(&mut self, finished: Finished) {
        while self.ring.len() >= self.limit {
            self.ring.pop_front();
            self.first += 1;
        }
        self.ring.push_back(finished);
    }
}

impl Core {
    /// Counts a request that got its response, or never will.
    pub(super) fn finish(&mut self, paired: Paired, now_ns: u64) {
        let Paired { request, response } = paired;
        let status = response.as_ref().map_or(0, |response| response.status);
        let mut shape = request.shape;
        // what Weir answers in a server's place is not the server's judgement
        if request.verdict.is_none_or(|judged| judged.action != action::DENY) {
            self.judged_by_server(&shape, status);
        }
        if shape.id.may_be_named()
            && let Some(named) = self.renamed(&shape, status)
        {
            shape.superseded.store(true, Ordering::Relaxed);
            shape = Arc::new(named);
        }
        let finished = match &response {
            Some(response) => {
                let measured = response.flags & response_flag::REQ_BODY != 0;
                let body = if measured { response.req_body_bytes } else { request.body_bytes };
                Finished {
                    ts_ns: request.ts_ns,
                    latency_ns: response.ts_end_ns.saturating_sub(request.ts_ns),
                    request_bytes: u64::from(request.head_bytes).saturating_add(body),
                    response_bytes: u64::from(response.head_len).saturating_add(response.body_bytes),
                    status,
                    flags: request.flags,
                    response_flags: response.flags,
                    verdict: request.verdict,
                    shape,
                }
            }
            // an announced body may never have come
            None => Finished {
                ts_ns: request.ts_ns,
                latency_ns: 0,
                request_bytes: u64::from(request.head_bytes),
                response_bytes: 0,
                status: 0,
                flags: request.flags,
                response_flags: 0,
                verdict: request.verdict,
                shape,
            },
        };
        self.charge(&finished, now_ns);
        self.history.push(&finished);
        self.recent.push(finished);
    }

    fn charge(&mut self, finished: &Finished, now_ns: u64) {
        let shape = &*finished.shape;
        let sample = Sample {
            second: (now_ns / SECOND_NS) as u32,
            status: finished.status,
            request_bytes: finished.request_bytes,
            response_bytes: finished.response_bytes,
            latency_ns: finished.latency_ns,
        };
        let seen = Seen {
            label: shape.label.as_ref(),
            carrier: shape.carrier,
            fingerprint: shape.fingerprint,
            peer: shape.peer,
            workload: &shape.workload,
            at_ns: finished.ts_ns,
        };
        *self.finished.get_mut(shape.direction) += 1;
        let hint = shape.row.load(Ordering::Relaxed);
        let row = self.identities.charge(&shape.id, hint, &seen, &sample);
        if row != hint {
            shape.row.store(row, Ordering::Relaxed);
        }
        self.routes.charge(shape.route, (shape.direction, shape.method), &sample, shape.v10, &shape.workload);
        self.processes.charge(shape.process, &shape.workload, shape.direction, &sample);
    }

    /// The shape under the name that its credential claims, if that is accepted, by this answer at the latest.
    fn renamed(&mut self, shape: &Shape, status: u16) -> Option<Shape> {
        let print = shape.fingerprint;
        if self.names.has_credential(shape.id.kind, print) {
            return None;
        }
        let claim = if (200..400).contains(&status) {
            self.claims.accept(print)
        } else {
            self.claims.accepted(print)
        }?;
        Some(Shape {
            id: claim.id(shape.direction),
            label: Some(Arc::clone(&claim.label)),
            also: shape.also.clone(),
            method_text: shape.method_text.clone(),
            path: shape.path.clone(),
            authority: shape.authority.clone(),
            context: Arc::clone(&shape.context),
            workload: Arc::clone(&shape.workload),
            superseded: AtomicBool::new(false),
            row: AtomicU64::new(0),
            kernel: AtomicU32::new(u32::MAX),
            kept: AtomicU64::new(0),
            server_said: AtomicU32::new(shape.server_said.load(Ordering::Relaxed)),
            ..*shape
        })
    }
}
