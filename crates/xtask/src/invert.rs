//! `cargo xtask invert`: breaks the code of one requirement at a time; a test that the requirement names must fail.
//!
//! `crates/est/rfc/inverted/ID.patch` breaks the code of requirement ID. The patches are applied to a copy of the tree with a build folder of its own, so
//! that no broken program lies where others look for a sound one. The last result of each patch is kept.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::bench::facts::TimingFacts;
use crate::named_tests::{self, NamedFunction, TestTarget};
use crate::process::{Ended, Program};
use crate::requirements::{self, KeptInversion, KeptInversions, RESULTS};
use crate::tree;

/// Time for the first build, of all dependencies.
const BUILD_TIMEOUT: Duration = Duration::from_secs(3600);
/// Time for the tests of one package: they are named and few.
const TEST_TIMEOUT: Duration = Duration::from_secs(600);

#[derive(Args)]
pub(crate) struct InvertOptions {
    /// Invert only these requirements, such as `rfc9148-4.6-1`. The results of the others are left as they are
    #[arg(long)]
    id: Vec<String>,
}

/// What became of a patch.
#[derive(Debug, PartialEq, Eq)]
enum Inversion {
    /// This test failed, as it must.
    Red(String),
    /// Every named test passed all the same.
    Green,
    /// Nothing was tested, for this reason.
    Void(String),
}

/// The tests of one requirement in one package.
#[derive(Debug, PartialEq, Eq)]
struct PackageTests {
    /// The folder of the package below `crates/`.
    folder: String,
    names: Vec<String>,
    targets: Vec<TestTarget>,
}

/// The copy of the tree.
struct Copy {
    tree: PathBuf,
    build: PathBuf,
}

/// Inverts every requirement that has a patch, or those of the options.
pub(crate) fn run(options: &InvertOptions) -> Result<()> {
    let patches = requirements::patches()?;
    if let Some(unknown) = options.id.iter().find(|id| !patches.contains(id)) {
        bail!("no file {}", requirements::patch_file(unknown));
    }
    let chosen: Vec<&String> = patches.iter().filter(|id| options.id.is_empty() || options.id.contains(id)).collect();
    let tests = named(&chosen)?;
    let commit = TimingFacts::here().commit.replace(" with changes", "+");
    let copy = Copy::make()?;
    println!("   {} of {} patches; first the tests without any", chosen.len(), patches.len());
    copy.all_pass(&tests)?;
    let mut kept = KeptInversions::parse(&tree::read(RESULTS).unwrap_or_default())?;
    let mut failed = 0;
    for (id, tests) in chosen.iter().zip(&tests) {
        let started = Instant::now();
        let (word, text) = match copy.invert(id, tests)? {
            Inversion::Red(test) => ("red", test),
            Inversion::Green => ("GREEN", "no named test notices".to_owned()),
            Inversion::Void(why) => ("VOID", why),
        };
        let result =
            KeptInversion { word: word.to_owned(), seconds: started.elapsed().as_secs(), commit: commit.clone(), text };
        failed += usize::from(!result.is_red());
        println!("   {}", requirements::shown(id, &result));
        kept.keep(id, result);
    }
    kept.retain(&patches);
    tree::write(&tree::root().join(RESULTS), &kept.render())?;
    println!("   written: {RESULTS}");
    if failed > 0 {
        bail!("{failed} of {} inversions turned no test red", chosen.len());
    }
    Ok(())
}

/// The tests of each chosen requirement, by package, in the order in which the table names them: the quickest come first there.
fn named(chosen: &[&String]) -> Result<Vec<Vec<PackageTests>>> {
    let functions = named_tests::in_tree()?;
    let tables = requirements::read()?;
    let mut found = Vec::new();
    for id in chosen {
        let mut entries = tables.iter().flat_map(|table| &table.requirement);
        let entry = entries.find(|entry| entry.id == **id).with_context(|| format!("no table has {id}"))?;
        found.push(
            by_package(&entry.tests, &functions).with_context(|| format!("{id}: see `cargo xtask requirements`"))?,
        );
    }
    Ok(found)
}

fn by_package(names: &[String], functions: &[NamedFunction]) -> Result<Vec<PackageTests>> {
    let mut found: Vec<PackageTests> = Vec::new();
    for named in names {
        let test = requirements::find(named, functions).map_err(anyhow::Error::msg)?;
        let folder = test.package().with_context(|| format!("{} belongs to no package", test.file))?;
        match found.iter_mut().find(|tests| tests.folder == folder) {
            Some(tests) => tests.add(test.name.clone(), test.target()),
            None => found.push(PackageTests::of(folder, test)),
        }
    }
    if found.is_empty() {
        bail!("no test is named");
    }
    Ok(found)
}

impl PackageTests {
    fn of(folder: &str, test: &NamedFunction) -> Self {
        Self { folder: folder.to_owned(), names: vec![test.name.clone()], targets: vec![test.target()] }
    }

    fn add(&mut self, name: String, target: TestTarget) {
        if !self.names.contains(&name) {
            self.names.push(name);
        }
        if !self.targets.contains(&target) {
            self.targets.push(target);
        }
    }

    /// The name of the package, which is not always that of its folder.
    fn package(&self) -> Result<String> {
        let manifest = tree::read(format!("crates/{}/Cargo.toml", self.folder))?;
        let name = manifest.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
        Ok(name.with_context(|| format!("crates/{} has no name", self.folder))?.to_owned())
    }

    /// The arguments that make cargo build no more than the targets.
    fn target_arguments(&self) -> Vec<String> {
        let library = tree::root().join("crates").join(&self.folder).join("src/lib.rs");
        let unit = if library.is_file() { "--lib" } else { "--bins" };
        let arguments = self.targets.iter().flat_map(|target| match target {
            TestTarget::Unit => vec![unit.to_owned()],
            TestTarget::Program(name) => vec!["--test".to_owned(), name.clone()],
        });
        arguments.collect()
    }

    /// The named tests for which the output of libtest has this word: `ok` or `FAILED`.
    fn with_result(&self, word: &str, output: &str) -> Vec<String> {
        let paths = output.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(&format!(" ... {word}")));
        let names: Vec<&str> = paths.filter_map(|path| path.rsplit("::").next()).collect();
        self.names.iter().filter(|name| names.contains(&name.as_str())).cloned().collect()
    }
}

impl Copy {
    /// Copies the files that git would commit. A file that has not changed is left alone, so that cargo builds only what has.
    fn make() -> Result<Self> {
        let folder = tree::target().join("inverted");
        let copy = Self { tree: folder.join("tree"), build: folder.join("build") };
        copy.restore()?;
        Ok(copy)
    }

    fn restore(&self) -> Result<()> {
        let files = tree::files(&[""])?;
        for file in &files {
            copy_if_changed(&tree::root().join(file), &self.tree.join(file))?;
        }
        remove_strays(&self.tree, &self.tree, &files)
    }

    /// Without a patch every test has to pass, and has to be run at all.
    fn all_pass(&self, chosen: &[Vec<PackageTests>]) -> Result<()> {
        let mut union: Vec<PackageTests> = Vec::new();
        for tests in chosen.iter().flatten() {
            let at = union.iter().position(|all| all.folder == tests.folder).unwrap_or_else(|| {
                union.push(PackageTests { folder: tests.folder.clone(), names: Vec::new(), targets: Vec::new() });
                union.len() - 1
            });
            tests.names.iter().for_each(|name| union[at].names.push(name.clone()));
            tests.targets.iter().for_each(|target| union[at].targets.push(target.clone()));
        }
        for mut tests in union {
            tests.names.sort_unstable();
            tests.names.dedup();
            tests.targets.sort_unstable();
            tests.targets.dedup();
            self.cargo(&tests)?.arg("--no-run").timeout(BUILD_TIMEOUT).expect_success()?;
            let output = self.test(&tests)?.words();
            let passed = tests.with_result("ok", &output);
            let others: Vec<&String> = tests.names.iter().filter(|name| !passed.contains(name)).collect();
            if !others.is_empty() {
                bail!("without any patch, these tests of crates/{} do not pass: {others:?}\n{output}", tests.folder);
            }
        }
        Ok(())
    }

    fn invert(&self, id: &str, tests: &[PackageTests]) -> Result<Inversion> {
        self.restore()?;
        let patch = tree::root().join(requirements::patch_file(id));
        // The copy lies inside the work tree, where git would look for the files of the work tree.
        let apply =
            Program::line("git apply").arg(&patch).env("GIT_CEILING_DIRECTORIES", tree::target().join("inverted"));
        let applied = apply.directory(&self.tree).output()?;
        if !applied.status.success() {
            return Ok(Inversion::Void(format!("does not apply: {}", first_line(&applied.stderr))));
        }
        let outcome = self.judge(tests);
        self.restore()?;
        outcome
    }

    fn judge(&self, tests: &[PackageTests]) -> Result<Inversion> {
        for tests in tests {
            let built = self.cargo(tests)?.arg("--no-run").timeout(BUILD_TIMEOUT).output()?;
            if !built.status.success() {
                let errors = built.stderr.lines().find(|line| line.starts_with("error"));
                return Ok(Inversion::Void(format!("does not compile: {}", errors.unwrap_or_default())));
            }
            let output = match self.test(tests) {
                Ok(ended) => ended.words(),
                Err(error) => return Ok(Inversion::Void(format!("no result: {}", first_line(&error.to_string())))),
            };
            if let Some(test) = tests.with_result("FAILED", &output).into_iter().next() {
                return Ok(Inversion::Red(test));
            }
            if tests.with_result("ok", &output).len() < tests.names.len() {
                return Ok(Inversion::Void(format!("no result: {}", output.lines().last().unwrap_or_default())));
            }
        }
        Ok(Inversion::Green)
    }

    fn test(&self, tests: &PackageTests) -> Result<Ended> {
        self.cargo(tests)?.arg("--").args(&tests.names).timeout(TEST_TIMEOUT).output()
    }

    fn cargo(&self, tests: &PackageTests) -> Result<Program> {
        let cargo = Program::line("cargo test --locked --no-fail-fast -p").arg(tests.package()?);
        let cargo = cargo.args(tests.target_arguments()).directory(&self.tree);
        Ok(cargo.env("CARGO_TARGET_DIR", &self.build).env("CARGO_TERM_COLOR", "never").env("RUST_BACKTRACE", "0"))
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let bytes = std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if std::fs::read(to).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    std::fs::write(to, bytes).with_context(|| format!("cannot write {}", to.display()))
}

/// Removes the files below `folder` that the tree no longer has.
fn remove_strays(root: &Path, folder: &Path, files: &[String]) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            remove_strays(root, &path, files)?;
        } else if let Some(file) = path.strip_prefix(root).ok().and_then(Path::to_str)
            && files.binary_search_by(|known| known.as_str().cmp(file)).is_err()
        {
            std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tests(text: &str, names: &[&str]) -> Vec<PackageTests> {
        let mut functions = named_tests::in_file("crates/est/src/a.rs", text);
        functions.extend(named_tests::in_file("crates/dtls/tests/walk.rs", "#[test]\nfn walks() {}\n"));
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        by_package(&names, &functions).unwrap()
    }

    #[test]
    fn tests_run_in_the_targets_that_have_them() {
        let found = tests("#[test]\nfn shows() {}\n", &["shows", "walks"]);
        assert_eq!(found[0].target_arguments(), ["--lib"]);
        assert_eq!(found[1].target_arguments(), ["--test", "walk"]);
        let of_the_command = PackageTests { folder: "cli".to_owned(), names: Vec::new(), targets: Vec::new() };
        assert_eq!(of_the_command.package().unwrap(), "muster");
    }

    #[test]
    fn only_a_named_test_counts() {
        let found = tests("#[test]\nfn shows() {}\n", &["shows"]);
        let output = "test a::tests::shows_more ... FAILED\ntest a::tests::shows ... ok\ntest b::other ... FAILED\n";
        assert_eq!(found[0].with_result("FAILED", output), Vec::<String>::new());
        assert_eq!(found[0].with_result("ok", output), ["shows"]);
        assert_eq!(found[0].with_result("FAILED", "test shows ... FAILED\n"), ["shows"]);
    }

    #[test]
    fn a_copy_follows_the_tree() {
        let folder = tree::scratch("invert-copy").unwrap();
        let (from, to) = (folder.join("from"), folder.join("to/sub/file"));
        std::fs::write(&from, "one").unwrap();
        copy_if_changed(&from, &to).unwrap();
        let written = std::fs::metadata(&to).unwrap().modified().unwrap();
        copy_if_changed(&from, &to).unwrap();
        assert_eq!(std::fs::metadata(&to).unwrap().modified().unwrap(), written, "an equal file is left alone");
        let root = folder.join("to");
        remove_strays(&root, &root, &["sub/file".to_owned()]).unwrap();
        assert!(to.is_file());
        remove_strays(&root, &root, &["sub/other".to_owned()]).unwrap();
        assert!(!to.exists());
    }
}
