//! The modules of the agent and what each of them imports, read from their sources with `syn`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// A module's path below the crate: `["fetch", "http"]`.
pub(super) type ModulePath = Vec<String>;

/// One source file, without its test modules.
#[derive(Default)]
pub(super) struct Module {
    /// The file, below the root of the repository.
    pub(super) file: PathBuf,
    /// The paths that private `use` items name, by the name that they bring in.
    imports: BTreeMap<String, Vec<String>>,
    /// The paths that `pub use` items name, by the name that they give.
    re_exports: BTreeMap<String, Vec<String>>,
    /// The paths that expressions, types and macros name.
    mentions: Vec<Vec<String>>,
}

/// All modules of the agent.
pub(super) struct Modules(BTreeMap<ModulePath, Module>);

impl Modules {
    /// Reads every source file below `agent/`, but for `lib.rs`, `main.rs` and test modules.
    pub(super) fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut pending = vec![root.join("agent")];
        let mut modules = BTreeMap::new();
        while let Some(directory) = pending.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    pending.push(path);
                } else if let Some(name) = module_path(&path, root) {
                    let source = syn::parse_file(&std::fs::read_to_string(&path).unwrap());
                    let source = source.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                    let mut module = Module {
                        file: path.strip_prefix(root).unwrap().to_owned(),
                        ..Module::default()
                    };
                    module.visit_file(&source);
                    modules.insert(name, module);
                }
            }
        }
        assert!(modules.len() > 20, "the agent's sources were not found");
        Self(modules)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ModulePath, &Module)> {
        self.0.iter()
    }

    /// The modules whose items each module uses. A re-export is not a use: whoever uses the re-exported item depends
    /// on the module that defines it.
    pub(super) fn dependencies(&self) -> BTreeMap<&ModulePath, BTreeSet<&ModulePath>> {
        let of = |(path, module): (&'_ ModulePath, &'_ Module)| {
            let mentions = module.mentions.iter();
            let mentions = mentions.map(|mention| module.spell_out(mention));
            let all = module.imports.values().cloned().chain(mentions);
            all.filter_map(|named| self.definer(path, &named, 0))
                .filter(|definer| definer != path)
                .collect::<BTreeSet<ModulePath>>()
        };
        let known = |found: BTreeSet<ModulePath>| {
            let found = found.into_iter();
            found
                .filter_map(|path| Some(self.0.get_key_value(&path)?.0))
                .collect()
        };
        self.iter()
            .map(|(path, module)| (path, known(of((path, module)))))
            .collect()
    }

    /// The module that defines what a path names, as it is written in module `here`. `None` if it names a module
    /// itself, or something of another crate.
    fn definer(&self, here: &ModulePath, named: &[String], depth: usize) -> Option<ModulePath> {
        assert!(depth < 16, "{here:?}: {named:?} is re-exported in a circle");
        let (mut at, mut rest) = match named.first()?.as_str() {
            "crate" => (Vec::new(), &named[1..]),
            "self" | "super" => (here.clone(), named),
            first if self.0.contains_key(&child(here, first)) => (here.clone(), named),
            _ => return None,
        };
        while let [first, after @ ..] = rest {
            if first == "super" {
                at.pop();
            } else if first != "self" {
                let next = child(&at, first);
                if !self.0.contains_key(&next) {
                    break;
                }
                at = next;
            }
            rest = after;
        }
        let item = rest.first()?;
        match self.0.get(&at)?.re_exports.get(item) {
            Some(origin) => {
                let mut origin = origin.clone();
                origin.extend_from_slice(&rest[1..]);
                self.definer(&at, &origin, depth + 1).or(Some(at))
            }
            None => Some(at),
        }
    }
}

impl Module {
    /// Every path that the module names, spelled out from the crate that it belongs to.
    pub(super) fn names(&self) -> impl Iterator<Item = Vec<String>> {
        let mentions = self.mentions.iter();
        let mentions = mentions.map(|mention| self.spell_out(mention));
        let imports = self.imports.values().chain(self.re_exports.values());
        imports.cloned().chain(mentions)
    }

    /// Puts the imported path in the place of a name that a `use` item brought in.
    fn spell_out(&self, mention: &[String]) -> Vec<String> {
        let import = mention.first().and_then(|name| self.imports.get(name));
        match import {
            Some(import) => import.iter().chain(&mention[1..]).cloned().collect(),
            None => mention.to_vec(),
        }
    }

    fn mention_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.mentions.push(std::mem::take(&mut path));
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => self.mention_tokens(group.stream()),
                TokenTree::Punct(_) | TokenTree::Literal(_) => colons = 0,
            }
        }
        self.mentions.push(path);
        self.mentions.retain(|path| path.len() > 1);
    }
}

impl<'ast> Visit<'ast> for Module {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if is_test(&item.attrs) {
            return;
        }
        let mut paths = Vec::new();
        flatten(&item.tree, &mut Vec::new(), &mut paths);
        match item.vis {
            syn::Visibility::Inherited => self.imports.extend(paths),
            _ => self.re_exports.extend(paths),
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter();
        let segments: Vec<String> = segments.map(|s| s.ident.to_string()).collect();
        if segments.len() > 1 {
            self.mentions.push(segments);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.mention_tokens(item.tokens.clone());
        visit::visit_macro(self, item);
    }
}

/// The module that a source file is; `None` for the roots of the crate and for files of tests.
fn module_path(file: &Path, root: &Path) -> Option<ModulePath> {
    let below = file.strip_prefix(root.join("agent")).unwrap();
    if file.extension()? != "rs" || file.ends_with("tests.rs") {
        return None;
    }
    let below = below.with_extension("");
    let mut path: ModulePath = below
        .iter()
        .map(|name| name.to_str().unwrap().to_owned())
        .collect();
    if path.last()? == "mod" {
        path.pop();
    }
    let is_root = path == ["lib"] || path == ["main"];
    (!is_root).then_some(path)
}

fn child(parent: &ModulePath, name: &str) -> ModulePath {
    let name = name.to_owned();
    parent.iter().cloned().chain([name]).collect()
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Path>()
                .is_ok_and(|path| path.is_ident("test"))
    })
}

/// Each path of a `use` tree, with the name that it brings in.
fn flatten(tree: &syn::UseTree, before: &mut Vec<String>, paths: &mut Vec<(String, Vec<String>)>) {
    let whole = |last: &syn::Ident| {
        let path = before.iter().cloned();
        path.chain([last.to_string()]).collect::<Vec<String>>()
    };
    match tree {
        syn::UseTree::Path(path) => {
            before.push(path.ident.to_string());
            flatten(&path.tree, before, paths);
            before.pop();
        }
        syn::UseTree::Name(name) if name.ident == "self" => {
            let last = before.last().cloned().unwrap_or_default();
            paths.push((last, before.clone()));
        }
        syn::UseTree::Name(name) => paths.push((name.ident.to_string(), whole(&name.ident))),
        syn::UseTree::Rename(rename) => {
            paths.push((rename.rename.to_string(), whole(&rename.ident)));
        }
        syn::UseTree::Glob(_) => paths.push((String::new(), before.clone())),
        syn::UseTree::Group(group) => {
            for item in &group.items {
                flatten(item, before, paths);
            }
        }
    }
}
