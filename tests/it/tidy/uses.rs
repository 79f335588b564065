//! Which file uses which: every path is followed to the file that defines what it names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::modules::{Crate, Import, Module};

/// The files that each file uses.
pub(super) type Uses = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Module(usize),
    /// Something that a module defines.
    Item(usize),
}

/// Imports of imports are followed so far.
const MOST_STEPS: usize = 16;

impl Crate {
    /// A re-export is no use, and neither is `mod x;`.
    pub(super) fn uses(&self) -> Uses {
        let mut uses = Uses::new();
        for (index, module) in self.modules.iter().enumerate() {
            let used = uses.entry(module.file.clone()).or_default();
            let mut add = |found: Option<Found>| {
                if let Some(Found::Item(of)) = found {
                    let file = &self.modules[of].file;
                    if *file != module.file {
                        used.insert(file.clone());
                    }
                }
            };
            let named: BTreeSet<&String> = module.paths.iter().map(|path| &path[0]).collect();
            for import in &module.imports {
                if !import.public || named.contains(&import.name) {
                    add(self.resolve(index, &import.path, 0));
                }
            }
            let globs = module.imports.iter().any(|import| import.name == "*");
            for path in module.paths.iter().filter(|path| path.len() > 1 || globs) {
                add(self.resolve_code(index, module, path));
            }
        }
        uses
    }

    /// A path in code: it begins with a keyword, a submodule, or an import.
    fn resolve_code(&self, index: usize, module: &Module, path: &[String]) -> Option<Found> {
        let is_defined = module.items.contains(&path[0]) && path.len() == 1;
        if is_defined { None } else { self.resolve(index, path, 0) }
    }

    fn resolve(&self, from: usize, path: &[String], steps: usize) -> Option<Found> {
        if steps > MOST_STEPS {
            return None;
        }
        let mut at = match path.first()?.as_str() {
            "crate" => Found::Module(0),
            "self" => Found::Module(from),
            "super" => Found::Module(self.modules[from].parent?),
            first => self.lookup(from, first, path.len() == 1, steps)?,
        };
        for (place, segment) in path.iter().enumerate().skip(1) {
            let Found::Module(module) = at else { return Some(at) };
            at = match segment.as_str() {
                "super" => Found::Module(self.modules[module].parent?),
                segment => self.lookup(module, segment, place + 1 == path.len(), steps)?,
            };
        }
        Some(at)
    }

    /// What a module knows by a name. `last`: nothing follows, so that an item is meant before a module.
    fn lookup(&self, module: usize, name: &str, last: bool, steps: usize) -> Option<Found> {
        let of = &self.modules[module];
        let child = of.children.get(name).map(|&child| Found::Module(child));
        if child.is_some() && !last {
            return child;
        }
        if of.items.contains(name) {
            return Some(Found::Item(module));
        }
        // `use x;` of another crate's name leads back to itself.
        let leads_on =
            |import: &&Import| import.path.first().is_some_and(|first| first != name || import.path.len() > 1);
        let mut known = of.imports.iter().filter(|import| import.name == name).filter(leads_on);
        let imported = known.find_map(|import| self.resolve(module, &import.path, steps + 1));
        let from_globs = || {
            let mut globs = of.imports.iter().filter(|import| import.name == "*");
            globs.find_map(|import| match self.resolve(module, &import.path, steps + 1)? {
                Found::Module(all) if all != module => self.lookup(all, name, last, steps + 1),
                _ => None,
            })
        };
        imported.or(child).or_else(from_globs)
    }
}

/// The files that are on a circle, circle by circle.
pub(super) fn circles(uses: &Uses) -> Vec<BTreeSet<PathBuf>> {
    let reach = |from: &PathBuf| {
        let (mut seen, mut left) = (BTreeSet::new(), vec![from]);
        while let Some(file) = left.pop() {
            left.extend(uses.get(file).into_iter().flatten().filter(|next| seen.insert((*next).clone())));
        }
        seen
    };
    let reached: BTreeMap<&PathBuf, BTreeSet<PathBuf>> = uses.keys().map(|file| (file, reach(file))).collect();
    let mut circles = BTreeSet::new();
    for (file, from_it) in &reached {
        if from_it.contains(*file) {
            let back = |other: &&PathBuf| reached.get(other).is_some_and(|reached| reached.contains(*file));
            circles.insert(from_it.iter().filter(back).cloned().collect::<BTreeSet<_>>());
        }
    }
    circles.into_iter().collect()
}
