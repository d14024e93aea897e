//! The verifier's budget: a program that grows past it starts slowly, and one day not at all (the kernel's own limit is 1,000,000
//! instructions a program, `BPF_COMPLEXITY_LIMIT_INSNS`).

use std::process::Command;

use monitor::bpf::budget::{Use, Verified};

use crate::harness::process::run;
use crate::harness::weir::binary;
use crate::harness::{note, turn};

/// Most verified instructions of one program.
const PROGRAM: u32 = 70_000;
/// Most of all that are loaded to observe. Without tracepoints in the socket calls (6.1) five programs have the framing instead
/// of three, some 330,000, of which the rule of charging (who is proven, which buckets a request spends) is a tenth.
const OBSERVE: u32 = 250_000;
const OBSERVE_BY_FUNCTION: u32 = 345_000;
/// Most of all.
const ALL: u32 = 700_000;

#[test]
fn programs_stay_within_the_verifiers_budget() {
    let _turn = turn();
    let done = run(Command::new(binary()).args(["bench-programs", "--json"]));
    let programs: Vec<Verified> =
        done.out.lines().map(|line| serde_json::from_str(line).expect("a line for each program")).collect();
    assert!(done.status.success(), "a program was refused:\n{}\n{}", done.out, done.err);
    let sum = |which: &dyn Fn(&Verified) -> bool| -> u32 {
        programs.iter().filter(|program| which(program)).map(|program| program.instructions).sum()
    };
    let observing = sum(&|program| program.r#use == Use::Observe);
    let all = sum(&|_| true);
    let largest = programs.iter().max_by_key(|program| program.instructions).expect("programs");
    let took = programs.iter().map(|program| program.load_us).sum::<u64>();
    note(&format!(
        "verified instructions: observing {observing}, all {all}, largest {} with {}; loaded one by one in {} ms",
        largest.program,
        largest.instructions,
        took / 1000
    ));
    assert!(largest.instructions > 10_000, "the framing is not in it: {largest:?}");
    assert!(largest.instructions <= PROGRAM, "{largest:?}");
    let by_function = programs.iter().any(|program| program.program == "tcp_recv");
    let most = if by_function { OBSERVE_BY_FUNCTION } else { OBSERVE };
    assert!(observing <= most && all <= ALL, "{programs:#?}");
}
