//! The Prometheus endpoint: `/metrics`, `/healthz`, `/readyz` and a landing page.
//!
//! Owns names, types, labels and help texts of all metrics ([`METRICS`] is the only list). Counting happens elsewhere:
//! nothing here is touched per event, everything is read at the scrape.

mod collector;
mod snapshot;

pub use collector::render;
pub use snapshot::{Durations, Events, IdentitySeries, RequestSeries, Snapshot};

/// Name, type, labels (comma-separated) and help of every metric there is.
pub const METRICS: &[(&str, &str, &str, &str)] = &[
    (
        "weir_http_requests_total",
        "counter",
        "direction,http_request_method,http_route,http_response_status_code,network_protocol_version",
        "Finished HTTP requests; the sum per direction is exact. Requests whose record was lost have http_route=\"_lost\", requests without an answer the status code 0.",
    ),
    (
        "weir_http_request_duration_seconds",
        "histogram",
        "direction,http_request_method,http_route",
        "Time from the end of the request's head to the end of the response, of answered requests.",
    ),
    ("weir_http_request_bytes_total", "counter", "direction", "Bytes of requests, heads and bodies."),
    ("weir_http_response_bytes_total", "counter", "direction", "Bytes of responses, heads and bodies."),
    ("weir_http_requests_outstanding", "gauge", "direction", "Requests that have no response yet."),
    (
        "weir_identity_requests_total",
        "counter",
        "direction,identity,kind",
        "Finished requests by identity; identities beyond the largest are in identity=\"other\".",
    ),
    ("weir_identities", "gauge", "", "Identities tracked one by one."),
    ("weir_connections", "gauge", "", "Open connections that carry HTTP."),
    ("weir_routes", "gauge", "", "Routes tracked, by direction and method."),
    (
        "weir_kernel_requests_total",
        "counter",
        "direction",
        "Request heads completed, counted in the kernel whether or not a record could be delivered.",
    ),
    ("weir_events_total", "counter", "stage", "Records produced in the kernel, and delivered to the daemon."),
    (
        "weir_events_lost_total",
        "counter",
        "stage,reason",
        "What was seen and could not be followed or delivered.",
    ),
    (
        "weir_cap_requests_total",
        "counter",
        "cap,verdict",
        "Requests that a cap applied to, by what it said: allow, observe, shadow, deny.",
    ),
    ("weir_cap_limit", "gauge", "cap", "Rate of a cap in requests per second."),
    ("weir_cap_burst", "gauge", "cap", "Requests at once that a cap admits."),
    (
        "weir_cap_utilization_ratio",
        "gauge",
        "cap,identity",
        "Share of the burst that is used up, of the fullest buckets of a cap.",
    ),
    (
        "weir_denials_total",
        "counter",
        "reason,direction",
        "Requests that were denied, by reason: cap, access, credentials, framing.",
    ),
    (
        "weir_connections_ended_total",
        "counter",
        "result",
        "Connections of denied requests: destroyed, gone by themselves, failed or dropped (these stay fenced).",
    ),
    ("weir_observed_total", "counter", "what", "What else the kernel side came across; no losses."),
    ("weir_hooks", "gauge", "name,target,mandatory", "Whether a hook or probe is attached (1) or not (0)."),
    (
        "weir_bpf_run_seconds_total",
        "counter",
        "program",
        "Run time of a kernel program, while BPF statistics are on.",
    ),
    ("weir_bpf_runs_total", "counter", "program", "Runs of a kernel program, while BPF statistics are on."),
    ("weir_drain_seconds", "gauge", "", "Time since the ring was last drained."),
    ("weir_degraded", "gauge", "", "Things that do not work as they should, as `weir status` names them."),
    ("weir_ready", "gauge", "", "Every mandatory hook is attached and the ring has been drained."),
    (
        "weir_config_last_reload_successful",
        "gauge",
        "",
        "Whether the last reload of the configuration succeeded.",
    ),
    ("weir_scrape_seconds", "gauge", "", "Time it took to collect this scrape."),
    ("weir_build_info", "gauge", "version,kernel,socket_hook", "Constant 1."),
    ("process_start_time_seconds", "gauge", "", "Start of the daemon, seconds since the epoch."),
    ("process_resident_memory_bytes", "gauge", "", "Resident memory of the daemon."),
    ("process_cpu_seconds_total", "counter", "", "CPU time of the daemon, user and system."),
    ("process_open_fds", "gauge", "", "Open file descriptors of the daemon."),
];

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
