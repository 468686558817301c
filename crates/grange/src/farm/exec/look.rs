//! What a command would wait for.

use anyhow::anyhow;
use grange_client::{Client, close};
use grange_farm::exec::view_now;
use jiff::Zoned;

use super::stand::Judgement;
use super::{Plan, exec_failed};
use crate::connection::connect;
use crate::error::CommandError;
use crate::hold::explained;
use crate::output::Output;
use crate::recipe_error::failed;

/// Prints a line for each condition; the answer is no if one does not hold.
pub(super) async fn look(plan: &Plan<'_>) -> Result<(), CommandError> {
    let client = connect(&plan.options).await?;
    let conditions = conditions(plan, &client).await;
    close(client).await;
    let conditions = conditions?;
    let mut out = Output::new(plan.cx);
    for (holds, text) in &conditions {
        out.line(&format!("{}  {text}", if *holds { "yes" } else { "no " }))?;
    }
    out.finish()?;
    match conditions.iter().all(|(holds, _)| *holds) {
        true => Ok(()),
        false => Err(CommandError::negative(anyhow!("CMD would have to wait")).shown()),
    }
}

async fn conditions(plan: &Plan<'_>, client: &Client) -> Result<Vec<(bool, String)>, CommandError> {
    let hours = &plan.args.allowed_hour_ranges;
    let mut conditions = vec![match hours.contain(Zoned::now().time()) {
        true => (true, format!("it is in the hours {hours}")),
        false => (false, plan.describe_hours()),
    }];
    if let (Some(wanted), Some(path)) = (plan.wanted(client), &plan.lock) {
        let count = plan.args.concurrency.get();
        let held = wanted.held_count().await.map_err(|error| explained(error, "-c"))?;
        conditions.push(match held < count {
            true => (true, format!("{path} is free: {held} of {count} hold it")),
            false => (false, format!("{path} is not free: {}", wanted.holders().await)),
        });
    }
    if plan.args.healthy {
        let view = view_now(client.clone(), plan.place.farm()).await.map_err(failed)?;
        conditions.push(match plan.judge(&view) {
            Judgement::Healthy(how) => (true, format!("the farm is healthy: {how}")),
            Judgement::Unhealthy(why) => (false, format!("the farm is not healthy: {why}")),
            Judgement::Unknown(why) => (false, format!("whether the farm is healthy is not known: {why}")),
        });
    }
    if !plan.args.set.is_empty() {
        let log = plan.log(client)?;
        let holder = log.holder(&plan.fields()).await.map_err(exec_failed)?;
        conditions.push(match holder {
            Some(record) => (false, plan.describe_record(&record)),
            None if !log.has_host().await.map_err(exec_failed)? => {
                (false, format!("{} is not in the farm", plan.host()))
            }
            None => (true, format!("no other run sets the same fields of {}", plan.host())),
        });
    }
    Ok(conditions)
}
