//! The live tree as a file in the TOML form.

use std::fmt::Write as _;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use grange_proto::acl::Acl;

use crate::declared::acl::entry;
use crate::declared::live::{LiveError, acls_from_client, is_servers_own};
use crate::declared::model::child_of;
use crate::declared::variables::escape;
use crate::pipeline::pipelined;
use crate::{Client, ClientError, Stat};

/// A file, and what is not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The TOML form.
    pub text: String,
    /// How many znodes are in it.
    pub znode_count: usize,
    /// Ephemeral znodes, which are left out.
    pub ephemeral_count: usize,
    /// Znodes whose hashes the server does not show to the caller, so that they could not be restored.
    pub hidden: Vec<String>,
}

struct Znode {
    path: String,
    data: Option<Vec<u8>>,
    acl: Option<Vec<Acl>>,
}

/// Writes `root` and everything below it. A znode that is deleted meanwhile is passed over, unless it is `root`.
///
/// Errors: [`LiveError`] if one may not be read, because a file that lacks a part is no copy.
pub async fn export(client: &Client, root: &str) -> Result<Exported, LiveError> {
    client.sync("/").await.map_err(LiveError::Session)?;
    let (mut znodes, ephemeral_count) = list(client, root).await?;
    read_contents(client, &mut znodes).await?;
    let mut exported = Exported {
        text: format!("# {} and below\n", comment(root)),
        znode_count: 0,
        ephemeral_count,
        hidden: Vec::new(),
    };
    for znode in znodes {
        let (Some(data), Some(acl)) = (znode.data, znode.acl) else { continue };
        exported.znode_count += 1;
        if super::acl::has_hidden_hashes(&acl) {
            exported.hidden.push(znode.path.clone());
        }
        put_znode(&mut exported.text, &znode.path, &data, &acl);
    }
    Ok(exported)
}

fn cannot_read(path: &str, source: ClientError) -> LiveError {
    LiveError::Znode { path: path.to_owned(), source }
}

/// Finds the znodes that stay, sorted by path, and counts the others.
async fn list(client: &Client, root: &str) -> Result<(Vec<Znode>, usize), LiveError> {
    let (mut znodes, mut ephemeral_count) = (Vec::new(), 0);
    let chroot = client.path().to_owned();
    let mut level = vec![root.to_owned()];
    while !level.is_empty() {
        let mut next = Vec::new();
        pipelined(
            std::mem::take(&mut level),
            |path| Box::pin(client.get_children(path)),
            |path, reply: Result<(Vec<String>, Stat), _>| {
                let (names, stat) = match reply {
                    Ok(reply) => reply,
                    Err(ClientError::NoNode) if path != root => return Ok(()),
                    Err(error) => return Err(cannot_read(&path, error)),
                };
                if stat.ephemeral_owner != 0 {
                    ephemeral_count += 1;
                    return Ok(());
                }
                let children = names.iter().map(|name| child_of(&path, name));
                next.extend(children.filter(|child| !is_servers_own(&chroot, child)));
                znodes.push(Znode { path, data: None, acl: None });
                Ok(())
            },
        )
        .await?;
        level = next;
    }
    znodes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((znodes, ephemeral_count))
}

async fn read_contents(client: &Client, znodes: &mut [Znode]) -> Result<(), LiveError> {
    let paths: Vec<String> = znodes.iter().map(|znode| znode.path.clone()).collect();
    pipelined(
        paths.iter().enumerate(),
        |(_, path)| Box::pin(client.get_data(path)),
        |(index, path), reply: Result<(Vec<u8>, Stat), _>| {
            znodes[index].data = match reply {
                Ok((data, _)) => Some(data),
                Err(ClientError::NoNode) => None,
                Err(error) => return Err(cannot_read(path, error)),
            };
            Ok(())
        },
    )
    .await?;
    pipelined(
        paths.iter().enumerate(),
        |(_, path)| Box::pin(client.get_acl(path)),
        |(index, path), reply: Result<(Vec<crate::Acl>, Stat), _>| {
            znodes[index].acl = match reply {
                Ok((acl, _)) => Some(acls_from_client(&acl)),
                Err(ClientError::NoNode) => None,
                Err(error) => return Err(cannot_read(path, error)),
            };
            Ok(())
        },
    )
    .await
}

fn put_znode(text: &mut String, path: &str, data: &[u8], acl: &[Acl]) {
    let data = match std::str::from_utf8(data) {
        Ok(data) if is_text(data) => format!("data = {}", quoted(&escape(data))),
        _ => format!("data_base64 = {}", quoted(&BASE64_STANDARD.encode(data))),
    };
    let acl: Vec<_> = acl.iter().map(|acl| quoted(&escape(&entry(acl)))).collect();
    let acl = acl.join(", ");
    write!(text, "\n[znodes.{}]\n{data}\nacl = [{acl}]\n", quoted(&escape(path))).expect("a string takes everything");
}

/// Data that people can read as it is.
fn is_text(data: &str) -> bool {
    data.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\t' | '\r'))
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted += "\\\"",
            '\\' => quoted += "\\\\",
            '\n' => quoted += "\\n",
            '\t' => quoted += "\\t",
            '\r' => quoted += "\\r",
            c if c.is_control() || is_invisible(c) => {
                write!(quoted, "\\U{:08X}", u32::from(c)).expect("a string takes everything");
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Characters that would deceive who reads the file: they turn the direction of writing, or break lines.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn comment(path: &str) -> String {
    path.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::declared::DeclaredData;
    use crate::declared::acl::parse_entry;
    use crate::declared::file::Text;
    use crate::declared::toml_form;
    use crate::declared::variables::Variables;

    fn read_again(path: &str, data: &[u8], acl: &[Acl]) {
        let mut text = String::new();
        put_znode(&mut text, path, data, acl);
        let declared = toml_form::read(&[Text::of("f", &text)], Variables::default(), &|_| None).unwrap();
        let (read_path, znode) = declared.znodes.first_key_value().unwrap();
        assert_eq!(read_path, path);
        assert_eq!(znode.data, DeclaredData::Exactly(data.to_vec()));
        assert_eq!(znode.acl.as_deref(), Some(acl));
    }

    #[test]
    fn odd_names_and_data_come_back() {
        let acl = vec![parse_entry("sasl:\"a\\b\"${c}:r").unwrap(), parse_entry("x509:CN=é, O=ü:cdrwa").unwrap()];
        for path in ["/", "/a b/c.d/\"q\"'s'", "/${x}$${y}$", "/日本/\u{202e}", "/a\\b#c"] {
            for data in [&b""[..], b"a\r\n\t\"\\'''\"\"\"${x}", b"\x00", b"\xff\xfe", "é\u{85}\u{2028}".as_bytes()] {
                read_again(path, data, &acl);
            }
        }
    }

    proptest! {
        #[test]
        fn all_data_comes_back(data: Vec<u8>, text: String) {
            let acl = [parse_entry("world:anyone:r").unwrap()];
            read_again("/a", &data, &acl);
            read_again("/a", text.as_bytes(), &acl);
        }
    }
}
