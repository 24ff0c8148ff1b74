//! No circles among the modules of a folder: what a module uses never uses it, not even by a way around.
//!
//! The arrows are read from the sources: paths that begin with `crate`, `self` or `super`, and those that begin with a
//! module of the folder in the folder's own file. A name that a module gives on stands for the module that it comes from.
//! Tests are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Arrows back that there are, by folder: from where, to where. `mod` is the folder's own file, `*` any module.
const KNOWN: &[(&str, &str, &str)] = &[
    // Every type is one of the trait that is beside the list of all types.
    ("blocks", "*", "mod"),
    ("gguf", "split", "reader"),
    ("kernels", "scalar", "mod"),
    ("kernels", "softmax", "mod"),
    ("kernels", "generic", "scalar"),
    ("kernels", "kv", "scalar"),
    ("kernels", "softmax", "scalar"),
    ("kernels", "packed_row", "layout"),
    ("kernels::x86::sse41", "tentative", "sums"),
    ("kernels::ops", "attention", "mod"),
    ("kernels::ops::attention", "memory", "mod"),
    // Errors of two kinds, each of which may be the cause of the other, and a time that one of them names.
    ("trust", "refusal", "error"),
    ("trust", "time", "refusal"),
];

/// A module by its names from the root of the crate, which has none.
type Module = Vec<String>;
/// A path as it is written.
type Names = Vec<String>;
/// Where a module uses another, by both.
type Arrows = BTreeMap<String, BTreeMap<String, String>>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Sign(char),
}

/// The words, signs and texts of a source, but for comments, characters and raw texts.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let after = |from: usize, end: &[char]| {
        let rest = chars.get(from..).unwrap_or_default();
        let found = rest.windows(end.len()).position(|window| window == end);
        found.map_or(chars.len(), |at| from + at + end.len())
    };
    let (mut found, mut at) = (vec![], 0);
    while at < chars.len() {
        let rest = &chars[at..];
        match rest {
            ['/', '/', ..] => at = after(at, &['\n']),
            ['/', '*', ..] => at = after(at, &['*', '/']),
            ['r', '"' | '#', ..] if rest[1..].iter().find(|c| **c != '#') == Some(&'"') => {
                let marks = rest[1..].iter().take_while(|c| **c == '#').count();
                let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', marks)).collect();
                at = after(at + marks + 2, &end);
            }
            ['"', ..] => {
                let begin = at + 1;
                at = begin;
                while at < chars.len() && chars[at] != '"' {
                    at += if chars[at] == '\\' { 2 } else { 1 };
                }
                found.push(Token::Text(chars[begin..at.min(chars.len())].iter().collect()));
                at += 1;
            }
            ['\'', '\\', ..] => at = after(at + 3, &['\'']),
            ['\'', _, '\'', ..] => at += 3,
            [c, ..] if c.is_alphanumeric() || *c == '_' => {
                let word: Vec<char> =
                    rest.iter().copied().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                at += word.len();
                found.push(Token::Word(word.into_iter().collect()));
            }
            [c, ..] => {
                found.extend((!c.is_whitespace() && *c != '\'').then_some(Token::Sign(*c)));
                at += 1;
            }
            [] => {}
        }
    }
    found
}

fn word(tokens: &[Token], at: usize) -> Option<&str> {
    match tokens.get(at) {
        Some(Token::Word(word)) => Some(word),
        _ => None,
    }
}

/// Whether these words and signs, with spaces between, stand at a place.
fn is(tokens: &[Token], at: usize, expected: &str) -> bool {
    expected.split(' ').enumerate().all(|(i, expected)| match tokens.get(at + i) {
        Some(Token::Word(word)) => word == expected,
        Some(Token::Sign(sign)) => expected.len() == 1 && expected.starts_with(*sign),
        Some(Token::Text(_)) | None => false,
    })
}

/// Where the item ends that begins at `at`: behind its semicolon or its braces. A place such as `(super)` ends as well.
fn item_end(tokens: &[Token], at: usize) -> usize {
    let is_place = is(tokens, at, "(");
    let mut depth = 0_usize;
    for (i, token) in tokens.iter().enumerate().skip(at) {
        let Token::Sign(sign) = token else { continue };
        match sign {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && (matches!(sign, ';' | '}') || *sign == ')' && is_place) {
            return i + 1;
        }
    }
    tokens.len()
}

/// Without items under `#[cfg(test)]`.
fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let (mut kept, mut at) = (vec![], 0);
    while at < tokens.len() {
        if is(&tokens, at, "# [ cfg ( test ) ]") || is(&tokens, at, "# [ cfg ( all ( test") {
            at = item_end(&tokens, at);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// The paths of a tree such as `a::{b, c::d as e}` that begins at `at`, each with the name it gives; and where it ends.
fn tree(tokens: &[Token], mut at: usize, before: &[String], found: &mut Vec<(Names, String)>) -> usize {
    let mut path = before.to_vec();
    loop {
        if is(tokens, at, "{") {
            at += 1;
            while at < tokens.len() && !is(tokens, at, "}") {
                let next = tree(tokens, at, &path, found);
                at = if is(tokens, next, ",") { next + 1 } else { next.max(at + usize::from(next == at)) };
            }
            return at + 1;
        }
        match word(tokens, at) {
            Some("self") if !path.is_empty() => {}
            Some(name) => path.push(name.to_owned()),
            None if is(tokens, at, "*") => path.push("*".to_owned()),
            None => return at,
        }
        at += 1;
        // A turbofish ends a path.
        if is(tokens, at, ": :") && !is(tokens, at, ": : <") {
            at += 2;
            continue;
        }
        let mut name = path.last().cloned();
        if is(tokens, at, "as") {
            name = word(tokens, at + 1).map(str::to_owned);
            at += 2;
        }
        found.push((path, name.unwrap_or_default()));
        return at;
    }
}

/// A path as it is written outside so many modules that are written in one file.
fn out_of(path: Names, modules: usize) -> Names {
    let supers = path.iter().take_while(|name| *name == "super").count();
    let left = supers.min(modules);
    let own = (supers > 0 && supers == left).then(|| "self".to_owned());
    own.into_iter().chain(path.into_iter().skip(left)).collect()
}

/// The modules of a crate, with what they say and what they give on from others.
#[derive(Default)]
struct Crate {
    /// With one of its files.
    modules: BTreeMap<Module, (PathBuf, Vec<Token>)>,
    /// The names of the modules in each.
    children: BTreeMap<Module, BTreeSet<String>>,
    /// The paths that each writes, but for what it only gives on.
    paths: BTreeMap<Module, Vec<Names>>,
    /// What each gives on, by the name that it has there.
    given_on: BTreeMap<Module, BTreeMap<String, Names>>,
}

impl Crate {
    /// Reads a crate from the file of its root; `read` gives the text of a file if it is there.
    fn read(root: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Crate {
        let mut this = Crate::default();
        this.read_file(root, &vec![], read);
        for (module, (_, tokens)) in &this.modules {
            let (paths, given_on) = this.paths_of(module, tokens);
            this.paths.insert(module.clone(), paths);
            this.given_on.insert(module.clone(), given_on);
        }
        this
    }

    /// Reads a file as a part of a module, and the files of the modules that it declares.
    fn read_file(&mut self, file: &Path, module: &Module, read: &dyn Fn(&Path) -> Option<String>) {
        let text = read(file).unwrap_or_else(|| panic!("{} is missing", file.display()));
        let tokens = without_tests(tokens(&text));
        let is_own = ["lib.rs", "mod.rs"].iter().any(|name| file.ends_with(name));
        let folder = if is_own { file.parent().unwrap().to_owned() } else { file.with_extension("") };
        for at in (0..tokens.len()).filter(|at| is(&tokens, *at, "mod") && is(&tokens, at + 2, ";")) {
            let name = word(&tokens, at + 1).unwrap();
            let child = [&module[..], &[name.to_owned()]].concat();
            self.children.entry(module.clone()).or_default().insert(name.to_owned());
            let usual = [folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")];
            let usual = usual.into_iter().find(|file| read(file).is_some());
            // Its attributes follow the end of another item.
            let begin = tokens[..at].iter().rposition(|token| [';', '}'].map(Token::Sign).contains(token));
            let others = tokens[begin.unwrap_or(0)..at].iter().filter_map(|token| match token {
                Token::Text(text) if text.ends_with(".rs") => Some(folder.join(text)),
                _ => None,
            });
            for file in others.chain(usual).collect::<Vec<_>>() {
                self.read_file(&file, &child, read);
            }
        }
        self.modules.entry(module.clone()).or_insert_with(|| (file.to_owned(), vec![])).1.extend(tokens);
    }

    /// The paths of a module, and what it gives on.
    fn paths_of(&self, module: &Module, tokens: &[Token]) -> (Vec<Names>, BTreeMap<String, Names>) {
        let (mut paths, mut given_on) = (vec![], BTreeMap::new());
        let children = self.children.get(module);
        // Where modules end that are written in this file, one in the other.
        let mut inner: Vec<usize> = vec![];
        let mut at = 0;
        while at < tokens.len() {
            inner.retain(|end| at < *end);
            let is_inside = at > 1 && is(tokens, at - 2, ": :");
            let Some(name) = word(tokens, at).filter(|_| !is_inside) else {
                at += 1;
                continue;
            };
            let mut found = vec![];
            let is_child = children.is_some_and(|children| children.contains(name));
            match name {
                "pub" if is(tokens, at + 1, "(") => at = item_end(tokens, at + 1),
                "mod" if is(tokens, at + 2, "{") => {
                    inner.push(item_end(tokens, at));
                    at += 3;
                }
                "use" => {
                    let is_given = at > 0 && (is(tokens, at - 1, "pub") || is(tokens, at - 1, ")"));
                    at = tree(tokens, at + 1, &[], &mut found);
                    if is_given {
                        let given = found.drain(..).map(|(path, name)| (name, out_of(path, inner.len())));
                        given_on.extend(given);
                    }
                }
                "crate" | "self" | "super" => at = tree(tokens, at, &[], &mut found),
                _ if is_child && is(tokens, at + 1, ": :") => at = tree(tokens, at, &[], &mut found),
                name => {
                    // Of small names only functions: others are those of fields and variables.
                    let is_type = name.starts_with(char::is_uppercase);
                    let is_call = is(tokens, at + 1, "(") && !is(tokens, at.wrapping_sub(1), ".");
                    if given_on.contains_key(name) && (is_type || is_call) {
                        paths.push(vec!["self".to_owned(), name.to_owned()]);
                    }
                    at += 1;
                }
            }
            paths.extend(found.into_iter().map(|(path, _)| out_of(path, inner.len())));
        }
        (paths, given_on)
    }

    /// The module that a path of another leads to; nothing outside the crate, and after too many names that are given on.
    fn find(&self, from: &Module, path: &[String], most: usize) -> Option<Module> {
        let is_child = |module: &Module, name: &String| {
            self.children.get(module).is_some_and(|children| children.contains(name))
        };
        let (mut module, mut rest) = (from.clone(), path);
        match path.first()?.as_str() {
            "crate" => (module, rest) = (vec![], &rest[1..]),
            "self" => rest = &rest[1..],
            "super" => {}
            _ if is_child(from, &path[0]) => {}
            _ => return None,
        }
        while rest.first().is_some_and(|name| name == "super") {
            module.pop()?;
            rest = &rest[1..];
        }
        while let Some(name) = rest.first() {
            if is_child(&module, name) {
                module.push(name.clone());
                rest = &rest[1..];
            } else if let Some(origin) = self.given_on.get(&module).and_then(|names| names.get(name)) {
                let whole: Names = origin.iter().chain(&rest[1..]).cloned().collect();
                return self.find(&module, &whole, most.checked_sub(1)?);
            } else {
                break;
            }
        }
        Some(module)
    }

    /// The arrows of every folder.
    fn folders(&self) -> BTreeMap<String, Arrows> {
        self.children.keys().map(|folder| (folder.join("::"), self.arrows(folder))).collect()
    }

    /// Which modules of a folder each of them uses, and where; `mod` is the folder's own file.
    fn arrows(&self, folder: &Module) -> Arrows {
        let mut arrows = Arrows::new();
        let node = |module: &Module| module.get(folder.len()).map_or("mod", String::as_str).to_owned();
        for (module, paths) in self.paths.iter().filter(|(module, _)| module.starts_with(folder)) {
            for path in paths {
                let target = self.find(module, path, 8).filter(|target| target.starts_with(folder));
                let Some(target) = target else { continue };
                let (from, to) = (node(module), node(&target));
                if from != to {
                    let place = || format!("{}: {}", self.modules[module].0.display(), path.join("::"));
                    arrows.entry(from).or_default().entry(to).or_insert_with(place);
                }
            }
        }
        arrows
    }
}

/// The arrows that are part of a circle if those that are known are left out.
fn circles(folders: &BTreeMap<String, Arrows>, known: &[(&str, &str, &str)]) -> Vec<String> {
    let mut found = vec![];
    for (name, arrows) in folders {
        let mut arrows = arrows.clone();
        for (from, to) in &mut arrows {
            let is_left_out =
                |to: &str| known.iter().any(|(of, a, b)| of == name && (*a == "*" || a == from) && *b == to);
            to.retain(|to, _| !is_left_out(to));
        }
        let all = arrows.iter().flat_map(|(from, to)| to.iter().map(move |(to, place)| (from, to, place)));
        let part = all.filter(|(from, to, _)| reaches(&arrows, to, from));
        found.extend(part.map(|(from, to, place)| format!("{name}: {from} -> {to} ({place})")));
    }
    found
}

/// Whether a way leads from one module to another.
fn reaches(arrows: &Arrows, from: &str, to: &str) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(node) = open.pop() {
        if node == to {
            return true;
        }
        if seen.insert(node) {
            open.extend(arrows.get(node).into_iter().flatten().map(|(next, _)| next.as_str()));
        }
    }
    false
}

#[test]
fn modules_of_a_folder_form_no_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let this = Crate::read(&root, &|file| std::fs::read_to_string(file).ok());
    assert!(this.modules.len() > 300, "{} modules were read", this.modules.len());
    let folders = this.folders();
    let wrong = circles(&folders, KNOWN);
    assert!(wrong.is_empty(), "arrows of circles:\n{}", wrong.join("\n"));
    for (left_out, known) in KNOWN.iter().enumerate() {
        let others = [&KNOWN[..left_out], &KNOWN[left_out + 1..]].concat();
        assert!(
            !circles(&folders, &others).is_empty(),
            "{known:?} is part of no circle: take it out of the list"
        );
    }
}

/// The arrows of circles in a crate of these files.
fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    let read = |file: &Path| {
        let found = files.iter().find(|(name, _)| file == Path::new(name));
        found.map(|(_, text)| (*text).to_owned())
    };
    let found = circles(&Crate::read(Path::new("lib.rs"), &read).folders(), &[]);
    found.iter().map(|arrow| arrow.split(" (").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn circles_are_found_in_every_form() {
    let (lib, folder) =
        (("lib.rs", "mod a;"), ("a/mod.rs", "mod b;\n#[cfg(x)]\nmod c;\npub use c::{T as U, f};"));
    for back in [
        "use super::c;",
        "use super::{d::e, c::{self, f}};",
        "fn g() { crate::a::c::f(); }",
        "use super::U;",
        "fn g() { super::super::a::f::<u8>() }",
        "mod inner { use super::super::c::f; }",
        "mod inner { mod deeper { fn g() -> super::super::super::U {} } }",
    ] {
        let files = [lib, folder, ("a/b.rs", back), ("a/c.rs", "pub struct T; use super::b::g;")];
        assert_eq!(circles_of(&files), ["a: b -> c", "a: c -> b"], "{back}");
    }
    for apart in [
        "// use super::c;",
        "/* super::c */ const X: &str = \"super::c \\\" super::c\"; const Y: &str = r#\"\" super::c\"#;",
        "#[cfg(test)]\nmod tests {\n    use super::super::c;\n}",
        "pub(in crate::a) fn g<'a>(_: char) { g::<'a>('\"'); g('\\''); }",
        "mod c { pub fn f() {} } fn g() { inner::c::f() }",
        "use other::a::c;",
    ] {
        let files = [lib, folder, ("a/b.rs", apart), ("a/c.rs", "pub struct T; use super::b::g;")];
        assert_eq!(circles_of(&files), [""; 0], "{apart}");
    }
}

#[test]
fn files_of_the_folder_and_other_files_count() {
    let own = ("a/mod.rs", "mod b;\nuse b::T;\npub struct Own;");
    let files = [("lib.rs", "mod a;"), own, ("a/b.rs", "use super::Own;")];
    assert_eq!(circles_of(&files), ["a: b -> mod", "a: mod -> b"]);
    let own = ("a/mod.rs", "mod b;\npub use b::T;\npub struct Own;");
    let files = [("lib.rs", "mod a;"), own, ("a/b.rs", "use super::Own;")];
    assert_eq!(circles_of(&files), [""; 0], "what is only given on is no arrow");
    let own = ("a/mod.rs", "mod b;\npub use b::T;\npub struct Own(T);");
    let files = [("lib.rs", "mod a;"), own, ("a/b.rs", "use super::Own;")];
    assert_eq!(circles_of(&files), ["a: b -> mod", "a: mod -> b"]);
    let lib = ("lib.rs", "#[cfg_attr(not(x), path = \"other.rs\")]\nmod a;\nmod b;");
    let files = [lib, ("a.rs", ""), ("other.rs", "use crate::b;"), ("b.rs", "use crate::a;")];
    assert_eq!(circles_of(&files), [": a -> b", ": b -> a"]);
    let lib = ("lib.rs", "mod a;\nmod b;\nmod c;");
    let files = [lib, ("a.rs", "use crate::b;"), ("b.rs", "use crate::c;"), ("c.rs", "use crate::a;")];
    assert_eq!(circles_of(&files).len(), 3, "a way around");
}
