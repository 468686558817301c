//! One member of the ensemble as a pure machine.
#![forbid(unsafe_code)]
