//! What every tool shares to talk to an ensemble: connection options and recipes.
