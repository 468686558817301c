//! Shares out items among all that are given the same ones: prints `acquired ITEM...` when it has its share, and `releasing`
//! before it gives it back. Takes its share when nobody has come or gone for so many seconds. Ends at Ctrl-C.
//!
//! `cargo run -p grange-client --example share_out -- zk1:2181,zk2:2181 /feeds host-a 5 news sport weather`

use std::error::Error;
use std::time::Duration;

use grange_client::recipes::{PartitionState, SetPartitioner};
use grange_client::{ConnectOptions, Servers, connect};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [servers, path, id, seconds, items @ ..] = arguments.as_slice() else {
        return Err("usage: share_out SERVERS PATH ID SECONDS ITEM...".into());
    };
    let client = connect(&ConnectOptions::new(Servers::parse(servers)?)).await?;
    let settling = Duration::try_from_secs_f64(seconds.parse()?)?;
    let set = SetPartitioner::new(&client, path.parse()?, items, id)?.with_settling(settling);
    let mut partition = set.join().await?;
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        match partition.state() {
            PartitionState::Allocating => {}
            PartitionState::Acquired(items) => {
                let names: Vec<_> = items.iter().map(|item| item.name.as_str()).collect();
                println!("acquired {}", names.join(" "));
            }
            PartitionState::Release(_) => {
                println!("releasing");
                partition.release().await?;
                continue;
            }
            PartitionState::Failure(why) => return Err(why.into()),
        }
        tokio::select! {
            () = partition.changed() => {}
            interrupted = &mut interrupt => {
                interrupted?;
                break;
            }
        }
    }
    println!("releasing");
    partition.finish().await?;
    Ok(())
}
