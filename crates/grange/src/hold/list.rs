//! Who holds it and who waits.

use grange_client::ZnodePath;
use grange_client::recipes::{Contender, LockError};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Wanted;
use crate::context::Context;
use crate::error::CommandError;
use crate::output::{Output, harmless_line};

const HEADS: [&str; 6] = ["STATE", "KIND", "SINCE", "TOKEN", "ID", "ZNODE"];

/// How many holders a message names.
const NAMED_MAX: usize = 3;

/// Shows the contenders as a table, first one first, or as one JSON object.
pub(super) async fn show(cx: &Context, path: &ZnodePath, wanted: &Wanted, json: bool) -> Result<(), CommandError> {
    let (leases_max, contenders) = contenders(wanted).await.map_err(CommandError::failure)?;
    let mut out = Output::new(cx);
    if json {
        let mut object = json!({
            "path": path.as_str(),
            "contenders": contenders.iter().map(object).collect::<Vec<_>>(),
        });
        if matches!(wanted, Wanted::Lease(_)) {
            object["leases_max"] = json!(leases_max);
        }
        out.json(&object)?;
    } else if !contenders.is_empty() {
        let rows: Vec<_> = std::iter::once(HEADS.map(str::to_owned)).chain(contenders.iter().map(row)).collect();
        let widths = (0..HEADS.len()).map(|column| rows.iter().map(|row| row[column].chars().count()).max());
        let widths: Vec<_> = widths.map(Option::unwrap_or_default).collect();
        for row in &rows {
            let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
            out.line(cells.join("  ").trim_end())?;
        }
    }
    out.finish()
}

/// Says in one line who holds it, as far as that can be found out.
pub(super) async fn holders(wanted: &Wanted) -> String {
    let Ok((_, contenders)) = contenders(wanted).await else { return "who holds it is not known".to_owned() };
    let holders: Vec<_> = contenders.iter().filter(|contender| contender.holds).collect();
    let mut names: Vec<_> = holders.iter().take(NAMED_MAX).map(|holder| name(holder)).collect();
    match holders.len().saturating_sub(NAMED_MAX) {
        0 => {}
        more => names.push(format!("{more} more")),
    }
    match names.len() {
        0 => "nobody holds it any more".to_owned(),
        1 => format!("{} holds it", names[0]),
        _ => format!("{} hold it", names.join(", ")),
    }
}

/// Returns how many hold it.
pub(super) async fn held_count(wanted: &Wanted) -> Result<u32, LockError> {
    let (_, contenders) = contenders(wanted).await?;
    Ok(u32::try_from(contenders.iter().filter(|contender| contender.holds).count()).unwrap_or(u32::MAX))
}

/// Returns the contenders in order, and the number of leases of a semaphore.
async fn contenders(wanted: &Wanted) -> Result<(Option<u32>, Vec<Contender>), LockError> {
    match wanted {
        Wanted::Lock(lock) => Ok((None, lock.contenders().await?)),
        Wanted::Lead(election) => Ok((None, election.contenders().await?)),
        Wanted::Lease(semaphore) => {
            let used = semaphore.contenders().await?;
            Ok((used.leases_max, used.holders.into_iter().chain(used.waiting).collect()))
        }
    }
}

fn id(contender: &Contender) -> Option<String> {
    contender.id.as_ref().map(|id| String::from_utf8_lossy(id).into_owned())
}

/// What a person knows a contender by, fit for a terminal.
fn name(contender: &Contender) -> String {
    harmless_line(&id(contender).filter(|id| !id.is_empty()).unwrap_or_else(|| contender.name.clone()))
}

fn since(contender: &Contender) -> Option<String> {
    let time = Timestamp::from_millisecond(contender.since_ms).ok()?;
    Some(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn row(contender: &Contender) -> [String; HEADS.len()] {
    [
        if contender.holds { "holds" } else { "waits" }.to_owned(),
        contender.role.to_string(),
        since(contender).unwrap_or_else(|| "-".to_owned()),
        contender.token.to_string(),
        id(contender).filter(|id| !id.is_empty()).unwrap_or_else(|| "-".to_owned()),
        contender.name.clone(),
    ]
}

fn object(contender: &Contender) -> Value {
    json!({
        "holds": contender.holds,
        "kind": contender.role.to_string(),
        "since": since(contender),
        "token": contender.token,
        "id": id(contender),
        "znode": contender.name,
        "session": format!("{:#x}", contender.session),
    })
}
