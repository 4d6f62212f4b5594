//! The `vitreous` program.

fn main() {}
