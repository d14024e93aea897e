//! Prints the probe plan of each file named on the command line.
#![allow(clippy::print_stdout)]

fn main() -> anyhow::Result<()> {
    for path in std::env::args_os().skip(1) {
        let file = std::fs::File::open(&path)?;
        match monitor::probes::plan_file(&file) {
            Ok(plan) => println!("{}:\n{plan}", path.display()),
            Err(error) => println!("{}: {error}", path.display()),
        }
    }
    Ok(())
}
