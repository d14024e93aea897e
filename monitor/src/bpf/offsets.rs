//! Offsets of kernel structure fields, from the running kernel's BTF.

use anyhow::{Context as _, Result, bail};
use btf_rs::{Btf, Struct, Type};
use monitor_common::kernel::Config;

use super::hooks::SocketHook;

/// Where the kernel publishes its types.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The kernel's types, read once at start.
pub fn vmlinux() -> Result<Btf> {
    let bytes = std::fs::read(VMLINUX).with_context(|| {
        format!("cannot read {VMLINUX}: Weir needs a kernel built with CONFIG_DEBUG_INFO_BTF (Debian's and Ubuntu's are)")
    })?;
    Btf::from_bytes(&bytes).with_context(|| format!("cannot parse {VMLINUX}"))
}

/// What the kernel's types say.
pub struct Found {
    /// Offsets.
    pub config: Config,
    /// Form of the socket hook to try first.
    pub socket_hook: SocketHook,
}

impl Found {
    /// Reads the types, keeps what is needed.
    pub fn read() -> Result<Self> {
        let types = vmlinux()?;
        Ok(Self { config: config(&types)?, socket_hook: SocketHook::available(&types) })
    }
}

/// Every offset that the kernel side needs. Fields that only the daemon decides are left at 0.
pub fn config(btf: &Btf) -> Result<Config> {
    let of = |structure: &str, path: &str| offset(btf, structure, path);
    Ok(Config {
        sock_family: of("sock", "__sk_common.skc_family")?,
        sock_num: of("sock", "__sk_common.skc_num")?,
        sock_dport: of("sock", "__sk_common.skc_dport")?,
        sock_daddr: of("sock", "__sk_common.skc_daddr")?,
        sock_saddr: of("sock", "__sk_common.skc_rcv_saddr")?,
        sock_daddr6: of("sock", "__sk_common.skc_v6_daddr")?,
        sock_saddr6: of("sock", "__sk_common.skc_v6_rcv_saddr")?,
        sock_net: of("sock", "__sk_common.skc_net.net")?,
        sock_type: of("sock", "sk_type")?,
        sock_device: of("sock", "__sk_common.skc_bound_dev_if")?,
        sock_peer_pid: of("sock", "sk_peer_pid")?,
        sock_peer_cred: of("sock", "sk_peer_cred")?,
        socket_sk: of("socket", "sk")?,
        net_inum: of("net", "ns.inum")?,
        cred_uid: of("cred", "uid")?,
        pid_nr: of("pid", "numbers.nr")?,
        task_group_leader: of("task_struct", "group_leader")?,
        task_start: of("task_struct", "start_boottime")?,
        task_parent: of("task_struct", "real_parent")?,
        task_tgid: of("task_struct", "tgid")?,
        task_signal: of("task_struct", "signal")?,
        task_exit_code: of("task_struct", "exit_code")?,
        signal_live: of("signal_struct", "live")?,
        binprm_filename: of("linux_binprm", "filename")?,
        task_files: of("task_struct", "files")?,
        files_fdt: of("files_struct", "fdt")?,
        fdtable_fd: of("fdtable", "fd")?,
        fdtable_max: of("fdtable", "max_fds")?,
        file_private: of("file", "private_data")?,
        socket_file: of("socket", "file")?,
        sock_protocol: of("sock", "sk_protocol")?,
        tcp_received: of("tcp_sock", "bytes_received")?,
        tcp_sent: of("tcp_sock", "bytes_sent")?,
        tcp_acked: of("tcp_sock", "bytes_acked")?,
        tcp_rcv_nxt: of("tcp_sock", "rcv_nxt")?,
        tcp_copied_seq: of("tcp_sock", "copied_seq")?,
        tcp_write_seq: of("tcp_sock", "write_seq")?,
        tcp_snd_una: of("tcp_sock", "snd_una")?,
        task_mm: of("task_struct", "mm")?,
        mm_exe_file: of("mm_struct", "exe_file")?,
        file_inode: of("file", "f_inode")?,
        inode_number: of("inode", "i_ino")?,
        inode_sb: of("inode", "i_sb")?,
        sb_dev: of("super_block", "s_dev")?,
        sock_state: of("sock", "__sk_common.skc_state")?,
        tcp_received_at: of("tcp_sock", "inet_conn.icsk_ack.lrcvtime")?,
        tcp_sent_at: of("tcp_sock", "lsndtime")?,
        sock_socket: of("sock", "sk_socket")?,
        file_flags: of("file", "f_flags")?,
        sock_uid: of("sock", "sk_uid")?,
        msg_left: of("msghdr", "msg_iter")? + of("iov_iter", "count")?,
        excluded: 0,
        own_tgid: 0,
        tls: 0,
        ring_mask: 0,
    })
}

/// Whether the kernel has a type of this name (`btf_trace_sock_recv_length`, `tcp_sendpage`, ...).
pub fn has(btf: &Btf, name: &str) -> bool {
    btf.resolve_ids_by_name(name).is_ok()
}

/// Offset in bytes of `path` (members separated by dots, array elements are the first one) in `structure`.
fn offset(btf: &Btf, structure: &str, path: &str) -> Result<u32> {
    let found =
        btf.resolve_types_by_name(structure).ok().into_iter().flatten().find_map(|found| match found {
            Type::Struct(found) => Some(found),
            _ => None,
        });
    let Some(mut current) = found else { bail!("the kernel's BTF has no struct {structure}") };
    let mut bits = 0;
    let mut members = path.split('.').peekable();
    while let Some(name) = members.next() {
        let Some((at, member)) = member(btf, &current, name, 0)? else {
            bail!("the kernel's struct {structure} has no member {path}: this kernel is not supported")
        };
        bits += at;
        if members.peek().is_some() {
            let Some(inner) = aggregate(btf, member)? else {
                bail!("{structure}.{path}: {name} is no structure")
            };
            current = inner;
        }
    }
    if bits % 8 != 0 {
        bail!("{structure}.{path} is a bit field");
    }
    Ok(bits / 8)
}

/// Bit offset and type of a member, searched through anonymous structures and unions.
fn member(btf: &Btf, structure: &Struct, name: &str, depth: u32) -> Result<Option<(u32, Type)>> {
    for member in &structure.members {
        let found = btf.resolve_name(member).unwrap_or_default();
        if found == name {
            return Ok(Some((member.bit_offset(), btf.resolve_chained_type(member)?)));
        }
        if found.is_empty() && depth < 8 {
            let Some(inner) = aggregate(btf, btf.resolve_chained_type(member)?)? else { continue };
            if let Some((at, type_)) = self::member(btf, &inner, name, depth + 1)? {
                return Ok(Some((member.bit_offset() + at, type_)));
            }
        }
    }
    Ok(None)
}

/// The structure or union behind typedefs, qualifiers and arrays.
fn aggregate(btf: &Btf, mut from: Type) -> Result<Option<Struct>> {
    for _ in 0..16 {
        from = match from {
            Type::Struct(found) | Type::Union(found) => return Ok(Some(found)),
            Type::Typedef(next) => btf.resolve_chained_type(&next)?,
            Type::Const(next) | Type::Volatile(next) | Type::Restrict(next) => {
                btf.resolve_chained_type(&next)?
            }
            Type::Array(next) => btf.resolve_chained_type(&next)?,
            _ => return Ok(None),
        };
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_this_kernel_are_found_and_plausible() {
        let Ok(btf) = vmlinux() else {
            eprintln!("skipped: this kernel has no BTF");
            return;
        };
        let config = config(&btf).expect("offsets");
        // include/net/sock.h: the first members of sock_common are the addresses and ports, in this order
        assert_eq!(config.sock_daddr, 0);
        assert_eq!(config.sock_saddr, 4);
        assert_eq!(config.sock_dport, 12);
        assert_eq!(config.sock_num, 14);
        assert_eq!(config.sock_family, 16);
        assert!(config.task_start > 1000);
        assert!(offset(&btf, "sock", "no_such_member").is_err());
        assert!(has(&btf, "tcp_sendmsg") && !has(&btf, "no_such_function"));
    }
}
