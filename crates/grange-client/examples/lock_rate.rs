//! How often a second a lock that nobody else wants is acquired and released, one after the other: for `bench/locks.py`.
//!
//! `cargo run --release -p grange-client --example lock_rate -- HOST:PORT SECONDS` prints the figure.

use std::error::Error;
use std::time::{Duration, Instant};

use grange_client::recipes::Lock;
use grange_client::{ConnectOptions, Servers, close, connect};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [servers, seconds] = arguments.as_slice() else { return Err("usage: lock_rate HOST:PORT SECONDS".into()) };
    let duration = Duration::from_secs_f64(seconds.parse()?);
    let client = connect(&ConnectOptions::new(Servers::parse(servers)?)).await?;
    let lock = Lock::new(&client, "/lock-rate".parse()?, "bench");
    // The first one makes the parent.
    lock.acquire().await?.release().await?;
    let (began, mut count) = (Instant::now(), 0u32);
    while began.elapsed() < duration {
        lock.acquire().await?.release().await?;
        count += 1;
    }
    println!("{:.0}", f64::from(count) / began.elapsed().as_secs_f64());
    drop(lock);
    close(client).await;
    Ok(())
}
