//! What the running kernel makes dangerous.
//!
//! Owns: version ranges of kernel faults that decide how probes may be placed. Must not read anything: the release
//! string (`uname -r`) comes in.

/// Why return probes must not be used on the kernel with this release string, or `None` when they are safe.
///
/// Linux 6.11 made return probes on x86-64 use a system call of their own, which a seccomp filter that does not know it
/// answers by killing the program. Since 6.14, 6.13.3 and 6.12.14 (commit cf6cb56ef244, "seccomp: passthrough uretprobe
/// systemcall without filtering") no filter sees it; 6.11 was never mended.
/// Distributions number their builds after the upstream release (`6.12.9-amd64`, `6.11.0-26-generic`); one that mended
/// an older number by itself is refused too, which costs speed, not correctness. What cannot be read is refused.
pub fn uretprobe_hazard(release: &str) -> Option<&'static str> {
    const KILLS: &str =
        "return probes kill programs under seccomp on Linux 6.11, 6.12.0 to 6.12.13 and 6.13.0 to 6.13.2";
    let Some((major, minor, patch)) = version(release) else {
        return Some("the kernel's release is not understood, so return probes are not trusted");
    };
    match (major, minor, patch) {
        (6, 11, _) | (6, 12, 0..=13) | (6, 13, 0..=2) => Some(KILLS),
        _ => None,
    }
}

/// Why denied callers must not be answered: up to these releases a verdict program works on a packet that others hold, too, and
/// writing to it can stop the kernel (mended by "bpf, sockmap: Pass skb ownership through `read_skb`"). Debian's builds say
/// their upstream release in `/proc/version` only.
pub fn verdict_hazard(release: &str, version_text: &str) -> Option<&'static str> {
    const SHARED: &str =
        "this kernel's socket verdicts cannot be trusted with a packet: 6.1.32, 6.3.6 or later is needed";
    let debian = version_text.split_once("Debian ").and_then(|(_, rest)| version(rest));
    match debian.or_else(|| version(release)) {
        Some((0..=5, ..) | (6, 0 | 2, _) | (6, 1, 0..=31) | (6, 3, 0..=5)) | None => Some(SHARED),
        Some(_) => None,
    }
}

/// Major, minor and patch number; a missing patch number (`6.13-rc4`) is 0.
fn version(release: &str) -> Option<(u32, u32, u32)> {
    let (major, rest) = release.split_once('.')?;
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (minor, rest) = rest.split_at(digits(rest));
    let patch = match rest.strip_prefix('.') {
        Some(rest) => rest.get(..digits(rest))?.parse().unwrap_or(0),
        None => 0,
    };
    Some((major.parse().ok()?, minor.parse().ok()?, patch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_trusted_from_the_mended_release_on() {
        let debian = "Linux version 6.1.0-38-amd64 (x) #1 SMP PREEMPT_DYNAMIC Debian 6.1.147-1 (2025-08-02)";
        for (release, text) in
            [("6.18.44-x", ""), ("6.1.0-38-amd64", debian), ("6.1.32", ""), ("6.12.9+deb13", "")]
        {
            assert_eq!(verdict_hazard(release, text), None, "{release}");
        }
        let old = debian.replace("6.1.147", "6.1.27");
        for (release, text) in
            [("6.1.0-9-amd64", &*old), ("6.2.16", ""), ("6.3.5", ""), ("5.15.0-1", ""), ("odd", "")]
        {
            assert!(verdict_hazard(release, text).is_some(), "{release}");
        }
    }

    #[test]
    fn only_the_faulty_releases_are_refused() {
        for faulty in [
            "6.11.0-26-generic",
            "6.11",
            "6.11.11",
            "6.12.0",
            "6.12.12+bpo-amd64",
            "6.12.13",
            "6.12.9-amd64",
            "6.13-rc4",
            "6.13.0",
            "6.13.2-arch1-1",
            "strange",
            "",
            "6",
            "6.x",
        ] {
            assert!(uretprobe_hazard(faulty).is_some(), "{faulty}");
        }
        for sound in [
            "5.15.0-91-generic",
            "6.1.0-13-amd64",
            "6.10.14",
            "6.12.14",
            "6.12.48+deb13-amd64",
            "6.13.3",
            "6.14.0-rc3",
            "6.18.44",
            "7.0.0",
        ] {
            assert_eq!(uretprobe_hazard(sound), None, "{sound}");
        }
    }
}
