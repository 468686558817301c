//! Farms: hosts that register themselves with their properties, and whoever follows them.
//!
//! A farm is a znode whose children are hosts, each with one JSON object as its data ([`Properties`]); the farm's own
//! properties are the data of the farm. That is how ZkFarmer (Python) lays it out, and both may work in one farm.

#![forbid(unsafe_code)]

mod beside;
pub mod check;
pub mod conf;
mod difference;
mod due;
pub mod events;
pub mod exec;
pub mod export;
pub mod fields;
mod filter;
pub mod hosts;
mod hours;
pub mod join;
mod own_name;
mod properties;
mod sessions;
mod view;

pub use difference::{FieldChange, difference, leaves};
pub use due::DueMark;
pub use filter::{Filter, FilterError};
pub use hosts::Host;
pub use hours::{Hours, HoursError};
pub use own_name::own_name;
pub use properties::{FieldPath, FieldPathError, Properties, PropertiesError, text_of};
pub use sessions::{connect_at_last, with_causes};
pub use view::{FarmChange, FarmView};

/// The child of a farm that all hosts may share; it counts as no host.
pub const COMMON: &str = "common";
