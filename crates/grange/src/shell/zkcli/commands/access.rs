//! Commands about who may do what: addauth, getAcl, setAcl, whoami.

use grange_client::Auth;
use grange_proto::acl::{AclList, put_acls};
use grange_proto::request::SetAcl;
use grange_proto::response::{AclBody, Response};
use grange_proto::{Acl, ErrorCode, Id, Op, Perms, Reader, Request};

use super::Call;
use super::znodes::unnamed;
use crate::error::CommandError;
use crate::shell::zkcli::failure::{Failure, keeper_message};
use crate::shell::zkcli::printer::Printer;
use crate::shell::zkcli::stat::print_stat;
use crate::shell::zkcli::zk::{Interrupted, Lookahead, Zk};

/// The letters of the permissions, in the order in which they are printed.
const LETTERS: [(char, Perms); 5] =
    [('c', Perms::CREATE), ('d', Perms::DELETE), ('r', Perms::READ), ('w', Perms::WRITE), ('a', Perms::ADMIN)];

pub(super) async fn add_auth(call: Call<'_>) -> Result<(), Interrupted> {
    let words = &call.words.plain;
    let credential = words.get(2).cloned().unwrap_or_default();
    call.zk.add_auth(Auth::new(words[1].clone(), credential)).await;
    Ok(())
}

pub(super) async fn get_acl(call: Call<'_>) -> Result<(), Interrupted> {
    let path = call.path()?;
    let server_path = call.zk.server_path(&path);
    let reply = call.zk.call(&Request::GetAcl(&server_path)).await.map_err(|refusal| refusal.about(&path))?;
    let Response::Acl(AclBody::Framed(list), stat) = reply.response()? else { return Ok(()) };
    for acl in list.iter() {
        call.zk.printer.line(&format!("'{},'{}", escaped(acl.scheme), escaped(acl.id)))?;
        call.zk.printer.line(&format!(": {}", letters(acl.perms)))?;
    }
    if call.words.has("s") {
        print_stat(&mut call.zk.printer, &stat)?;
    }
    Ok(())
}

pub(super) async fn set_acl(call: Call<'_>) -> Result<(), Interrupted> {
    let acl = parse_acl(&mut call.zk.printer, &call.words.plain[2])?;
    let version = call.words.number("v")?.unwrap_or(-1);
    let path = call.path()?;
    let zk = call.zk;
    if !call.words.has("R") {
        if acl.is_empty() {
            return Err(Failure::refused(ErrorCode::InvalidAcl.into(), None).into());
        }
        let reply = request(zk, &path, &acl, version).await.map_err(|refusal| refusal.about(&path))?;
        return match reply.response()? {
            Response::Stat(stat) if call.words.has("s") => Ok(print_stat(&mut zk.printer, &stat)?),
            _ => Ok(()),
        };
    }
    let server_path = zk.server_path(&path);
    let root = Request::GetData(grange_proto::request::Watchable { path: &server_path, watch: false });
    zk.call(&root).await.map_err(|refusal| refusal.about(&path))?;
    let set = async |zk: &mut Zk, path: &str| set_one(zk, path, &acl, version).await;
    set(zk, &path).await?;
    zk.walk(&path, false, set, Lookahead::None).await
}

/// Sets the ACL of one znode of many; a refusal is printed, and the rest goes on.
async fn set_one(zk: &mut Zk, path: &str, acl: &[Acl], version: i32) -> Result<(), Interrupted> {
    let result = match acl {
        [] => Err(ErrorCode::InvalidAcl.code()),
        acl => match request(zk, path, acl, version).await {
            Ok(_) => Ok(()),
            Err(Interrupted::Refused(error)) => Err(error.0),
            Err(other) => return Err(other),
        },
    };
    if let Err(code) = result {
        zk.printer.fragment(&keeper_message(code, Some(path).filter(|_| !acl.is_empty())))?;
    }
    Ok(())
}

async fn request(
    zk: &mut Zk,
    path: &str,
    acl: &[Acl],
    version: i32,
) -> Result<grange_client::wire::WireReply, Interrupted> {
    let server_path = zk.server_path(path);
    let body = with_acl(acl, |acl| {
        let mut bytes = Vec::new();
        Request::SetAcl(SetAcl { path: &server_path, acl, version }).encode(&mut bytes);
        bytes
    });
    zk.call(&Request::decode(Op::SetAcl, &mut Reader::new(&body))?).await
}

pub(super) async fn who_am_i(call: Call<'_>) -> Result<(), Interrupted> {
    let reply = call.zk.call(&Request::WhoAmI).await.map_err(unnamed)?;
    let Response::WhoAmI(users) = reply.response()? else { return Ok(()) };
    call.zk.printer.line("Auth scheme: User")?;
    for (scheme, user) in users {
        call.zk.printer.line(&format!("{scheme}: {user}"))?;
    }
    Ok(())
}

/// Parses an ACL; mistakes are told on standard error, and what is right is used, as zkCli does.
pub(super) fn parse_acl(printer: &mut Printer, text: &str) -> Result<Vec<Acl>, CommandError> {
    let mut acls = Vec::new();
    // Java's split leaves out what is empty at the end.
    for entry in text.trim_end_matches(',').split(',') {
        let parts = entry.split_once(':').and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once(':')?)));
        let Some((scheme, (id, perms))) = parts else {
            printer.message(&format!("{entry} does not have the form scheme:id:perm"))?;
            continue;
        };
        let mut all = Perms(0);
        for letter in perms.chars() {
            match LETTERS.iter().find(|(known, _)| *known == letter) {
                Some((_, perm)) => all = all.union(*perm),
                None => printer.message(&format!("Unknown perm type: {letter}"))?,
            }
        }
        acls.push(Acl { perms: all, id: Id::new(scheme, id) });
    }
    Ok(acls)
}

/// Lends an ACL in the form of requests.
pub(super) fn with_acl<R>(acls: &[Acl], use_it: impl FnOnce(AclList<'_>) -> R) -> R {
    let mut bytes = Vec::new();
    put_acls(&mut bytes, acls);
    use_it(AclList::decode(&mut Reader::new(&bytes)).expect("it was just encoded"))
}

fn letters(perms: Perms) -> String {
    LETTERS.iter().filter(|(_, perm)| perms.intersects(*perm)).map(|(letter, _)| letter).collect()
}

/// Escapes what separates fields in Jute's form of text.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\0' => escaped.push_str("%00"),
            '\n' => escaped.push_str("%0A"),
            '\r' => escaped.push_str("%0D"),
            ',' => escaped.push_str("%2C"),
            '}' => escaped.push_str("%7D"),
            '%' => escaped.push_str("%25"),
            c => escaped.push(c),
        }
    }
    escaped
}
