//! What the fields are called that `env`, `hosts`, `haproxy` and `nginx` need.

use clap::Args;
use grange_client::ZnodePath;
use grange_farm::FieldPath;
use grange_farm::conf::LineOptions;

use crate::error::CommandError;

/// Names of fields, for formats that are made of lines.
#[derive(Debug, Default, Args)]
pub(super) struct LineArgs {
    /// The name of the backend or upstream, and in the names of variables [default: the last part of FARM]
    #[arg(long, value_name = "NAME", help_heading = "Formats env, hosts, haproxy and nginx")]
    backend: Option<String>,
    /// The port of hosts that have no port of their own
    #[arg(long, value_name = "PORT", help_heading = "Formats env, hosts, haproxy and nginx")]
    default_port: Option<u16>,
    /// The field with a host's address; one without it has its name for an address [default: address]
    #[arg(long, value_name = "FIELD", help_heading = "Formats env, hosts, haproxy and nginx")]
    address_field: Option<FieldPath>,
    /// The field with a host's name in the format hosts [default: hostname]
    #[arg(long, value_name = "FIELD", help_heading = "Formats env, hosts, haproxy and nginx")]
    hostname_field: Option<FieldPath>,
    /// The field with a host's port [default: port]
    #[arg(long, value_name = "FIELD", help_heading = "Formats env, hosts, haproxy and nginx")]
    port_field: Option<FieldPath>,
    /// The field with a host's weight, which may be missing [default: weight]
    #[arg(long, value_name = "FIELD", help_heading = "Formats env, hosts, haproxy and nginx")]
    weight_field: Option<FieldPath>,
    /// The field that is 0 for hosts that get no requests, and may be missing [default: enabled]
    #[arg(long, value_name = "FIELD", help_heading = "Formats env, hosts, haproxy and nginx")]
    enabled_field: Option<FieldPath>,
}

impl LineArgs {
    pub(super) fn options(&self, farm: &ZnodePath) -> Result<LineOptions, CommandError> {
        let name = self.backend.as_deref().unwrap_or_else(|| farm.as_str().rsplit('/').next().unwrap_or_default());
        let mut options = LineOptions::new(if name.is_empty() { "farm" } else { name })
            .map_err(|error| CommandError::usage(error).hint("name it with --backend NAME"))?;
        options.default_port = self.default_port;
        for (field, named) in [
            (&mut options.address, &self.address_field),
            (&mut options.hostname, &self.hostname_field),
            (&mut options.port, &self.port_field),
            (&mut options.weight, &self.weight_field),
            (&mut options.enabled, &self.enabled_field),
        ] {
            if let Some(named) = named {
                *field = named.clone();
            }
        }
        Ok(options)
    }
}
