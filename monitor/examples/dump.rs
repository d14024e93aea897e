use monitor::bpf::*;
fn main() {
    let t = std::time::Instant::now();
    let o = Options {
        ring_bytes: 16 << 20,
        own_port: 0,
        tls: std::env::var("TLS").is_ok(),
        exclude: vec![],
        headers: vec!["authorization".into(), "x-api-key".into(), "api-key".into(), "x-auth-token".into()],
        query_keys: vec![],
        cookies: vec![],
        key: [1, 2],
    };
    let mut s = match Sensor::start(&o) {
        Ok(s) => s,
        Err(e) => {
            println!("{e:#}");
            let mut x: Option<&dyn std::error::Error> = Some(e.as_ref());
            while let Some(y) = x {
                println!(
                    "-- {}",
                    y.to_string()
                        .lines()
                        .rev()
                        .take(30)
                        .collect::<Vec<_>>()
                        .into_iter()
                        .rev()
                        .collect::<Vec<_>>()
                        .join("\n")
                );
                x = y.source();
            }
            return;
        }
    };
    println!("started in {:?}", t.elapsed());
    for i in s.program_sizes() {
        println!("{i:?}");
    }
    for h in s.hooks() {
        println!("{h:?}");
    }
    let t = std::time::Instant::now();
    let secs: u64 = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(5);
    let verbose = std::env::args().nth(2).is_some();
    let mut n = 0;
    while t.elapsed().as_secs() < secs {
        s.maintain();
        n += s.drain(&mut |r| {
            if verbose {
                match monitor_common::event::decode(r) {
                    Ok(monitor_common::event::Event::Request(r, b)) => {
                        println!("{r:?} {:?}", String::from_utf8_lossy(b))
                    }
                    Ok(monitor_common::event::Event::Exec(r, b)) => {
                        println!("{r:?} {:?}", String::from_utf8_lossy(b))
                    }
                    Ok(e) => println!("{e:?}"),
                    Err(e) => println!("{e:?}"),
                }
            }
        });
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    println!("records {n} ledger {:?}", s.ledger().unwrap());
    for i in s.identity_counts() {
        println!("{i:?}");
    }
}
