//! Sources for the real world, asked for real: what vouches for their bytes.

mod pins;
