//! Runs on many hosts; one leads at a time, each for as long as it can.
//!
//! `cargo run -p grange-client --example leader -- zk1:2181,zk2:2181`

use std::error::Error;
use std::time::Duration;

use grange_client::recipes::{Election, Led};
use grange_client::{ConnectOptions, Servers, connect};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let servers = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:2181".to_owned());
    loop {
        // A session that has ended does not come back: each round begins with a new one.
        let client = connect(&ConnectOptions::new(Servers::parse(&servers)?)).await?;
        let election = Election::new(&client, "/elections/scheduler".parse()?, &std::process::id().to_string());
        let led = election.run(|token| async move {
            println!("leading with token {token}");
            // In the place of what a leader does.
            tokio::time::sleep(Duration::from_secs(10)).await;
        });
        match led.await {
            Ok(Led::Finished(())) => println!("resigned"),
            Ok(Led::Lost(loss)) => println!("deposed: {loss}"),
            Err(error) if error.is_session_end() => println!("a new session is needed: {error}"),
            Err(error) => return Err(error.into()),
        }
    }
}
