//! Prints the probe plan of each file named on the command line, or of everything that this host uses.
#![allow(clippy::print_stdout)]

use monitor::probes::discover::Scanner;
use monitor::probes::{plan_file, standard};

fn main() -> anyhow::Result<()> {
    for path in std::env::args_os().skip(1) {
        match plan_file(&std::fs::File::open(&path)?) {
            Ok(plan) => println!("{}:\n{plan}", path.display()),
            Err(error) => println!("{}: {error}", path.display()),
        }
    }
    if std::env::args_os().len() == 1 {
        let mut scanner = Scanner::new("/proc");
        let standard = scanner.adopt(&standard::standard_libraries());
        let started = std::time::Instant::now();
        let mapped = scanner.sweep(true);
        println!("first sweep: {:?}, refused {}", started.elapsed(), mapped.refused);
        let started = std::time::Instant::now();
        scanner.sweep(false);
        println!("next sweep: {:?}", started.elapsed());
        for target in standard.new.iter().chain(&mapped.new) {
            let (kind, path) = (target.kind, target.path.display());
            println!("{path} ({kind:?}), used by {:?}\n{}", scanner.users(target.id), target.plan);
        }
    }
    Ok(())
}
