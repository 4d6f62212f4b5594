//! Images and their labels: from IDX, CIFAR and image files or drawn by the program, kept as bytes in memory.

pub mod augment;
pub mod digits;
