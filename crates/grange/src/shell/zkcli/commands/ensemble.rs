//! config and reconfig.

use std::fs;

use grange_client::ensemble::Members;
use grange_proto::Request;
use grange_proto::request::{Reconfig, Watchable};
use grange_proto::response::Response;

use super::{Call, Entry};
use crate::shell::zkcli::failure::Failure;
use crate::shell::zkcli::stat::print_stat;
use crate::shell::zkcli::zk::Interrupted;

/// Where an ensemble keeps its members, whatever the chroot.
const CONFIG_PATH: &str = "/zookeeper/config";

pub(super) async fn config(call: Call<'_>) -> Result<(), Interrupted> {
    let request = Request::GetData(Watchable { path: CONFIG_PATH, watch: call.words.has("w") });
    let reply = call.zk.call(&request).await.map_err(|refusal| refusal.about(CONFIG_PATH))?;
    let Response::Data(data, stat) = reply.response()? else { return Ok(()) };
    let data = data.unwrap_or(b"null");
    let text = if call.words.has("c") { connection_string(data)? } else { String::from_utf8_lossy(data).into_owned() };
    call.zk.printer.text(&text)?;
    if call.words.has("s") {
        print_stat(&mut call.zk.printer, &stat)?;
    }
    Ok(())
}

/// The version and where clients connect to.
fn connection_string(data: &[u8]) -> Result<String, Failure> {
    let members = Members::parse(data).map_err(|error| Failure::plain(error.to_string()))?;
    let version = members.version.map(|version| format!("{version:x}")).unwrap_or_default();
    let addresses: Vec<_> = members
        .servers
        .values()
        .filter_map(|spec| spec.client.as_ref())
        .map(|client| format!("{}:{}", client.host, client.port))
        .collect();
    Ok(format!("{version} {}", addresses.join(",")))
}

pub(super) async fn reconfig(call: Call<'_>, entry: &Entry) -> Result<(), Interrupted> {
    let change = parse(&call.words, entry)?;
    let request = Request::Reconfig(Reconfig {
        joining: change.joining.as_deref(),
        leaving: change.leaving.as_deref(),
        new_members: change.members.as_deref(),
        config_id: change.config_id,
    });
    let reply = call.zk.call(&request).await.map_err(|refusal| refusal.about(""))?;
    let Response::Data(data, stat) = reply.response()? else { return Ok(()) };
    let text = String::from_utf8_lossy(data.unwrap_or_default());
    call.zk.printer.text(&format!("Committed new configuration:\n{text}"))?;
    if call.words.has("s") {
        print_stat(&mut call.zk.printer, &stat)?;
    }
    Ok(())
}

/// The wished change of the members.
struct Change {
    joining: Option<String>,
    leaving: Option<String>,
    members: Option<String>,
    config_id: i64,
}

fn parse(words: &super::Words, entry: &Entry) -> Result<Change, Failure> {
    let is_whole = words.has("file") || words.has("members");
    let is_part = words.has("add") || words.has("remove");
    if !is_whole && !is_part {
        return Err(entry.usage());
    }
    let config_id = match words.value("v") {
        Some(text) => i64::from_str_radix(text, 16)
            .map_err(|_| Failure::plain("-v must be followed by a long (configuration version)"))?,
        None => -1,
    };
    if is_whole && is_part {
        return Err(Failure::plain(
            "Can't use -file or -members together with -add or -remove (mixing incremental and non-incremental modes \
             is not allowed)",
        ));
    }
    if words.has("file") && words.has("members") {
        return Err(Failure::plain("Can't use -file and -members together (conflicting non-incremental modes)"));
    }
    let members = match words.value("file") {
        Some(file) => Some(read_members(file)?),
        None => words.value("members").map(str::to_lowercase),
    };
    Ok(Change {
        joining: words.value("add").map(str::to_lowercase),
        leaving: words.value("remove").map(str::to_lowercase),
        members,
        config_id,
    })
}

/// Reads the lines of servers out of a configuration.
fn read_members(file: &str) -> Result<String, Failure> {
    let wrong = |why: String| Failure::plain(format!("Error processing {file}: {why}"));
    let text = fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let members = Members::parse(&text).map_err(|error| wrong(error.to_string()))?;
    if members.servers.is_empty() {
        return Err(wrong("there is no line server.N in it".to_owned()));
    }
    let lines: Vec<_> = String::from_utf8_lossy(&text)
        .lines()
        .map(str::trim)
        .filter(|line| ["server.", "group.", "weight."].iter().any(|key| line.starts_with(key)))
        .map(str::to_owned)
        .collect();
    Ok(lines.join("\n"))
}
