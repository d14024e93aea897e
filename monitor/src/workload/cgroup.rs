//! From a cgroup path to the workload it means.

use crate::parser::escape::escape;

/// Longest workload name.
const NAME_CHARS: usize = 128;
/// Digits of a container id that are shown.
const ID_DIGITS: usize = 12;
/// Endings of systemd units that hold processes.
const UNITS: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];

/// `container:ID` or `unit:NAME` for a cgroup path, `None` when it says neither.
///
/// The innermost container wins; a container wins over units around and inside it, because that is what people deploy.
/// Otherwise the innermost unit counts: `user@1000.service/app.slice/web.service` is `unit:web.service`.
pub fn workload(path: &str) -> Option<String> {
    let parts = || path.split('/').filter(|part| !part.is_empty());
    if let Some(id) = parts().rev().find_map(container) {
        return Some(format!("container:{}", escape(id.as_bytes(), NAME_CHARS)));
    }
    let unit =
        parts().rev().find(|part| UNITS.iter().any(|end| part.len() > end.len() && part.ends_with(end)))?;
    Some(format!("unit:{}", escape(unit.as_bytes(), NAME_CHARS)))
}

/// The container that a component of the path names.
fn container(part: &str) -> Option<&str> {
    if let Some(name) = part.strip_prefix("lxc.payload.").or_else(|| part.strip_prefix("lxc.payload/")) {
        return (!name.is_empty()).then_some(name);
    }
    if part.contains("conmon") {
        // podman's and cri-o's monitor runs beside the container, not in it
        return None;
    }
    let part = part.strip_suffix(".scope").unwrap_or(part);
    // `docker-ID`, `cri-containerd-ID`, `crio-ID`, `libpod-ID`, `kubepods-x.slice:cri-containerd:ID`, or just `ID`
    let id = part.rsplit(['-', ':']).next()?;
    let hexadecimal = |id: &str| id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if id.len() == 64 && hexadecimal(id) {
        return id.get(..ID_DIGITS);
    }
    // ECS on Fargate: `<32 digits>-<10 digits>`
    let (task, number) = part.split_once('-')?;
    let fargate = task.len() == 32
        && hexadecimal(task)
        && number.len() >= 8
        && number.bytes().all(|b| b.is_ascii_digit());
    if fargate { part.get(..ID_DIGITS) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "0123456789ab0123456789ab0123456789ab0123456789ab0123456789ab0123";

    #[test]
    fn cgroup_paths() {
        for (path, want) in [
            ("/", ""),
            ("", ""),
            ("/system.slice/nginx.service", "unit:nginx.service"),
            ("/system.slice/system-getty.slice/getty@tty1.service", "unit:getty@tty1.service"),
            ("/user.slice/user-1000.slice/session-3.scope", "unit:session-3.scope"),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/web.service", "unit:web.service"),
            ("/user.slice/user-1000.slice/user@1000.service/init.scope", "unit:init.scope"),
            ("/init.scope", "unit:init.scope"),
            ("/user.slice", ""),
            ("/system.slice/docker.service", "unit:docker.service"),
            ("/system.slice/docker-{ID}.scope", "container:0123456789ab"),
            ("/docker/{ID}", "container:0123456789ab"),
            ("/docker/{ID}/system.slice/nginx.service", "container:0123456789ab"),
            ("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope", "container:0123456789ab"),
            ("/kubepods/besteffort/pod1-2-3/{ID}", "container:0123456789ab"),
            (
                "/system.slice/containerd.service/kubepods-burstable-pod1.slice:cri-containerd:{ID}",
                "container:0123456789ab",
            ),
            ("/kubepods.slice/crio-{ID}.scope", "container:0123456789ab"),
            ("/kubepods.slice/crio-conmon-{ID}.scope", "unit:crio-conmon-{ID}.scope"),
            ("/machine.slice/libpod-{ID}.scope/container", "container:0123456789ab"),
            ("/machine.slice/libpod-conmon-{ID}.scope", "unit:libpod-conmon-{ID}.scope"),
            (
                "/user.slice/user-0.slice/user@0.service/user.slice/libpod-{ID}.scope",
                "container:0123456789ab",
            ),
            (
                "/ecs/0123456789abcdef0123456789abcdef/0123456789abcdef0123456789abcdef-1234567890",
                "container:0123456789ab",
            ),
            ("/lxc.payload.web/system.slice/a.service", "container:web"),
            ("/system.slice/a\x1bb.service", "unit:a\\x1bb.service"),
            ("/.service", ""),
        ] {
            let (path, want) = (path.replace("{ID}", ID), want.replace("{ID}", ID));
            assert_eq!(workload(&path).unwrap_or_default(), want, "{path}");
        }
    }

    proptest! {
        #[test]
        fn names_are_bounded(path in "(/|\\PC|[a-f0-9]{64}|-|:|.scope|.service|conmon){0,40}") {
            if let Some(name) = workload(&path) {
                prop_assert!(name.chars().count() <= NAME_CHARS + 12);
            }
        }
    }
}
