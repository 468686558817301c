//! Whether a directory may become an export's own, so that nobody's files are removed for being no hosts.

use std::ffi::OsStr;
use std::io;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::FileType;

use crate::conf::folder::{Folder, Links, kind};
use crate::conf::{ConfError, harmless};
use crate::properties::Properties;

/// The hidden file by which an export knows its own directory.
const MARK: &str = ".grange-export";

/// Takes a directory over for an export, which removes from it whatever is no host; makes it if only its parent is there.
/// `hosts` has one field per host that is exported.
///
/// It may be empty, taken over already, or hold nothing but directories whose names are those of hosts that are exported,
/// or IP addresses: that is what an export by ZkFarmer has left there. Hidden names do not count, and stay.
///
/// Errors: [`ConfError::Foreign`] names what else is there; nothing was changed.
pub fn claim(path: &Path, hosts: &Properties) -> Result<(), ConfError> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.map_err(failed("make the directory", path))?,
    }
    let folder = Folder::open(path).map_err(failed("open", path))?;
    if folder.stat(OsStr::new(MARK), Links::Keep).map_err(failed("look into", path))?.is_some() {
        return Ok(());
    }
    for name in folder.names().map_err(failed("list", path))? {
        let is_hidden = name.as_bytes().starts_with(b".");
        let is_host =
            name.to_str().is_some_and(|name| hosts.fields().contains_key(name) || name.parse::<IpAddr>().is_ok());
        let stat = folder.stat(&name, Links::Keep).map_err(failed("look into", path))?;
        let is_folder = stat.is_some_and(|stat| kind(&stat) == FileType::Directory);
        if is_hidden || (is_host && is_folder) {
            continue;
        }
        return Err(ConfError::Foreign { path: path.to_owned(), name: harmless(&name.to_string_lossy()) });
    }
    folder.make_file(OsStr::new(MARK)).map_err(failed("write into", path))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ConfError {
    move |source| ConfError::Io { action, path: path.to_owned(), source }
}
