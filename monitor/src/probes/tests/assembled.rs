//! Plans of hand-assembled functions: what compilers make of OpenSSL, and what must not be mistaken for it.

use proptest::prelude::*;

use super::builder::{BASE, Builder, Code};
use crate::probes::{Abi, OutReg, Placement, Plan, PlanError, Role, Site, plan};

const READ: u64 = BASE + 0x1000;
const READ_EX: u64 = BASE + 0x1100;
const WRITE: u64 = BASE + 0x1200;
const WRITE_EX: u64 = BASE + 0x1300;
const WRITE_EX2: u64 = BASE + 0x1400;
const PEEK: u64 = BASE + 0x1500;
const HIDDEN: u64 = BASE + 0x1600;
const HIDDEN_WRITE: u64 = BASE + 0x1700;
const STUB: u64 = BASE + 0x1800;
const ERROR: u64 = BASE + 0x1900;
const SLOT: u64 = BASE + 0x9000;

const SUB_RSP_18: &[u8] = &[0x48, 0x83, 0xec, 0x18];
const SUB_RSP_8: &[u8] = &[0x48, 0x83, 0xec, 0x08];
const ADD_RSP_18: &[u8] = &[0x48, 0x83, 0xc4, 0x18];
const ADD_RSP_8: &[u8] = &[0x48, 0x83, 0xc4, 0x08];
const TEST_EDX: &[u8] = &[0x85, 0xd2];
const TEST_EAX: &[u8] = &[0x85, 0xc0];
const MOV_RCX_RSP: &[u8] = &[0x48, 0x89, 0xe1];
const LEA_RCX_STACK: &[u8] = &[0x48, 0x8d, 0x4c, 0x24, 0x08];
const LEA_R8_STACK: &[u8] = &[0x4c, 0x8d, 0x44, 0x24, 0x08];
const MOV_R8_RCX: &[u8] = &[0x49, 0x89, 0xc8];
const XOR_ECX: &[u8] = &[0x31, 0xc9];
const MOVSXD_RDX: &[u8] = &[0x48, 0x63, 0xd2];
const MOV_RSI_RDI: &[u8] = &[0x48, 0x89, 0xfe];
const JLE_PAST_3: &[u8] = &[0x7e, 0x03];
const MOV_EAX_STACK: &[u8] = &[0x8b, 0x04, 0x24];
const CMOVG_EAX: &[u8] = &[0x0f, 0x4f, 0x44, 0x24, 0x08];
const MOV_EDX_0: &[u8] = &[0xba, 0, 0, 0, 0];
const CMOVS_EAX_EDX: &[u8] = &[0x0f, 0x48, 0xc2];
const PUSH_R13: &[u8] = &[0x41, 0x55];
const ENDBR: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];
const RET: &[u8] = &[0xc3];

/// `SSL_read` or `SSL_write` as GCC makes them: the address of the count in `out`, a jump over the error path.
fn plain(at: u64, out: &[u8], hidden: u64) -> Code {
    let good = [out, MOVSXD_RDX].concat();
    let skip = (good.len() + 5 + TEST_EAX.len() + CMOVG_EAX.len() + ADD_RSP_18.len() + 1) as u8;
    let code = Code::at(at).raw(SUB_RSP_18).raw(TEST_EDX).raw(&[0x78, skip]).raw(&good).call(hidden);
    code.raw(TEST_EAX).raw(CMOVG_EAX).raw(ADD_RSP_18).raw(RET).call(ERROR).raw(ADD_RSP_18).raw(RET)
}

/// An `_ex` function: nothing but the call, and a negative result made 0.
fn ex(at: u64, hidden: u64) -> Code {
    let code = Code::at(at).raw(SUB_RSP_8).call(hidden);
    code.raw(MOV_EDX_0).raw(TEST_EAX).raw(CMOVS_EAX_EDX).raw(ADD_RSP_8).raw(RET)
}

fn hidden(at: u64) -> Code {
    Code::at(at).raw(PUSH_R13).raw(RET)
}

fn base() -> Builder {
    Builder::default()
        .function("", hidden(HIDDEN))
        .function("", hidden(HIDDEN_WRITE))
        .function("", Code::at(ERROR).raw(SUB_RSP_8).raw(RET))
}

fn made(builder: &Builder) -> Plan {
    let bytes = builder.build();
    plan(bytes.as_slice()).unwrap()
}

fn sites(plan: &Plan, role: Role) -> Vec<&Site> {
    plan.with_role(role).collect()
}

/// The only site of `role`, which must be the hidden function at `address`.
fn hidden_site(plan: &Plan, role: Role, address: u64, out: OutReg) -> &Site {
    let [site] = sites(plan, role)[..] else { panic!("{plan}") };
    assert_eq!((site.abi, site.out, site.point.address), (Abi::Internal, Some(out), address), "{plan}");
    assert_eq!(site.point.offset, address - BASE);
    assert_eq!(site.point.placement, Placement::Emulated);
    site
}

/// Symbols that are probed for `role`, none of which is a hidden function.
fn symbols(plan: &Plan, role: Role) -> Vec<&'static str> {
    sites(plan, role)
        .iter()
        .map(|site| {
            assert_ne!(site.abi, Abi::Internal, "{plan}");
            site.symbol
        })
        .collect()
}

#[test]
fn openssl_1_1_and_3_0_share_a_hidden_function_with_the_count_in_rcx() {
    let file = base()
        .function("SSL_read", plain(READ, LEA_RCX_STACK, HIDDEN))
        .function("SSL_read_ex", ex(READ_EX, HIDDEN))
        .function("SSL_write", plain(WRITE, MOV_RCX_RSP, HIDDEN_WRITE))
        .function("SSL_write_ex", ex(WRITE_EX, HIDDEN_WRITE));
    let plan = made(&file);
    let read = hidden_site(&plan, Role::Read, HIDDEN, OutReg::Rcx);
    assert_eq!(read.covers, ["SSL_read", "SSL_read_ex"]);
    let after: Vec<_> =
        read.return_alternative.iter().map(|site| (site.within, site.point.insn.as_str())).collect();
    assert_eq!(after, [("SSL_read", "test (85 c0)"), ("SSL_read_ex", "mov (ba 00 00 00 00)")]);
    hidden_site(&plan, Role::Write, HIDDEN_WRITE, OutReg::Rcx);
}

#[test]
fn an_emulated_instruction_after_the_call_is_preferred() {
    let code = Code::at(READ).raw(SUB_RSP_18).raw(MOV_RCX_RSP).raw(MOVSXD_RDX).call(HIDDEN).raw(TEST_EAX);
    let code = code.raw(JLE_PAST_3).raw(MOV_EAX_STACK).raw(ADD_RSP_18).raw(RET);
    let plan = made(&base().function("SSL_read", code).function("SSL_read_ex", ex(READ_EX, HIDDEN)));
    let site = hidden_site(&plan, Role::Read, HIDDEN, OutReg::Rcx);
    let after = &site.return_alternative[0].point;
    assert_eq!((after.insn.as_str(), after.placement), ("jle (7e 03)", Placement::Emulated));
}

#[test]
fn openssl_3_3_passes_flags_and_the_count_in_r8_through_write_ex2() {
    let write = [XOR_ECX, LEA_R8_STACK].concat();
    for through_plt in [false, true] {
        let to = if through_plt { STUB } else { WRITE_EX2 };
        let file = base()
            .function("SSL_write", plain(WRITE, &write, HIDDEN_WRITE))
            .function("SSL_write_ex", Code::at(WRITE_EX).raw(MOV_R8_RCX).raw(XOR_ECX).jump(to))
            .function("SSL_write_ex2", ex(WRITE_EX2, HIDDEN_WRITE))
            .function("", Code::at(STUB).raw(ENDBR).jump_through(SLOT))
            .slot(SLOT, "SSL_write_ex2");
        let plan = made(&file);
        let site = hidden_site(&plan, Role::Write, HIDDEN_WRITE, OutReg::R8);
        assert_eq!(site.covers, ["SSL_write", "SSL_write_ex", "SSL_write_ex2"]);
        let within: Vec<_> = site.return_alternative.iter().map(|site| site.within).collect();
        assert_eq!(within, ["SSL_write", "SSL_write_ex2"]);
    }
}

#[test]
fn what_peek_shares_is_not_counted() {
    let file = base()
        .function("SSL_read", plain(READ, MOV_RCX_RSP, HIDDEN))
        .function("SSL_read_ex", ex(READ_EX, HIDDEN))
        .function("SSL_peek", plain(PEEK, MOV_RCX_RSP, HIDDEN));
    assert_eq!(symbols(&made(&file), Role::Read), ["SSL_read", "SSL_read_ex"]);
}

#[test]
fn a_hidden_function_is_refused_unless_it_is_proven() {
    let changed = [MOV_RCX_RSP, MOV_RSI_RDI].concat();
    // The buffer is changed on one of two paths that meet before the call.
    let sometimes = [MOV_RCX_RSP, TEST_EDX, &[0x74, 3], MOV_RSI_RDI].concat();
    let no_count = [XOR_ECX, XOR_ECX].concat();
    for out in [&changed, &sometimes, &no_count] {
        let file = base()
            .function("SSL_read", plain(READ, out, HIDDEN))
            .function("SSL_read_ex", ex(READ_EX, HIDDEN));
        assert_eq!(symbols(&made(&file), Role::Read), ["SSL_read", "SSL_read_ex"], "{out:02x?}");
    }
    let elsewhere = base()
        .function("SSL_read", plain(READ, MOV_RCX_RSP, HIDDEN))
        .function("SSL_read_ex", ex(READ_EX, HIDDEN_WRITE));
    assert_eq!(symbols(&made(&elsewhere), Role::Read), ["SSL_read", "SSL_read_ex"]);
    let alone = base().function("SSL_read", plain(READ, MOV_RCX_RSP, HIDDEN));
    let plan = made(&alone);
    assert_eq!(symbols(&plan, Role::Read), ["SSL_read"]);
    let site = sites(&plan, Role::Read)[0];
    assert_eq!((site.abi, site.out, site.point.placement), (Abi::Plain, None, Placement::SingleStepped));
    assert_eq!(site.return_alternative.len(), 2, "{plan}");
}

#[test]
fn a_function_that_calls_another_probed_one_is_not_counted_twice() {
    let file = base()
        .function("SSL_read", Code::at(READ).raw(PUSH_R13).raw(RET))
        .function("SSL_read_ex", ex(READ_EX, READ))
        .function("SSL_write", Code::at(WRITE).raw(PUSH_R13).raw(RET))
        .function("SSL_write_ex", ex(WRITE_EX, STUB))
        .function("", Code::at(STUB).jump_through(SLOT))
        .slot(SLOT, "SSL_write");
    let plan = made(&file);
    assert_eq!(symbols(&plan, Role::Read), ["SSL_read"]);
    assert_eq!(sites(&plan, Role::Read)[0].covers, ["SSL_read", "SSL_read_ex"]);
    assert_eq!(symbols(&plan, Role::Write), ["SSL_write"]);
}

#[test]
fn functions_that_call_each_other_are_still_probed_once() {
    let file = base().function("SSL_read", ex(READ, READ_EX)).function("SSL_read_ex", ex(READ_EX, READ));
    assert_eq!(symbols(&made(&file), Role::Read).len(), 1);
}

#[test]
fn a_landing_pad_is_stepped_over_and_a_return_probe_still_fits() {
    let file = base().function("SSL_read", Code::at(READ).raw(ENDBR).raw(PUSH_R13).raw(RET));
    let plan = made(&file);
    let site = sites(&plan, Role::Read)[0];
    assert_eq!((site.point.address, site.point.placement), (READ + 4, Placement::Emulated));
    let stepped = base().function("SSL_read", Code::at(READ).raw(ENDBR).raw(SUB_RSP_8).raw(RET));
    assert_eq!(sites(&made(&stepped), Role::Read)[0].point.address, READ);
}

#[test]
fn cheap_symbols_are_preferred_to_a_hidden_function_that_is_single_stepped() {
    let dear = Code::at(HIDDEN).raw(SUB_RSP_8).raw(RET);
    let read =
        Code::at(READ).raw(PUSH_R13).raw(SUB_RSP_18).raw(MOV_RCX_RSP).raw(MOVSXD_RDX).call(HIDDEN).raw(RET);
    let read_ex = Code::at(READ_EX).raw(PUSH_R13).call(HIDDEN).raw(RET);
    let file =
        Builder::default().function("", dear).function("SSL_read", read).function("SSL_read_ex", read_ex);
    assert_eq!(symbols(&made(&file), Role::Read), ["SSL_read", "SSL_read_ex"]);
}

#[test]
fn entry_only_probes_move_to_a_cheap_instruction_with_untouched_arguments() {
    let test_rdi: &[u8] = &[0x48, 0x85, 0xff];
    let free = |middle: &[u8]| Code::at(WRITE).raw(middle).raw(&[0x74, 2]).raw(PUSH_R13).raw(RET);
    for (middle, address) in [(test_rdi, WRITE + 3), (&[0x31, 0xff], WRITE), (PUSH_R13, WRITE)] {
        let file = base()
            .function("SSL_read", Code::at(READ).raw(PUSH_R13).raw(RET))
            .function("SSL_free", free(middle));
        assert_eq!(sites(&made(&file), Role::Free)[0].point.address, address, "{middle:02x?}");
    }
}

#[test]
fn loops_garbage_and_ends_of_code_are_survived() {
    let odd: [&[u8]; 6] =
        [&[0xeb, 0xfe], &[0x06, 0x06], &[0x0f], &[], &[0xff, 0xe0], &[0x74, 0xfe, 0xeb, 0xfc]];
    for bytes in odd {
        let file = base().function("SSL_read", Code::at(READ).raw(bytes));
        let plan = plan(file.build().as_slice()).unwrap();
        assert!(plan.sites.iter().all(|site| site.return_alternative.is_empty()), "{bytes:02x?}\n{plan}");
    }
}

#[test]
fn files_without_tls_are_told_apart() {
    assert_eq!(plan(&b"#!/bin/sh\n"[..]), Err(PlanError::NotElf64));
    assert_eq!(plan(base().function("main", hidden(READ)).build().as_slice()), Err(PlanError::NoTls));
    let mut arm = base().function("SSL_read", hidden(READ)).build();
    arm[18] = 183;
    assert_eq!(plan(arm.as_slice()), Err(PlanError::Machine(183)));
    let whole = base().function("SSL_read", hidden(READ)).build();
    for end in 0..whole.len() {
        assert!(plan(&whole[..end]).is_err() || end > 0x1000, "{end}");
    }
}

/// Bytes in which calls, jumps and moves of arguments are frequent.
fn code_like() -> impl Strategy<Value = Vec<u8>> {
    let common: Vec<&'static [u8]> = vec![
        SUB_RSP_18,
        TEST_EDX,
        TEST_EAX,
        MOV_RCX_RSP,
        LEA_RCX_STACK,
        LEA_R8_STACK,
        MOV_R8_RCX,
        MOVSXD_RDX,
        MOV_RSI_RDI,
        PUSH_R13,
        ENDBR,
        RET,
        &[0x74, 0xf0],
        &[0x7e, 0x10],
        &[0xeb, 0xe8],
        &[0xe8, 0, 1, 0, 0],
        &[0xe8, 0xf0, 0xfe, 0xff, 0xff],
        &[0xe9, 0, 1, 0, 0],
        &[0xff, 0x25, 0, 0x10, 0, 0],
    ];
    let piece = prop_oneof![
        9 => proptest::sample::select(common).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 1..8),
    ];
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_code_gives_a_plan_inside_the_file(parts in proptest::collection::vec(code_like(), 6)) {
        let names = ["SSL_read", "SSL_read_ex", "SSL_write", "SSL_write_ex", "SSL_write_ex2", "SSL_peek"];
        let mut file = base().slot(SLOT, "SSL_write_ex2");
        for ((name, bytes), number) in names.into_iter().zip(&parts).zip(0..) {
            // A function of no bytes has an address, but no code.
            file = file.function(name, Code::at(BASE + 0x2000 + 0x1000 * number).raw(bytes));
        }
        let bytes = file.build();
        let plan = plan(bytes.as_slice()).unwrap();
        for site in &plan.sites {
            let points = site.return_alternative.iter().map(|after| &after.point).chain([&site.point]);
            for point in points {
                prop_assert!(point.offset < bytes.len() as u64);
                prop_assert_eq!(point.offset + BASE, point.address);
            }
            prop_assert_eq!(site.abi == Abi::Plain, site.out.is_none());
        }
        // No exported function is counted at two sites.
        for role in [Role::Read, Role::Write] {
            let symbols: Vec<_> = plan.with_role(role).map(|site| site.symbol).collect();
            let unique: std::collections::BTreeSet<_> = symbols.iter().collect();
            prop_assert_eq!(unique.len(), symbols.len());
        }
    }
}
