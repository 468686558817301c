//! Runs on many hosts; one at a time backs up, and stops as soon as it may not be alone any more.
//!
//! `cargo run -p grange-client --example nightly_backup -- zk1:2181,zk2:2181`

use std::error::Error;
use std::time::Duration;

use grange_client::recipes::{FencingToken, Lock};
use grange_client::{ConnectOptions, Servers, close, connect};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let servers = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:2181".to_owned());
    let client = connect(&ConnectOptions::new(Servers::parse(&servers)?)).await?;
    let lock = Lock::new(&client, "/locks/backup".parse()?, &format!("process {}", std::process::id()));
    for contender in lock.contenders().await? {
        let id = contender.id.map(|id| String::from_utf8_lossy(&id).into_owned());
        println!("{} {}", id.unwrap_or(contender.name), if contender.holds { "holds it" } else { "waits" });
    }
    let held = lock.acquire_within(Duration::from_secs(60)).await?;
    let loss = tokio::select! {
        () = back_up(held.token()) => None,
        loss = held.lost() => Some(loss),
    };
    match loss {
        Some(loss) => println!("stopped in the middle: {loss}"),
        None => held.release().await?,
    }
    drop(lock);
    close(client).await;
    Ok(())
}

/// Where the backup goes, the token goes too: a store that has seen a larger one refuses it.
async fn back_up(token: FencingToken) {
    println!("backing up with token {token}");
    // In the place of the backup.
    tokio::time::sleep(Duration::from_secs(1)).await;
}
