//! Tests of planning and discovery: on hand-assembled files, on the libraries of this machine, on damaged ones.

mod assembled;
mod builder;
mod live;
mod machine;
