//! Fills a queue up to a length, then takes and finishes some items, and prints both rates: what `bench/queues.py` runs.
//!
//! `queue_speed HOST:PORT PATH LENGTH COUNT TAKERS`

use std::time::Instant;

use grange_client::recipes::{LockingQueue, Priority, batches};
use grange_client::{ConnectOptions, Servers, close, connect};
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [servers, path, length, count, takers] = arguments.as_slice() else {
        return Err("usage: queue_speed HOST:PORT PATH LENGTH COUNT TAKERS".into());
    };
    let (length, count, takers): (usize, usize, usize) = (length.parse()?, count.parse()?, takers.parse()?);
    let client = connect(&ConnectOptions::new(Servers::parse(servers)?)).await?;
    let queue = LockingQueue::open(client.clone(), path.parse()?).await?;
    let missing = length.saturating_sub(queue.len().await?);
    let items = vec![[b'x'; 100]; missing];
    let began = Instant::now();
    for batch in batches(&items) {
        queue.put_all(batch, Priority::default()).await?;
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate is rounded when it is printed")]
    let rate = |count: usize, began: Instant| count as f64 / began.elapsed().as_secs_f64();
    println!("put {missing} in batches: {:.0}/s", rate(missing, began));
    let began = Instant::now();
    for _ in 0..count {
        queue.put(&[b'x'; 100], Priority::default()).await?;
    }
    println!("put one by one: {:.0}/s", rate(count, began));
    // What is known by now is what a taker listed when it began, and was told since.
    queue.take().await?.ok_or("there is nothing")?.consume().await?;
    let began = Instant::now();
    let mut jobs = JoinSet::new();
    for _ in 0..takers {
        let queue = queue.clone();
        jobs.spawn(async move {
            for _ in 0..count / takers {
                let Some(item) = queue.take_until(None).await? else { break };
                item.consume().await?;
            }
            Ok::<_, grange_client::recipes::RecipeError>(())
        });
    }
    while let Some(ended) = jobs.join_next().await {
        ended??;
    }
    println!("take and finish, {takers} at a time: {:.0}/s", rate(count / takers * takers, began));
    drop(queue);
    close(client).await;
    Ok(())
}
