//! Whose budget a request spends: the part of the rule that the kernel side and the replay of recorded requests share.
//!
//! ```text
//! credential of a request -> proven here?  a configured secret, or a server has answered it (`SubjectKey`s of `ACCEPTED`)
//!   rule for each credential   one pays: the first proven one, else the first one
//!                              proven: its bucket; else its bucket and the strangers' bucket of its client
//!   rule of a name, of a role  a member: the rule's bucket, once; who only claims to be one: the strangers' bucket of its client.
//!                              Who is a member by a public name: the rule's bucket of the server's owner, since anybody's server
//!                              may vouch for any name
//!   rule for each client       the client's bucket, whatever the request presents, unless a proven member is an exception
//! ```
//! A request is a stranger's when nothing that it presents is proven. Strangers are bounded by their client's bucket, so inventing
//! credentials buys no more than that one; and they spend nobody else's.

use crate::event::CREDS;

/// No credential.
pub const NOBODY: u32 = u32::MAX;

/// The bucket of the subject, or the only one of the rule.
pub const OWN: u32 = 1;
/// The strangers' bucket of the client.
pub const STRANGERS: u32 = 2;
/// Beside [`OWN`]: the rule has a bucket for each owner of servers that vouch for the name.
pub const OWNER: u32 = 4;

/// Who pays in a rule for each credential, by its place; sets of places are bits. [`NOBODY`] when there are no credentials.
#[inline(always)]
pub const fn payer(presented: u32, proven: u32) -> u32 {
    let among = if presented & proven == 0 { presented } else { presented & proven };
    let mut at = 0;
    while at < CREDS as u32 {
        if among >> at & 1 != 0 {
            return at;
        }
        at += 1;
    }
    NOBODY
}

/// What the one who pays is charged to in a rule for each credential: [`OWN`] and [`STRANGERS`].
#[inline(always)]
pub const fn of_payer(is_proven: bool) -> u32 {
    if is_proven { OWN } else { OWN | STRANGERS }
}

/// What a rule charges for a credential, client or workload that it is for. `claimed`: by a name that is no secret, and not
/// proven. Those of a request that has proven credentials count for nothing.
#[inline(always)]
pub const fn of_member(claimed: bool, proven: u32) -> u32 {
    match (claimed, proven) {
        (false, _) => OWN,
        (true, 0) => STRANGERS,
        (true, _) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_several_credentials_pays() {
        assert_eq!(payer(0, 0), NOBODY);
        assert_eq!(payer(0b0110, 0), 1);
        assert_eq!(payer(0b0110, 0b0100), 2);
        assert_eq!(payer(0b1111, 0b1010), 1);
        // what is not presented does not matter
        assert_eq!(payer(0b0010, 0b0001), 1);
    }

    #[test]
    fn strangers_spend_no_bucket_of_a_name() {
        assert_eq!((of_payer(true), of_payer(false)), (OWN, OWN | STRANGERS));
        assert_eq!((of_member(false, 0), of_member(false, 1)), (OWN, OWN));
        assert_eq!((of_member(true, 0), of_member(true, 1)), (STRANGERS, 0));
    }
}
