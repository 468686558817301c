//! Keeping a file equal to a farm.
//!
//! [`Exporter::next`] follows the farm and returns when there is something to do; nothing is in place until
//! [`Exporter::install`], so that a check may come between the two. A file that was right is kept whenever there is doubt:
//! while there is no session, while too many hosts are missing at once ([`Limits`]), and when what would be written does
//! not pass.

mod limits;
mod settle;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use grange_client::recipes::{RecipeError, TreeReads};
use grange_client::{Client, ZnodePath};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use self::limits::DropGuard;
pub use self::limits::{Held, Limits};
pub use self::settle::Settle;
use crate::COMMON;
use crate::conf::{
    self, Candidate, ConfError, Export, Format, InstallError, LineOptions, RenderError, Rendered, Target, Template,
    TemplateError,
};
use crate::filter::Filter;
use crate::properties::Properties;
use crate::sessions::with_causes;
use crate::view::{FarmChange, FarmView};

/// What a farm is written as.
#[derive(Debug)]
pub enum Form {
    /// In a format that is known.
    Target(Target, LineOptions),
    /// As a template says.
    Template(Template),
}

/// What is exported, and where to.
#[derive(Debug)]
pub struct Exporting {
    /// The farm; it may come later.
    pub farm: ZnodePath,
    /// The file, or the directory.
    pub path: PathBuf,
    /// What it looks like.
    pub form: Form,
    /// Which hosts are meant.
    pub filter: Filter,
    /// How many hosts may be missing.
    pub limits: Limits,
    /// When changes are acted on.
    pub settle: Settle,
}

/// What is to be done after changes have settled.
#[derive(Debug)]
pub enum Decision {
    /// Nothing: the file is right.
    Unchanged {
        /// How many hosts are in it.
        hosts: usize,
    },
    /// This is to be installed.
    Install(Prepared),
    /// Nothing until more hosts are back, or somebody says that they are not coming: [`Exporter::accept`].
    Held(Held),
}

/// What the file will be.
#[derive(Debug)]
pub struct Prepared {
    content: Content,
    /// How many hosts are in it.
    pub hosts: usize,
}

#[derive(Debug)]
enum Content {
    File(Candidate),
    Directory(Properties),
}

impl Prepared {
    /// Returns the complete new file, under another name in the same directory; `None` for a directory, of which each
    /// file is written by itself.
    pub fn path(&self) -> Option<&Path> {
        match &self.content {
            Content::File(candidate) => Some(candidate.path()),
            Content::Directory(_) => None,
        }
    }
}

/// What is to be written, before anything is.
#[derive(Debug)]
struct Making {
    content: Made,
    /// Hosts of which nothing is in it.
    left_out: Vec<String>,
    /// What is not in it, and why.
    problems: Vec<String>,
}

#[derive(Debug)]
enum Made {
    File(Vec<u8>),
    Directory(Properties),
}

impl From<Rendered> for Making {
    fn from(rendered: Rendered) -> Making {
        let left_out = rendered.left_out.iter();
        Making {
            problems: left_out.clone().map(|left_out| format!("{}: {}", left_out.host, left_out.why)).collect(),
            left_out: left_out.filter(|left_out| left_out.is_whole).map(|left_out| left_out.host.clone()).collect(),
            content: Made::File(rendered.bytes),
        }
    }
}

/// Why a farm could not be exported now.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// There is no farm.
    #[error("there is no farm {0}")]
    NoFarm(ZnodePath),
    /// The farm cannot be followed, at least not in this session.
    #[error(transparent)]
    Farm(#[from] RecipeError),
    /// It has no form.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// The template has no form for it.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The file cannot be written.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// The directory cannot be written.
    #[error(transparent)]
    Conf(#[from] ConfError),
}

impl ExportError {
    /// Tells whether the session has ended: only a new one can go on.
    pub fn is_session_end(&self) -> bool {
        matches!(self, ExportError::Farm(error) if error.is_session_end())
    }

    /// Tells whether something was put in place all the same.
    pub fn is_partial(&self) -> bool {
        matches!(self, ExportError::Conf(error) if error.is_partial())
    }

    /// Returns what to do about it, if there is something to say.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            ExportError::Install(error) => error.hint(),
            ExportError::Conf(error) => error.hint(),
            _ => None,
        }
    }
}

/// Follows a farm for one file.
#[derive(Debug)]
pub struct Exporter {
    exporting: Exporting,
    view: FarmView,
    guard: DropGuard,
    is_ready: bool,
    /// What was said about hosts that are left out.
    said: BTreeSet<String>,
}

impl Exporter {
    /// Starts to follow the farm. The session should be used for nothing else.
    pub async fn open(client: Client, exporting: Exporting) -> Result<Exporter, RecipeError> {
        let view = FarmView::open(client, exporting.farm.clone()).await?;
        let format = match exporting.form {
            Form::Target(Target::Conf(format), _) => Some(format),
            _ => None,
        };
        let guard = state::guard(exporting.limits, &exporting.path, format);
        Ok(Exporter { exporting, view, guard, is_ready: false, said: BTreeSet::new() })
    }

    /// Goes on with another session, after the first one has ended.
    pub async fn with_client(&mut self, client: Client) -> Result<(), RecipeError> {
        self.view.with_client(client).await
    }

    /// Waits until changes have settled, and says what is to be done. Dropping the future loses nothing.
    ///
    /// Errors: whatever it is, the file is as it was, and the next change is told.
    pub async fn next(&mut self) -> Result<Decision, ExportError> {
        self.settled().await?;
        self.exporting.settle.acted();
        self.decide()
    }

    /// Waits until changes have settled, and returns what the file would be; it is neither compared nor written.
    pub async fn preview(&mut self) -> Result<Vec<u8>, ExportError> {
        self.settled().await?;
        self.exporting.settle.acted();
        if !self.view.exists() {
            return Err(ExportError::NoFarm(self.exporting.farm.clone()));
        }
        let mut problems = BTreeSet::new();
        let export = self.export(&mut problems);
        let made = self.make(&export)?;
        problems.extend(made.problems);
        self.say_new(problems);
        match made.content {
            Made::File(bytes) => Ok(bytes),
            Made::Directory(_) => Err(RenderError::Directory.into()),
        }
    }

    /// Waits until there are changes, and no more for a while.
    async fn settled(&mut self) -> Result<(), RecipeError> {
        loop {
            // While more is known to be coming, as after a reconnect, only the longest wait counts.
            let due = match self.view.is_current() {
                true => self.exporting.settle.due(),
                false => self.exporting.settle.latest(),
            };
            let due = due.filter(|_| self.is_ready);
            let change = tokio::select! {
                biased;
                change = self.view.next() => change?,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => return Ok(()),
            };
            self.exporting.settle.changed(Instant::now());
            if change == FarmChange::Ready {
                // The first one is not delayed.
                self.is_ready = true;
                return Ok(());
            }
        }
    }

    fn decide(&mut self) -> Result<Decision, ExportError> {
        let mut problems = BTreeSet::new();
        let export = self.export(&mut problems);
        let made = self.make(&export);
        // `common` is no host, and one that has no form is not in the file.
        let left_out: BTreeSet<&str> = made.iter().flat_map(|made| made.left_out.iter().map(String::as_str)).collect();
        let names = export.hosts.keys().map(String::as_str);
        let hosts = names.filter(|name| *name != COMMON && !left_out.contains(name)).count();
        if let Err(held) = self.guard.judge(Instant::now(), self.view.exists().then_some(hosts)) {
            return Ok(Decision::Held(held));
        }
        let made = made?;
        let path = &self.exporting.path;
        let content = match made.content {
            Made::Directory(properties) => {
                let projection = Format::Dir.projection(&properties).properties;
                let is_same = conf::read(Format::Dir, path).is_ok_and(|there| there.properties == projection);
                (!is_same).then_some(Content::Directory(properties))
            }
            Made::File(bytes) if conf::differs(path, &bytes)? => Some(Content::File(Candidate::new(path, &bytes)?)),
            Made::File(_) => None,
        };
        problems.extend(made.problems);
        self.say_new(problems);
        match content {
            Some(content) => Ok(Decision::Install(Prepared { content, hosts })),
            None => {
                self.exported(hosts);
                Ok(Decision::Unchanged { hosts })
            }
        }
    }

    /// Makes what is to be written.
    fn make(&self, export: &Export) -> Result<Making, ExportError> {
        let (form, options) = match &self.exporting.form {
            Form::Target(Target::Conf(Format::Dir), _) => {
                let properties = export.properties();
                let left_out = Format::Dir.projection(&properties).left_out;
                let left_out = left_out.into_iter().filter(|problem| problem.path.len() == 1);
                return Ok(Making {
                    left_out: left_out.filter_map(|problem| problem.path.into_iter().next()).collect(),
                    // They are told when they are written.
                    problems: Vec::new(),
                    content: Made::Directory(properties),
                });
            }
            Form::Target(target, options) => (*target, options),
            Form::Template(template) => return Ok(template.render(export)?.into()),
        };
        Ok(conf::render(form, export, options)?.into())
    }

    /// Returns what is meant of the farm; what cannot be read goes to `problems`.
    fn export(&self, problems: &mut BTreeSet<String>) -> Export {
        let mut hosts = BTreeMap::new();
        for (name, host) in self.view.hosts() {
            match host {
                Ok(properties) if self.exporting.filter.matches(properties) => {
                    hosts.insert(name.clone(), properties.clone());
                }
                Ok(_) => {}
                Err(error) => {
                    let farm = self.exporting.farm.as_str().trim_end_matches('/');
                    problems.insert(format!("{farm}/{name}: {}", with_causes(error.as_ref())));
                }
            }
        }
        problems.extend(self.view.unreadable().map(|path| format!("{path}: it may not be read")));
        let farm = self.view.properties().unwrap_or_else(|error| {
            problems.insert(format!("the properties of {}: {}", self.exporting.farm, with_causes(&error)));
            Properties::default()
        });
        Export { hosts, farm }
    }

    /// Says which hosts are left out, each once for as long as that lasts.
    fn say_new(&mut self, problems: BTreeSet<String>) {
        for problem in problems.difference(&self.said) {
            warn!("left out: {problem}");
        }
        self.said = problems;
    }

    /// Puts it in place.
    pub fn install(&mut self, prepared: Prepared) -> Result<(), ExportError> {
        match prepared.content {
            Content::File(candidate) => candidate.install()?,
            Content::Directory(properties) => {
                conf::claim(&self.exporting.path, &properties)?;
                let written = conf::write(Format::Dir, &self.exporting.path, &properties, None)?;
                for problem in written.left_alone {
                    warn!("left out: {problem}");
                }
            }
        }
        self.exported(prepared.hosts);
        Ok(())
    }

    fn exported(&mut self, hosts: usize) {
        self.guard.exported(Instant::now(), hosts);
        if self.exporting.limits.is_any() {
            state::remember(&self.exporting.path, hosts, &self.guard);
        } else {
            state::forget(&self.exporting.path);
        }
    }

    /// Takes the farm as it is now for right, however few hosts there are, and looks again.
    pub fn accept(&mut self) {
        self.guard.accept();
        self.again();
    }

    /// Looks again without a change.
    pub fn again(&mut self) {
        self.exporting.settle.changed(Instant::now());
    }

    /// Renders with another template from now on.
    pub fn set_form(&mut self, form: Form) {
        self.exporting.form = form;
        self.again();
    }

    /// Returns how many requests were made so far.
    pub fn reads(&self) -> TreeReads {
        self.view.reads()
    }
}
