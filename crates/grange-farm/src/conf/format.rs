//! Which formats there are, and which one is meant.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// A format that is read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// One JSON object.
    Json,
    /// One YAML document.
    Yaml,
    /// A TOML document. It has no null.
    Toml,
    /// A PHP file that returns an array.
    Php,
    /// A directory, in which a file is a string and a directory an object.
    Dir,
}

/// What a farm is exported as, if not by a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// An object with one field per host.
    Conf(Format),
    /// Assignments for a POSIX shell.
    Env,
    /// Lines for `/etc/hosts`.
    Hosts,
    /// A `backend` section for HAProxy.
    Haproxy,
    /// An `upstream` block for nginx.
    Nginx,
}

/// Why no format is meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownFormat {
    /// No format has this name.
    #[error("there is no format '{name}'; there are {}", list(.known))]
    Name {
        /// What was asked for.
        name: String,
        /// What there is.
        known: &'static [&'static str],
    },
    /// The path does not say it.
    #[error("{path} does not tell its format; name it with '-f', one of {}", list(.known))]
    Path {
        /// The path.
        path: String,
        /// What there is.
        known: &'static [&'static str],
    },
}

fn list(names: &[&str]) -> String {
    names.join(", ")
}

impl Format {
    /// The names of all formats.
    pub const NAMES: &'static [&'static str] = &["json", "yaml", "toml", "php", "dir"];

    /// Returns the format that is meant: the one that is named; else [`Format::Dir`] if there is a directory; else the
    /// one that the extension of the path belongs to.
    pub fn detect(name: Option<&str>, path: &Path) -> Result<Format, UnknownFormat> {
        if let Some(name) = name {
            return name.parse();
        }
        by_path(path).ok_or_else(|| UnknownFormat::Path { path: path.display().to_string(), known: Format::NAMES })
    }

    /// Returns the format's name, as [`str::parse`] takes it.
    pub fn name(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Yaml => "yaml",
            Format::Toml => "toml",
            Format::Php => "php",
            Format::Dir => "dir",
        }
    }
}

impl Target {
    /// The names of all targets.
    pub const NAMES: &'static [&'static str] =
        &["json", "yaml", "toml", "php", "dir", "env", "hosts", "haproxy", "nginx"];

    /// Returns the target that is meant, as [`Format::detect`] does; `.env` belongs to [`Target::Env`], and the other
    /// targets have to be named.
    pub fn detect(name: Option<&str>, path: &Path) -> Result<Target, UnknownFormat> {
        if let Some(name) = name {
            return name.parse();
        }
        if let Some(format) = by_path(path) {
            return Ok(Target::Conf(format));
        }
        let is_env = path.extension().is_some_and(|extension| extension == "env")
            || path.file_name().is_some_and(|name| name == ".env");
        is_env
            .then_some(Target::Env)
            .ok_or_else(|| UnknownFormat::Path { path: path.display().to_string(), known: Target::NAMES })
    }
}

fn by_path(path: &Path) -> Option<Format> {
    if path.is_dir() {
        return Some(Format::Dir);
    }
    match path.extension()?.to_str()? {
        "json" => Some(Format::Json),
        "yaml" | "yml" => Some(Format::Yaml),
        "toml" => Some(Format::Toml),
        "php" => Some(Format::Php),
        _ => None,
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Format, UnknownFormat> {
        match name {
            "json" => Ok(Format::Json),
            "yaml" | "yml" => Ok(Format::Yaml),
            "toml" => Ok(Format::Toml),
            "php" => Ok(Format::Php),
            "dir" => Ok(Format::Dir),
            _ => Err(UnknownFormat::Name { name: name.to_owned(), known: Format::NAMES }),
        }
    }
}

impl FromStr for Target {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Target, UnknownFormat> {
        match name {
            "env" => Ok(Target::Env),
            "hosts" => Ok(Target::Hosts),
            "haproxy" => Ok(Target::Haproxy),
            "nginx" => Ok(Target::Nginx),
            _ => match name.parse() {
                Ok(format) => Ok(Target::Conf(format)),
                Err(_) => Err(UnknownFormat::Name { name: name.to_owned(), known: Target::NAMES }),
            },
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Target::Conf(format) => format.name(),
            Target::Env => "env",
            Target::Hosts => "hosts",
            Target::Haproxy => "haproxy",
            Target::Nginx => "nginx",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_that_of_its_format() {
        for name in Format::NAMES {
            assert_eq!(name.parse::<Format>().unwrap().to_string(), *name);
        }
        for name in Target::NAMES {
            assert_eq!(name.parse::<Target>().unwrap().to_string(), *name);
        }
    }

    #[test]
    fn a_name_counts_more_than_a_directory_and_that_more_than_an_extension() {
        let temp = tempfile::tempdir().unwrap();
        let directory = temp.path().join("conf.json");
        assert_eq!(Format::detect(None, &directory), Ok(Format::Json));
        std::fs::create_dir(&directory).unwrap();
        assert_eq!(Format::detect(None, &directory), Ok(Format::Dir));
        assert_eq!(Format::detect(Some("php"), &directory), Ok(Format::Php));
        for (path, format) in [("a.yml", Format::Yaml), ("b/a.yaml", Format::Yaml), ("a.b.toml", Format::Toml)] {
            assert_eq!(Format::detect(None, Path::new(path)), Ok(format), "{path}");
        }
        for path in ["farm.env", "/etc/.env"] {
            assert_eq!(Target::detect(None, Path::new(path)), Ok(Target::Env), "{path}");
        }
    }

    #[test]
    fn what_is_unknown_lists_what_there_is() {
        for path in ["conf", "conf.txt", "json", "/etc/hosts", "conf.env", "", "/"] {
            let Err(error) = Format::detect(None, Path::new(path)) else {
                assert_eq!(path, "/", "only this is a directory");
                continue;
            };
            assert!(error.to_string().ends_with("one of json, yaml, toml, php, dir"), "{error}");
        }
        let error = Target::detect(Some("xml"), Path::new("a.json")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no format 'xml'; there are json, yaml, toml, php, dir, env, hosts, haproxy, nginx"
        );
    }
}
