//! Values that the daemon gives the kernel side at load, and map keys and values that both read.

use core::mem::size_of;

/// Load-time values: kernel field offsets from the running kernel's BTF, and the daemon's choices.
///
/// Offsets are in bytes from the start of the named structure.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// `sock.__sk_common.skc_family` (u16).
    pub sock_family: u32,
    /// `sock.__sk_common.skc_num`, local port in host order (u16).
    pub sock_num: u32,
    /// `sock.__sk_common.skc_dport`, remote port in network order (u16).
    pub sock_dport: u32,
    /// `sock.__sk_common.skc_daddr` (u32, network order).
    pub sock_daddr: u32,
    /// `sock.__sk_common.skc_rcv_saddr` (u32, network order).
    pub sock_saddr: u32,
    /// `sock.__sk_common.skc_v6_daddr` (16 bytes).
    pub sock_daddr6: u32,
    /// `sock.__sk_common.skc_v6_rcv_saddr` (16 bytes).
    pub sock_saddr6: u32,
    /// `sock.__sk_common.skc_net.net` (pointer).
    pub sock_net: u32,
    /// `sock.sk_type` (u16).
    pub sock_type: u32,
    /// `sock.__sk_common.skc_bound_dev_if` (i32).
    pub sock_device: u32,
    /// `sock.sk_peer_pid` (pointer to `struct pid`).
    pub sock_peer_pid: u32,
    /// `sock.sk_peer_cred` (pointer to `struct cred`).
    pub sock_peer_cred: u32,
    /// `socket.sk` (pointer).
    pub socket_sk: u32,
    /// `net.ns.inum` (u32).
    pub net_inum: u32,
    /// `cred.uid` (u32), also its `euid` is not used: peers are told by real uid like `SO_PEERCRED`.
    pub cred_uid: u32,
    /// `pid.numbers[0].nr` (i32).
    pub pid_nr: u32,
    /// `task_struct.group_leader` (pointer).
    pub task_group_leader: u32,
    /// `task_struct.start_boottime` (u64, ns).
    pub task_start: u32,
    /// `task_struct.real_parent` (pointer).
    pub task_parent: u32,
    /// `task_struct.tgid` (i32).
    pub task_tgid: u32,
    /// `task_struct.signal` (pointer).
    pub task_signal: u32,
    /// `task_struct.exit_code` (i32).
    pub task_exit_code: u32,
    /// `signal_struct.live` (atomic i32).
    pub signal_live: u32,
    /// `linux_binprm.filename` (pointer to a string).
    pub binprm_filename: u32,
    /// `task_struct.files` (pointer).
    pub task_files: u32,
    /// `files_struct.fdt` (pointer).
    pub files_fdt: u32,
    /// `fdtable.fd` (pointer to an array of file pointers).
    pub fdtable_fd: u32,
    /// `fdtable.max_fds` (u32).
    pub fdtable_max: u32,
    /// `file.f_op` (pointer); `private_data` is a socket only when it equals `socket_file_ops`.
    pub file_private: u32,
    /// `socket.file` (pointer back to the file), to tell a socket's file from any other.
    pub socket_file: u32,
    /// `sock.sk_protocol` (u16).
    pub sock_protocol: u32,
    /// `tcp_sock.bytes_received` (u64).
    pub tcp_received: u32,
    /// `tcp_sock.bytes_sent` (u64).
    pub tcp_sent: u32,
    /// `tcp_sock.bytes_acked` (u64).
    pub tcp_acked: u32,
    /// `tcp_sock.rcv_nxt` (u32).
    pub tcp_rcv_nxt: u32,
    /// `tcp_sock.copied_seq` (u32).
    pub tcp_copied_seq: u32,
    /// `tcp_sock.write_seq` (u32).
    pub tcp_write_seq: u32,
    /// `tcp_sock.snd_una` (u32).
    pub tcp_snd_una: u32,
    /// `task_struct.mm` (pointer).
    pub task_mm: u32,
    /// `mm_struct.exe_file` (pointer).
    pub mm_exe_file: u32,
    /// `file.f_inode` (pointer).
    pub file_inode: u32,
    /// `inode.i_ino` (u64).
    pub inode_number: u32,
    /// `inode.i_sb` (pointer).
    pub inode_sb: u32,
    /// `super_block.s_dev` (u32: major << 20 | minor).
    pub sb_dev: u32,
    /// `msghdr.msg_iter.count` (u64): bytes that a send has still to take.
    pub msg_left: u32,
    /// `sock.__sk_common.skc_state` (u8).
    pub sock_state: u32,
    /// `tcp_sock.inet_conn.icsk_ack.lrcvtime` (u32, jiffies).
    pub tcp_received_at: u32,
    /// `tcp_sock.lsndtime` (u32, jiffies).
    pub tcp_sent_at: u32,
    /// `sock.sk_socket` (pointer).
    pub sock_socket: u32,
    /// `file.f_flags` (u32).
    pub file_flags: u32,
    /// `sock.sk_uid` (u32): whose socket it is.
    pub sock_uid: u32,
    /// Number of excluded executables.
    pub excluded: u32,
    /// The daemon's own process: its sockets are never observed.
    pub own_tgid: u32,
    /// 1 when TLS libraries are probed.
    pub tls: u32,
    /// Number of rings less one; the number is a power of two. A CPU's ring is its number under this mask.
    pub ring_mask: u32,
}

/// Most rings: CPUs beyond that share.
pub const RINGS_MAX: usize = 16;

impl Config {
    /// What the object file holds before the daemon sets the values: every word differs from zero and from every other,
    /// so the compiler can neither merge nor fold them.
    pub const UNSET: Self = {
        let mut words = [0u32; size_of::<Self>() / 4];
        let mut at = 0;
        while at < words.len() {
            words[at] = 0x7000_0001 + at as u32;
            at += 1;
        }
        // SAFETY: the struct is `repr(C)` and holds u32 only, as many as the array.
        unsafe { core::mem::transmute::<[u32; size_of::<Self>() / 4], Self>(words) }
    };
}

/// A listener whose callers are answered when they are denied.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListenerKey {
    /// Its address as two words in memory order (IPv4 mapped), zero for any.
    pub address: [u64; 2],
    /// Its port.
    pub port: u64,
}

/// An end of connections at which HTTP is served. Whose socket it is belongs to it: a port that is free can be anybody's next.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServedKey {
    /// Its address as two words in memory order (IPv4 mapped).
    pub address: [u64; 2],
    /// Network namespace.
    pub netns: u32,
    /// User.
    pub uid: u32,
    /// Port.
    pub port: u64,
}

/// Key of the exact per-identity counters.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdentityKey {
    /// Fingerprint of the credential, or of the client's address when `cred` is `NONE`.
    pub fp: u64,
    /// One of [`crate::event::cred`].
    pub cred: u32,
    /// One of [`crate::event::role`].
    pub role: u32,
}

/// Value of the exact per-identity counters.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdentityCount {
    /// Requests whose head was complete.
    pub requests: u64,
}

/// Key of an executable.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileKey {
    /// Inode number.
    pub inode: u64,
    /// Device as the kernel keeps it: major << 20 | minor.
    pub device: u32,
    /// Zero.
    pub pad: u32,
}

/// Key of the state of a TLS connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TlsKey {
    /// Address of the library's connection object (`SSL *`).
    pub ssl: u64,
    /// Process.
    pub tgid: u32,
    /// Zero.
    pub pad: u32,
}

/// What a TLS probe's attach cookie says.
pub mod tls_site {
    /// The call reads (else it writes).
    pub const READ: u64 = 1;
    /// The byte count is stored through the 4th argument, and 1 means success.
    pub const OUT_ARG4: u64 = 2;
    /// The byte count is stored through the 5th argument, and 1 means success.
    pub const OUT_ARG5: u64 = 4;
    /// The number of the site's library from this bit on: its connections are taken up once all its sites are probed.
    pub const SET_SHIFT: u32 = 3;
}
