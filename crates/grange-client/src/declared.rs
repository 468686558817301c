//! A coordination tree declared in a file: read it, compare it with the live tree, make the live tree so.
//!
//! [`read`] reads a file in either of its two forms ([`toml_form`], [`zkinitree`]) into one [`Declared`];
//! [`Live::read`] fetches what the ensemble has of it; [`plan`] is a pure function of the two; [`Plan::steps`] puts
//! its changes in an order in which each is permitted; [`apply`] carries them out, each on the condition that nothing
//! has changed meanwhile. [`export`] is the way back, from the live tree to a file.
//!
//! > **Invariant:** nothing is written unless the whole file was understood and the plan has no obstacle.

mod acl;
mod apply;
mod caller;
mod export;
mod file;
mod ini;
mod live;
mod model;
mod plan;
mod problem;
mod steps;
mod toml_form;
mod variables;
mod zkinitree;

pub use apply::{Applied, ApplyError, apply};
pub use caller::Caller;
pub use export::{Exported, export};
pub use file::{Form, Source, read};
pub use live::{Live, LiveData, LiveError, LiveZnode, Unnamed};
pub use model::{Declared, DeclaredData, DeclaredZnode, Kind};
pub use plan::{
    AclChange, Action, Change, DataChange, EntryChange, Obstacle, Plan, PlanOptions, Why, entries_of, plan,
};
pub use problem::{Location, Problem, ReadError};
pub use steps::{AclWrite, Create, Step, TRANSACTION_BYTES_MAX, TRANSACTION_WRITES_MAX, Write};

#[cfg(test)]
mod tests;
