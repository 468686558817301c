//! `grange shell export` and `import`: a subtree as lines of JSON.
//!
//! The first line says what it is, the last one how many znodes there are, so that a file which was cut off is noticed
//! before anything is changed. Each line between is a znode, parents first, its path relative to the subtree.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use grange_client::{Acl, Acls, Client, ClientError};
use grange_proto::ZnodePath;
use serde_json::{Value, json};

use crate::error::CommandError;
use crate::output::{harmless_json, harmless_line};
use crate::shell::answer::refused;
use crate::shell::batch::{Batches, Change};
use crate::shell::path::PathArg;
use crate::shell::progress::Progress;
use crate::shell::units::znodes;
use crate::shell::walk::{Contents, Walk, Wanted, Znode};
use crate::shell::{Form, Session, access, acl};

/// The version of the form.
const VERSION: u64 = 1;

/// The most bytes of a line: a znode of 64 MiB in base64.
const LINE_BYTES_MAX: u64 = 100 << 20;

/// How many znodes of an import are looked up at once.
const LOOKED_UP_MAX: usize = 64;

/// Write a subtree as lines of JSON
#[derive(Debug, Args)]
#[command(after_help = "Ephemeral znodes are left out. The file gets mode 0600, and its name only once it is whole.")]
pub(super) struct ExportArgs {
    /// Write the ACLs too
    #[arg(long)]
    acl: bool,
    /// The znode
    path: PathArg,
    /// The file; - or nothing is standard output
    file: Option<PathBuf>,
}

pub(super) async fn export(session: &mut Session<'_>, args: &ExportArgs) -> Result<(), CommandError> {
    let root = session.path(&args.path)?;
    let file = args.file.as_deref().filter(|file| *file != Path::new("-"));
    let Some(file) = file else {
        let count = write_all(session, &root, args.acl, &mut io::stdout().lock()).await?;
        eprintln!("exported {}", znodes(count));
        return Ok(());
    };
    let wrong = |error: io::Error| CommandError::failure(error).context(format!("cannot write {}", file.display()));
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let owner_only = std::fs::Permissions::from_mode(0o600);
    let mut whole =
        tempfile::Builder::new().prefix(".export-").permissions(owner_only).tempfile_in(folder).map_err(wrong)?;
    let count = write_all(session, &root, args.acl, whole.as_file_mut()).await?;
    whole.as_file().sync_all().map_err(wrong)?;
    whole.persist(file).map_err(|error| wrong(error.error))?;
    match session.form {
        Form::Json => session.out.json(&json!({ "path": root, "exported": count })),
        Form::Text => {
            eprintln!("exported {} to {}", znodes(count), file.display());
            Ok(())
        }
    }
}

async fn write_all(
    session: &Session<'_>,
    root: &str,
    with_acl: bool,
    out: &mut impl Write,
) -> Result<usize, CommandError> {
    let progress = Progress::beside_output(session.cx, "exported");
    let mut out = BufWriter::new(out);
    // The same JSON, harmless should it ever be looked at on a terminal.
    let mut write =
        |value: &Value| writeln!(out, "{}", harmless_json(&value.to_string())).map_err(CommandError::output);
    write(&json!({ "grangeExport": VERSION, "root": root }))?;
    let wanted = if with_acl { Wanted::All } else { Wanted::Data };
    let mut contents = Contents::new(Walk::new(session.client, root), wanted);
    let mut count = 0;
    while let Some(znode) = contents.next().await? {
        if znode.stat.ephemeral_owner != 0 {
            eprintln!("note: {} is ephemeral and was left out", harmless_line(&znode.step.path));
            continue;
        }
        write(&line_of(&znode, root))?;
        count += 1;
        progress.count();
    }
    write(&json!({ "znodes": count }))?;
    out.flush().map_err(CommandError::output)?;
    Ok(count)
}

fn line_of(znode: &Znode, root: &str) -> Value {
    let path = if root == "/" { znode.step.path.as_str() } else { &znode.step.path[root.len()..] };
    let path = if path.is_empty() { "/" } else { path };
    let mut line = match std::str::from_utf8(&znode.data) {
        Ok(text) => json!({ "path": path, "data": text }),
        Err(_) => json!({ "path": path, "dataBase64": STANDARD.encode(&znode.data) }),
    };
    if !znode.acls.is_empty() {
        line["acl"] = access::texts(&znode.acls);
    }
    line
}

/// Create a subtree out of what export has written
#[derive(Debug, Args)]
#[command(
    after_help = "The whole file is checked before anything is changed. What lies below PATH and is not in the file \
                        stays."
)]
pub(super) struct ImportArgs {
    /// Set the data of znodes that exist already
    #[arg(long)]
    overwrite: bool,
    /// Only check the file, and say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// The file; - is standard input
    file: PathBuf,
    /// The znode that becomes the root of the subtree; its parent must exist
    path: PathArg,
}

pub(super) async fn import(session: &mut Session<'_>, args: &ImportArgs) -> Result<(), CommandError> {
    let root = session.path(&args.path)?;
    let mut file = open(session, &args.file)?;
    let name = args.file.display().to_string();
    let mut count = 0;
    each(&mut file, &name, |_| {
        count += 1;
        Ok(())
    })?;
    let root_exists = session.client.check_stat(&root).await.map_err(|error| refused(&root, error))?.is_some();
    if root_exists && !args.overwrite && root != "/" {
        return Err(refused(&root, ClientError::NodeExists).hint("--overwrite sets the data of what exists"));
    }
    let (mut created, mut set) = (0, 0);
    if !args.dry_run {
        (created, set) = apply(session, &mut file, &name, &root, args.overwrite).await?;
    }
    match session.form {
        Form::Json => session.out.json(&json!({ "path": root, "znodes": count, "created": created, "set": set })),
        Form::Text if args.dry_run => {
            eprintln!("{name} is whole and has {}", znodes(count));
            Ok(())
        }
        Form::Text => {
            eprintln!("created {}, set {}, at and below {}", znodes(created), znodes(set), harmless_line(&root));
            Ok(())
        }
    }
}

/// Opens the file; standard input is written to one first, since it is read twice.
fn open(session: &Session<'_>, path: &Path) -> Result<File, CommandError> {
    let wrong = |error: io::Error| CommandError::failure(error).context(format!("cannot read {}", path.display()));
    if path != Path::new("-") {
        return File::open(path).map_err(wrong);
    }
    session.check_input_is_free()?;
    let mut file = tempfile::tempfile().map_err(wrong)?;
    io::copy(&mut io::stdin().lock(), &mut file).map_err(wrong)?;
    Ok(file)
}

/// A znode of the file.
#[derive(Debug)]
struct Entry {
    /// Relative to the subtree, beginning with a slash.
    path: String,
    data: Vec<u8>,
    acls: Vec<Acl>,
}

impl Entry {
    fn there(&self, root: &str) -> String {
        match (root, self.path.as_str()) {
            (root, "/") => root.to_owned(),
            ("/", path) => path.to_owned(),
            (root, path) => format!("{root}{path}"),
        }
    }

    fn creation(&self) -> Change<'_> {
        let acls = if self.acls.is_empty() { Acls::anyone_all() } else { Acls::new(&self.acls) };
        Change::Create { data: &self.data, acls }
    }
}

/// Reads a file from its beginning, and checks that it is whole.
fn each(
    file: &mut File,
    name: &str,
    mut use_it: impl FnMut(Entry) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let mut reader = Reader::start(file, name)?;
    while let Some(entry) = reader.next()? {
        use_it(entry)?;
    }
    Ok(())
}

struct Reader<'f> {
    lines: BufReader<&'f mut File>,
    name: &'f str,
    number: usize,
    count: u64,
    is_at_end: bool,
}

impl<'f> Reader<'f> {
    fn start(file: &'f mut File, name: &'f str) -> Result<Reader<'f>, CommandError> {
        file.rewind().map_err(|error| CommandError::failure(error).context(format!("cannot read {name}")))?;
        let mut reader = Reader { lines: BufReader::new(file), name, number: 0, count: 0, is_at_end: false };
        match reader.line()?.map(|line| line["grangeExport"].as_u64()) {
            Some(Some(VERSION)) => Ok(reader),
            Some(Some(version)) => Err(reader.wrong(&format!("it has version {version} of the form, not {VERSION}"))),
            _ => Err(reader.wrong("it is not what grange shell export writes")),
        }
    }

    fn next(&mut self) -> Result<Option<Entry>, CommandError> {
        if self.is_at_end {
            return Ok(None);
        }
        let Some(line) = self.line()? else {
            return Err(self.wrong("it was cut off: the last line, with the number of znodes, is missing"));
        };
        if let Some(count) = line["znodes"].as_u64() {
            if count != self.count {
                return Err(self.wrong(&format!("it has {} znodes instead of {count}", self.count)));
            }
            self.is_at_end = true;
            return Ok(None);
        }
        self.count += 1;
        self.entry(&line).map(Some)
    }

    fn entry(&self, line: &Value) -> Result<Entry, CommandError> {
        let path = line["path"].as_str().ok_or_else(|| self.wrong("there is no path"))?;
        ZnodePath::parse(path).map_err(|why| self.wrong(&why.to_string()))?;
        let data = match (line["data"].as_str(), line["dataBase64"].as_str()) {
            (Some(text), None) => text.as_bytes().to_vec(),
            (None, Some(text)) => STANDARD.decode(text).map_err(|_| self.wrong("dataBase64 is no base64"))?,
            _ => return Err(self.wrong("there is neither data nor dataBase64")),
        };
        let mut acls = Vec::new();
        for text in line["acl"].as_array().into_iter().flatten() {
            let text = text.as_str().ok_or_else(|| self.wrong("an entry of acl is no text"))?;
            acls.extend(acl::parse(text).map_err(|why| self.wrong(&why))?);
        }
        Ok(Entry { path: path.to_owned(), data, acls })
    }

    fn line(&mut self) -> Result<Option<Value>, CommandError> {
        self.number += 1;
        let mut line = Vec::new();
        let read = (&mut self.lines).take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        match read.map_err(|error| CommandError::failure(error).context(format!("cannot read {}", self.name)))? {
            0 => Ok(None),
            _ if line.last() != Some(&b'\n') => Err(self.wrong("it was cut off, or the line is too long")),
            _ => serde_json::from_slice(&line).map(Some).map_err(|error| self.wrong(&error.to_string())),
        }
    }

    fn wrong(&self, why: &str) -> CommandError {
        CommandError::usage(anyhow!("{}, line {}: {}", self.name, self.number, harmless_line(why)))
            .hint("nothing was changed by this line or those behind it")
    }
}

async fn apply(
    session: &Session<'_>,
    file: &mut File,
    name: &str,
    root: &str,
    overwrite: bool,
) -> Result<(usize, usize), CommandError> {
    let progress = Progress::start(session.cx, "imported");
    let mut batches = Batches::new(session.client);
    let mut reader = Reader::start(file, name)?;
    let (mut created, mut set) = (0, 0);
    loop {
        let mut entries = Vec::new();
        while entries.len() < LOOKED_UP_MAX {
            let Some(entry) = reader.next()? else { break };
            entries.push(entry);
        }
        if entries.is_empty() {
            batches.finish().await?;
            return Ok((created, set));
        }
        let exists = look_up(session.client, &entries, root, overwrite).await?;
        for (entry, exists) in entries.iter().zip(exists) {
            let path = entry.there(root);
            progress.count();
            // Nobody can create the root of a server, or needs to.
            if path == "/" && entry.data.is_empty() {
                continue;
            }
            if exists || path == "/" {
                batches.add(&path, Change::Set { data: &entry.data }).await?;
                set += 1;
            } else {
                batches.add(&path, entry.creation()).await?;
                created += 1;
            }
        }
    }
}

/// Tells for each entry whether it is there already.
async fn look_up(client: &Client, entries: &[Entry], root: &str, overwrite: bool) -> Result<Vec<bool>, CommandError> {
    if !overwrite {
        return Ok(vec![false; entries.len()]);
    }
    let replies: Vec<_> = entries
        .iter()
        .map(|entry| {
            let path = entry.there(root);
            let reply = client.check_stat(&path);
            (path, reply)
        })
        .collect();
    let mut exists = Vec::with_capacity(replies.len());
    for (path, reply) in replies {
        exists.push(reply.await.map_err(|error| refused(&path, error))?.is_some());
    }
    Ok(exists)
}
