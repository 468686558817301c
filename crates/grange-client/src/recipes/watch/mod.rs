//! Watches that go on: each tells the newest state of a znode, of its children or of a tree, again and again.
//!
//! A watch of the protocol fires once, and tells that something changed but not what it is now. Here each read sets the next
//! watch together with the read, so nothing falls between the two. States that were overwritten before they were read are
//! left out; the newest one never is, whatever happens to connections.
//!
//! The handles are pulled: [`DataWatch::next`], [`ChildrenWatch::next`], [`TreeCache::next`]. A future that is dropped loses
//! nothing.

mod children;
mod data;
mod one;
mod tree;

pub use children::ChildrenWatch;
pub use data::DataWatch;
pub use tree::{CachedNode, TreeCache, TreeChange, TreeReads};
