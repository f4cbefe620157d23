//! What the container runtime says of itself, asked as the daemon asks it: without a network, with one, and after
//! it was made blind.

use std::fs;
use std::path::Path;

use cni_keeper::conflist::text_of;
