//! Checks whether a file is a plugin that can run on an architecture. Pure.
//!
//! A right digest can still be the wrong architecture, and the runtime says so only when the first pod starts.

use crate::model::Arch;

/// How many bytes of a file are needed to tell.
pub(super) const PLUGIN_HEADER_SIZE: usize = 20;

/// Why a file cannot be a plugin here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAPlugin {
    /// An ELF binary of another architecture.
    #[error("it is a binary for {found}, this node needs {wanted}")]
    OtherArch { found: String, wanted: Arch },
    /// Not an executable at all.
    #[error("it is {0}, not an ELF binary or a '#!' script")]
    LooksLike(&'static str),
}

/// The fields of an ELF header that decide where a binary runs: `EI_CLASS`, `EI_DATA` and `e_machine`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct ElfMachine {
    bits: u8,
    little: bool,
    number: u16,
}

/// The numbers are from the ELF specification's registry of machines.
const fn elf_machine(arch: Arch) -> ElfMachine {
    let (bits, little, number) = match arch {
        Arch::Amd64 => (64, true, 62),
        Arch::Arm => (32, true, 40),
        Arch::Arm64 => (64, true, 183),
        Arch::Mips64le => (64, true, 8),
        Arch::Ppc64le => (64, true, 21),
        Arch::Riscv64 => (64, true, 243),
        Arch::S390x => (64, false, 22),
    };
    ElfMachine {
        bits,
        little,
        number,
    }
}

/// Checks a file by its first [`PLUGIN_HEADER_SIZE`] bytes, or all of them if it has fewer.
pub(super) fn check_plugin_header(head: &[u8], arch: Arch) -> Result<(), NotAPlugin> {
    if head.starts_with(b"#!") {
        return Ok(());
    }
    let found = match parse_machine(head) {
        Some(found) => found,
        None => return Err(NotAPlugin::LooksLike(looks_like(head))),
    };
    if found == elf_machine(arch) {
        return Ok(());
    }
    let known = Arch::ALL
        .into_iter()
        .find(|arch| elf_machine(*arch) == found);
    Err(NotAPlugin::OtherArch {
        found: known.map_or_else(
            || {
                let order = if found.little { "little" } else { "big" };
                format!(
                    "machine {} ({} bit, {order}-endian)",
                    found.number, found.bits
                )
            },
            |arch| arch.to_string(),
        ),
        wanted: arch,
    })
}

fn parse_machine(head: &[u8]) -> Option<ElfMachine> {
    let [0x7f, b'E', b'L', b'F', class, data, .., a, b] =
        *head.first_chunk::<PLUGIN_HEADER_SIZE>()?
    else {
        return None;
    };
    let little = match data {
        1 => true,
        2 => false,
        _ => return None,
    };
    let bits = match class {
        1 => 32,
        2 => 64,
        _ => return None,
    };
    let number = if little {
        u16::from_le_bytes([a, b])
    } else {
        u16::from_be_bytes([a, b])
    };
    Some(ElfMachine {
        bits,
        little,
        number,
    })
}

fn looks_like(head: &[u8]) -> &'static str {
    let text = head.trim_ascii_start().to_ascii_lowercase();
    match head {
        [] => "empty",
        [0x7f, b'E', b'L', b'F', ..] => "a damaged ELF binary",
        [0x1f, 0x8b, ..] => "gzip data",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "xz data",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd data",
        [b'P', b'K', 3, 4, ..] => "a zip archive",
        [b'M', b'Z', ..] => "a Windows binary",
        [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..] | [0xca, 0xfe, 0xba, 0xbe, ..] => "a macOS binary",
        _ if text.starts_with(b"<!doctype") || text.starts_with(b"<html") => "an HTML page",
        _ if text.starts_with(b"<") => "XML",
        _ if text.starts_with(b"{") => "JSON",
        _ if head.iter().all(|byte| *byte == 0) => "zeros",
        _ if head.is_ascii() => "text",
        _ => "unknown data",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(bits: u8, little: bool, number: u16) -> Vec<u8> {
        let mut head = vec![
            0x7f,
            b'E',
            b'L',
            b'F',
            bits / 32,
            if little { 1 } else { 2 },
            1,
        ];
        head.resize(18, 0);
        head.extend(if little {
            number.to_le_bytes()
        } else {
            number.to_be_bytes()
        });
        head
    }

    #[test]
    fn this_program_is_a_binary_of_its_own_architecture() {
        let program = std::env::current_exe().unwrap();
        #[allow(clippy::disallowed_methods)]
        let head = std::fs::read(program).unwrap();
        check_plugin_header(
            &head[..PLUGIN_HEADER_SIZE],
            Arch::of_this_program().unwrap(),
        )
        .unwrap();
    }

    /// Fault 54: every pair of two different architectures is distinguished.
    #[test]
    fn fault_54_no_architecture_passes_for_another() {
        for built in Arch::ALL {
            let ElfMachine {
                bits,
                little,
                number,
            } = elf_machine(built);
            for node in Arch::ALL {
                let verdict = check_plugin_header(&elf(bits, little, number), node);
                if built == node {
                    assert_eq!(verdict, Ok(()));
                } else {
                    let error = verdict.unwrap_err().to_string();
                    assert_eq!(
                        error,
                        format!("it is a binary for {built}, this node needs {node}")
                    );
                }
            }
        }
        // Big-endian POWER, 32-bit x86 and x32 share a machine number or a family with one that is known.
        for (bits, little, number) in [(64, false, 21), (32, true, 3), (32, true, 62)] {
            assert!(check_plugin_header(&elf(bits, little, number), Arch::Amd64).is_err());
            assert!(check_plugin_header(&elf(bits, little, number), Arch::Ppc64le).is_err());
        }
    }

    #[test]
    fn a_script_is_a_plugin_and_anything_else_is_named() {
        assert_eq!(check_plugin_header(b"#!/bin/sh\n", Arch::Amd64), Ok(()));
        for (head, name) in [
            (&b""[..], "empty"),
            (b"\n <!DOCTYPE html>", "an HTML page"),
            (b"<HTML><body>", "an HTML page"),
            (b"<?xml", "XML"),
            (b"{\"message\":", "JSON"),
            (b"\x1f\x8b\x08", "gzip data"),
            (b"PK\x03\x04", "a zip archive"),
            (b"MZ\x90", "a Windows binary"),
            (b"Not Found", "text"),
            (b"\x7fELF\x02\x01", "a damaged ELF binary"),
            (b"\0\0\0", "zeros"),
            (b"\xff\xfe\x01", "unknown data"),
        ] {
            assert_eq!(
                check_plugin_header(head, Arch::Amd64),
                Err(NotAPlugin::LooksLike(name))
            );
        }
        for (place, value) in [(4, 3), (5, 0)] {
            let mut head = elf(64, true, 62);
            head[place] = value;
            assert!(
                check_plugin_header(&head, Arch::Amd64).is_err(),
                "byte {place}"
            );
        }
    }
}
