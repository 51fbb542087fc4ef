//! What `ARCHITECTURE.md` says is nowhere in the code is nowhere in the code.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use wit_parser::{Resolve, WorldItem};

/// The modules of the host in the direction of imports: each uses those before it.
const ORDER: [&str; 18] = [
    "planted",
    "telemetry",
    "store",
    "engine",
    "strategy",
    "recovery",
    "cluster",
    "secrets",
    "keys",
    "accounts",
    "usage",
    "limits",
    "relay",
    "demo",
    "config",
    "http",
    "server",
    "cli",
];

/// Which parts of the host may name a crate.
const ONLY: [(&str, &[&str]); 4] = [
    ("redis", &["store/redis"]),
    ("sqlx", &["store/postgres", "store/sqlite"]),
    ("wasmtime", &["engine"]),
    ("axum", &["http"]),
];

const FOLDERS: [&str; 6] = ["host", "sdk", "strategies", "tests", "bench", "torture"];

/// Lines of a file without its tests, and with them.
const MOST_LINES: (usize, usize) = (300, 400);

/// Begins the tests at the end of a file.
const TESTS: &str = "mod tests {";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's root")
}

/// Our sources by their path from the workspace's root.
fn sources() -> BTreeMap<String, String> {
    let mut sources = BTreeMap::new();
    for folder in FOLDERS {
        collect(&root().join(folder), "rs", &mut sources);
    }
    assert!(sources.len() > 20 && sources.contains_key("host/src/store.rs"), "that is not all: {sources:?}");
    sources
}

fn collect(folder: &Path, wanted: &str, sources: &mut BTreeMap<String, String>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    for path in paths {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, wanted, sources);
        } else if path.extension().is_some_and(|extension| extension == wanted) {
            let name = path.strip_prefix(root()).expect("a path below the root").display().to_string();
            sources.insert(name, fs::read_to_string(&path).expect("a readable file"));
        }
    }
}

/// The host's sources by module path: `store/redis/link` for `host/src/store/redis/link.rs`.
fn modules() -> Vec<(String, String)> {
    let module = |name: &str| Some(name.strip_prefix("host/src/")?.strip_suffix(".rs")?.to_owned());
    sources().into_iter().filter_map(|(name, text)| Some((module(&name)?, text))).collect()
}

/// Without comments, so that prose may name anything, and without tests.
fn code(text: &str) -> String {
    let lines = text.lines().take_while(|line| *line != TESTS);
    let code = lines.filter(|line| !line.trim_start().starts_with("//"));
    code.collect::<Vec<_>>().join("\n")
}

/// What follows each `prefix` that does not continue another word or path.
fn after<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(prefix).filter_map(move |(at, _)| {
        let inside = text[..at].ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c));
        (!inside).then(|| &text[at + prefix.len()..])
    })
}

fn assert_none(found: Vec<String>) {
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn crates_stay_behind_their_modules() {
    let mut found = Vec::new();
    for (module, text) in modules() {
        let code = code(&text);
        for (name, homes) in ONLY {
            let at_home = |home: &&str| module == **home || module.starts_with(&format!("{home}/"));
            let path = format!("{name}::");
            let whole = format!("use {name};");
            // A module of ours of the same name, declared here or imported, is what the name then means.
            let ours = code.contains(&format!("mod {name};")) || imports_ours(&code, name);
            let named = after(&code, &path).next().is_some() || code.contains(&whole);
            if named && !ours && !homes.iter().any(at_home) {
                found.push(format!("{module} names {name}, which only {} may", homes.join(" and ")));
            }
        }
    }
    assert_none(found);
}

/// Whether a module of ours with this name is imported, as in `use super::bindings::{postgres, redis};`.
fn imports_ours(code: &str, name: &str) -> bool {
    let relative =
        |import: &&str| ["super::", "crate::", "self::"].iter().any(|root| import.starts_with(root));
    let imports = after(code, "use ").filter_map(|import| import.split(';').next());
    imports.filter(relative).any(|import| {
        let last_words = import.split([',', '{', '}']).map(|path| path.trim().rsplit("::").next());
        last_words.flatten().any(|word| word == name)
    })
}

#[test]
fn imports_run_one_way() {
    let place = |module: &str| ORDER.iter().position(|name| *name == module);
    let mut found = Vec::new();
    for (module, text) in modules() {
        let top = module.split('/').next().unwrap_or_default();
        if ["lib", "main"].contains(&top) {
            continue;
        }
        let Some(own) = place(top) else {
            found.push(format!("{module} has no place in the order of modules"));
            continue;
        };
        let code = code(&text);
        for path in after(&code, "crate::") {
            // `crate::store::Store`, or the start of each part of `crate::{store::Store, telemetry}`.
            let list = path.strip_prefix('{').and_then(|list| list.split(';').next());
            for name in list.unwrap_or_else(|| path.lines().next().unwrap_or_default()).split([',', '{']) {
                let name = name.trim().split(|c: char| !(c.is_alphanumeric() || c == '_')).next();
                if name.and_then(place).is_some_and(|used| used > own) {
                    found.push(format!("{module} uses {}, which stands below it", name.unwrap_or_default()));
                }
            }
        }
    }
    assert_none(found);
}

#[test]
fn files_are_short() {
    let mut found = Vec::new();
    for (name, text) in sources() {
        let tests = text.lines().position(|line| line == TESTS);
        let (all, code) = (text.lines().count(), tests.unwrap_or(text.lines().count()));
        if code > MOST_LINES.0 || all > MOST_LINES.1 {
            found.push(format!("{name} has {code} lines, and {all} with its tests"));
        }
    }
    assert_none(found);
}

#[test]
fn nothing_is_left_for_later() {
    // Spelled in two parts, because this file is searched, too.
    let words = [
        ["TO", "DO"],
        ["FIX", "ME"],
        ["XX", "X"],
        ["unimple", "mented!"],
        ["to", "do!("],
        ["#[ig", "nore"],
        ["dbg", "!("],
    ];
    let mut found = Vec::new();
    for (name, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            if words.iter().any(|words| line.contains(&words.concat())) {
                found.push(format!("{name}:{}: {line}", number + 1));
            }
        }
    }
    assert_none(found);
}

/// It stops a Redis for as long as it looks through all its keys.
#[test]
fn redis_is_never_asked_for_all_its_keys() {
    let mut sources = sources();
    FOLDERS.iter().for_each(|folder| collect(&root().join(folder), "lua", &mut sources));
    assert!(sources.keys().any(|name| name.ends_with(".lua")), "the scripts are among them");
    // As a command begins, in Rust and in Lua.
    let sent = ["cmd(", "call(", "command(", "ask(&[", "ask::<()>(&["];
    let sent = sent.iter().flat_map(|begin| [format!("{begin}\"keys\""), format!("{begin}'keys'")]);
    let sent: Vec<_> = sent.collect();
    let mut found = Vec::new();
    for (name, text) in sources {
        let text = text.to_lowercase();
        found.extend(sent.iter().filter(|sent| text.contains(*sent)).map(|sent| format!("{name}: {sent}")));
    }
    assert_none(found);
}

#[test]
fn every_package_comes_from_the_one_registry() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("the lock file");
    let sources: Vec<_> = lock.lines().filter_map(|line| line.strip_prefix("source = ")).collect();
    let first = sources.first().expect("a package that is not ours");
    assert!(first.starts_with("\"registry+") && sources.len() > 100, "{first}");
    assert_none(
        sources.iter().filter(|source| *source != first).map(|source| (*source).to_owned()).collect(),
    );
}

#[test]
fn modules_are_named_after_what_they_do() {
    let mut found = Vec::new();
    for name in sources().into_keys() {
        let stem = Path::new(&name).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let vague = ["mod", "util", "utils", "helper", "helpers", "common", "manager", "misc", "v2"];
        if vague.contains(&stem) {
            found.push(name);
        }
    }
    assert_none(found);
}

/// Redis, PostgreSQL and a strategy are one thing to whoever calls them.
#[test]
fn the_three_stores_have_the_same_functions() {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(root().join("wit")).expect("a valid contract");
    let functions = |name: &str| -> Vec<String> {
        let interface = &resolve.interfaces[resolve.packages[package].interfaces[name]];
        let shown = |(name, function): (&String, &wit_parser::Function)| {
            let ty = |ty: &wit_parser::Type| shape(&resolve, ty);
            let params: Vec<_> = function.params.iter().map(|param| (&param.name, ty(&param.ty))).collect();
            format!("{name} {:?} {params:?} -> {:?}", function.kind, function.result.as_ref().map(ty))
        };
        interface.functions.iter().map(shown).collect()
    };
    let store = functions("store");
    assert_eq!(store.len(), 5);
    for name in ["redis", "postgres"] {
        assert_eq!(functions(name), store, "{name}");
    }
    let world = &resolve.worlds[resolve.packages[package].worlds["strategy"]];
    let exports: Vec<_> = world.exports.values().collect();
    assert!(matches!(exports[..], [WorldItem::Interface { .. }]), "a strategy exports one thing");
}

/// A type in words, alike for two types that are written alike.
fn shape(resolve: &Resolve, ty: &wit_parser::Type) -> String {
    use wit_parser::{Handle, Type, TypeDefKind};
    let Type::Id(id) = ty else { return format!("{ty:?}") };
    let definition = &resolve.types[*id];
    if let Some(name) = &definition.name {
        return name.clone();
    }
    let of = |ty: &Option<Type>| ty.as_ref().map(|ty| shape(resolve, ty));
    match &definition.kind {
        TypeDefKind::Option(some) => format!("option<{}>", shape(resolve, some)),
        TypeDefKind::List(item) => format!("list<{}>", shape(resolve, item)),
        TypeDefKind::Result(result) => format!("result<{:?}, {:?}>", of(&result.ok), of(&result.err)),
        TypeDefKind::Handle(Handle::Borrow(id)) => format!("borrow<{}>", shape(resolve, &Type::Id(*id))),
        TypeDefKind::Handle(Handle::Own(id)) => format!("own<{}>", shape(resolve, &Type::Id(*id))),
        other => panic!("a type that the contract did not have: {other:?}"),
    }
}
