//! Packets that are lost, and come again in other pieces: whoever is not concerned does not notice that others are judged.

use super::*;
use crate::harness::script;

#[test]
fn nobody_hangs_on_a_lossy_network() {
    need!("python3", "unshare", "ip", "nft");
    let _turn = turn();
    let weir = lines::reader("");
    let mut python = Command::new(tool("unshare").unwrap());
    python.arg("--net").arg(tool("python3").unwrap()).arg(script("lossy.py"));
    let said = run(&mut python).ok().out;
    assert_eq!(said.trim(), "160 of 160 answered", "{said}");
    drop(weir);
}
