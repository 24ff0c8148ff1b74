//! Tests of the container. Files are built by hand in [`raw`], not by the writer under test.

mod disk;
mod facts;
mod foreign;
mod lies;
mod mutation;
mod raw;
mod round_trip;
mod split;
mod stream;
