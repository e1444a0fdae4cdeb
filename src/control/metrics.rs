//! What the devices of a mount count, for Prometheus: one page over HTTP, on a Unix socket or a loopback port.
//!
//! One thread serves one caller at a time, for a few seconds at most, and reads no more than a few KiB from it; nothing of a
//! request goes anywhere but into the choice of an answer. A page holds no lock that a request waits for.

use std::fmt::{Display, Write as _};
use std::fs::{Permissions, remove_file, set_permissions};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::Registry;
use super::protocol::mount::MetricsAddress;
use crate::device::{Device, Directory, Region};
use crate::io::{BlockDev, OpKind};
use crate::sync::{Arc, spawn_thread};

/// How long one caller may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest request.
const LONGEST: usize = 8 << 10;
const STACK: usize = 256 << 10;
/// How long the thread waits where the system has no connection for it.
const PAUSE: Duration = Duration::from_millis(200);

const NANOSECONDS_A_SECOND: f64 = 1e9;

/// The page is served while this lives; a Unix socket then goes. The thread ends with the process.
pub struct Metrics(Option<PathBuf>);

impl Drop for Metrics {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Somebody may have taken it away.
            let _ = remove_file(path);
        }
    }
}

/// Serves the page of `registry` at `address`.
///
/// # Errors
/// What the system says where the address cannot be had, or a thread.
pub fn serve(address: &MetricsAddress, registry: Arc<Registry>) -> io::Result<Metrics> {
    match address {
        MetricsAddress::Unix(path) => {
            // What an earlier daemon left is in nobody's way; what is alive, or no socket, is.
            if UnixStream::connect(path)
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
            {
                remove_file(path)?;
            }
            let listener = UnixListener::bind(path)?;
            let metrics = Metrics(Some(path.clone()));
            set_permissions(path, Permissions::from_mode(0o600))?;
            spawn_thread("dmfs-metrics", STACK, move || {
                answer_all(&registry, || listener.accept().map(|(caller, _)| caller));
            })?;
            Ok(metrics)
        }
        MetricsAddress::Loopback(address) => {
            let listener = TcpListener::bind(address)?;
            spawn_thread("dmfs-metrics", STACK, move || {
                answer_all(&registry, || listener.accept().map(|(caller, _)| caller));
            })?;
            Ok(Metrics(None))
        }
    }
}

/// A connection whose waits can be limited.
trait Caller: Read + Write {
    fn wait_at_most(&self, time: Duration) -> io::Result<()>;
}

impl Caller for UnixStream {
    fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }
}

impl Caller for TcpStream {
    fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }
}

fn answer_all<C: Caller>(registry: &Registry, mut accept: impl FnMut() -> io::Result<C>) {
    loop {
        match accept() {
            Ok(mut caller) => {
                if let Err(error) = answer(registry, &mut caller) {
                    log::debug!("metrics: {error}");
                }
            }
            Err(error) => {
                log::debug!("metrics: {error}");
                std::thread::sleep(PAUSE);
            }
        }
    }
}

fn answer<C: Caller>(registry: &Registry, caller: &mut C) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let wait = |caller: &C| {
        let left = deadline.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(io::Error::from(io::ErrorKind::TimedOut)),
            false => caller.wait_at_most(left),
        }
    };
    let mut request = Vec::new();
    let mut piece = [0; 1024];
    let reply = loop {
        if let Some(reply) = reply_to(&request, || page(registry)) {
            break reply;
        }
        wait(caller)?;
        let count = caller.read(&mut piece)?;
        if count == 0 {
            return Ok(());
        }
        request.extend(piece.get(..count).unwrap_or_default());
    };
    let mut rest = reply.as_bytes();
    while !rest.is_empty() {
        wait(caller)?;
        let count = caller.write(rest)?;
        if count == 0 {
            return Ok(());
        }
        rest = rest.get(count..).unwrap_or_default();
    }
    Ok(())
}

/// The answer to what has come of a request so far; `None` where its head is not complete.
fn reply_to(request: &[u8], page: impl FnOnce() -> String) -> Option<String> {
    let is_complete = request.windows(4).any(|end| end == b"\r\n\r\n")
        || request.windows(2).any(|end| end == b"\n\n");
    if !is_complete {
        return (request.len() > LONGEST).then(|| error("431 Request Header Fields Too Large"));
    }
    let line = request
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
    let line = std::str::from_utf8(line).unwrap_or_default().trim_end();
    let words: Vec<&str> = line.split(' ').collect();
    Some(match words[..] {
        [method @ ("GET" | "HEAD"), path, version] if version.starts_with("HTTP/1.") => {
            let path = path.split('?').next().unwrap_or_default();
            match path {
                "/metrics" => {
                    let page = page();
                    let head = head("200 OK", "text/plain; version=0.0.4", page.len());
                    if method == "GET" { head + &page } else { head }
                }
                _ => error("404 Not Found"),
            }
        }
        [_, _, version] if version.starts_with("HTTP/") => error("405 Method Not Allowed"),
        _ => error("400 Bad Request"),
    })
}

fn head(status: &str, kind: &str, len: usize) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n"
    )
}

fn error(status: &str) -> String {
    let body = format!("{status}: ask for /metrics\n");
    head(status, "text/plain", body.len()) + &body
}

const OPERATIONS: [(OpKind, &str); 5] = [
    (OpKind::Read, "read"),
    (OpKind::Write, "write"),
    (OpKind::Flush, "flush"),
    (OpKind::Discard, "discard"),
    (OpKind::WriteZeroes, "write_zeroes"),
];

/// One kind of number: its name, what it is, and whether it only rises.
struct Family {
    text: String,
    name: &'static str,
}

impl Family {
    fn new(name: &'static str, kind: &str, help: &str) -> Family {
        let text = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Family { text, name }
    }

    /// A value. Writing to a string does not fail.
    fn add(&mut self, ending: &str, labels: &str, value: impl Display) {
        let _ = writeln!(self.text, "{}{ending}{{{labels}}} {value}", self.name);
    }
}

/// The whole page.
fn page(registry: &Registry) -> String {
    let mut size = Family::new("dmfs_device_size_bytes", "gauge", "Length of the device.");
    let mut suspended = Family::new(
        "dmfs_device_suspended",
        "gauge",
        "1 while requests are held back.",
    );
    let mut requests = Family::new("dmfs_requests_total", "counter", "Requests that ended.");
    let mut bytes = Family::new(
        "dmfs_request_bytes_total",
        "counter",
        "Bytes of requests that ended.",
    );
    let mut inside = Family::new("dmfs_requests_in_flight", "gauge", "Requests under way.");
    let mut errors = Family::new(
        "dmfs_request_errors_total",
        "counter",
        "Requests that failed.",
    );
    let mut events = Family::new("dmfs_events_total", "counter", "Events of the device.");
    let mut regions = RegionFamilies::new();
    for device in registry.list() {
        let label = format!("device=\"{}\"", escaped(&device.name()));
        let counters = device.counters();
        size.add(
            "",
            &label,
            device
                .capacity()
                .checked_bytes()
                .map_or(u64::MAX, |bytes| bytes.0),
        );
        suspended.add("", &label, u8::from(device.is_suspended()));
        for (kind, name) in OPERATIONS {
            let (tally, labels) = (counters.of(kind), format!("{label},op=\"{name}\""));
            requests.add("", &labels, tally.requests);
            bytes.add(
                "",
                &labels,
                tally
                    .sectors
                    .checked_bytes()
                    .map_or(u64::MAX, |bytes| bytes.0),
            );
            inside.add("", &labels, tally.in_flight);
        }
        errors.add("", &label, counters.errors);
        events.add("", &label, device.events().number());
        regions.add(&device, &label);
    }
    let all = [size, suspended, requests, bytes, inside, errors, events];
    let all = all.into_iter().chain(regions.into_families());
    all.map(|family| family.text).collect()
}

/// What is told of regions.
struct RegionFamilies {
    requests: Family,
    bytes: Family,
    seconds: Family,
    busy: Family,
    durations: Family,
}

impl RegionFamilies {
    fn new() -> RegionFamilies {
        let counter = |name, help| Family::new(name, "counter", help);
        RegionFamilies {
            requests: counter(
                "dmfs_region_requests_total",
                "Requests in a region of statistics.",
            ),
            bytes: counter(
                "dmfs_region_bytes_total",
                "Bytes of these requests in the region.",
            ),
            seconds: counter(
                "dmfs_region_request_seconds_total",
                "How long they took, one after the other.",
            ),
            busy: counter(
                "dmfs_region_busy_seconds_total",
                "How long any was under way in an area, summed over areas.",
            ),
            durations: Family::new(
                "dmfs_region_duration_seconds",
                "histogram",
                "How long requests took, for regions with a histogram.",
            ),
        }
    }

    fn add(&mut self, device: &Device, label: &str) {
        for region in device.regions() {
            self.add_region(&region, &format!("{label},region=\"{}\"", region.id()));
        }
    }

    fn add_region(&mut self, region: &Region, label: &str) {
        let total = region.total();
        let seconds = |nanoseconds: u64| nanoseconds as f64 / NANOSECONDS_A_SECOND;
        for (index, op) in ["read", "write"].into_iter().enumerate() {
            let labels = format!("{label},op=\"{op}\"");
            self.requests.add("", &labels, total.requests[index]);
            self.bytes
                .add("", &labels, u128::from(total.sectors[index]) * 512);
            self.seconds.add("", &labels, seconds(total.took[index]));
        }
        self.busy.add("", label, seconds(total.busy_any));
        if total.bins.is_empty() {
            return;
        }
        let mut below = 0u64;
        let bounds = region.bounds().map(|bound| seconds(bound).to_string());
        for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(&total.bins) {
            below = below.wrapping_add(*count);
            self.durations
                .add("_bucket", &format!("{label},le=\"{bound}\""), below);
        }
        let took = total.took[0].wrapping_add(total.took[1]);
        self.durations.add("_sum", label, seconds(took));
        self.durations.add("_count", label, below);
    }

    fn into_families(self) -> [Family; 5] {
        [
            self.requests,
            self.bytes,
            self.seconds,
            self.busy,
            self.durations,
        ]
    }
}

/// The value of a label: without quotes, backslashes and ends of lines of its own.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests;
