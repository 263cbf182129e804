//! `cargo xtask bench gate`: counts of this tree against the committed baselines, the parent commit and the last release.
//!
//! A count is compared with the committed baseline if valgrind, rustc, C library and CPU features are those of the baseline. If they differ, the old
//! counts cannot be compared: the parent commit is counted in the same run and replaces the baseline. So is the release where its facts differ.

use anyhow::{Result, bail, ensure};

use super::baselines::{self, Baselines, Release};
use super::counts;
use super::drag;
use super::facts::CountingFacts;
use super::figures::{self, Compared, FigureKind, Figures, Line};
use super::movers;
use super::profiles::{BenchTree, at_commit, git, parent};
use crate::tree;

/// The line of `check` names this one.
const SHOWN_CASE: &str = "whole_enrolment.ccm8_512";

/// What the figures of this tree are compared with.
struct Reference {
    figures: Figures,
    /// Whether these are the committed baselines, not what the parent commit counts here.
    is_committed: bool,
}

/// Fails if a figure grew, or if the committed baselines are not those of this tree.
pub(super) fn gate() -> Result<()> {
    let Reference { figures: reference, is_committed } = reference()?;
    Release::ensure_unmoved()?;
    let release = Release::committed()?;
    let released = released(&release)?;
    let now = count(&BenchTree::here(), &[(&reference, Line::Parent), (&released, Line::Release)])?;
    let since_parent = figures::compare(&reference, &now);
    let since_release = figures::compare(&released, &now);
    print_table(&since_parent, &released);
    let grown = grown(&since_parent, Line::Parent);
    let cumulative = self::grown(&since_release, Line::Release);
    for (commit, moved) in origins((parent()?, &grown), (&release.commit, &cumulative)) {
        // Which functions moved is worth a build of that commit; that it cannot be built is not the fault to report.
        if let Err(error) = movers::print(commit, &moved) {
            println!("   the functions that moved since {commit} are not known: {error:#}");
        }
    }
    print_lines(&reference, &now)?;
    if !cumulative.is_empty() {
        bail!(
            "more than 2 % above the line of version {} (commit {}), which `bless` does not move: {}",
            release.version,
            release.commit,
            named(&cumulative)
        );
    }
    if !grown.is_empty() {
        bail!("grew: {}. If intended, run `cargo xtask bench bless` and commit it with the reason", named(&grown));
    }
    let gone = |then: &Figures| then.keys().filter(|name| !now.contains_key(*name)).cloned().collect::<Vec<_>>();
    let missing = [gone(&reference), gone(&released)].concat();
    ensure!(missing.is_empty(), "figures are missing: {missing:?}; if intended, run `cargo xtask bench bless`");
    // The parent's own counts stand for no baseline that `bless` could move here.
    if is_committed {
        ensure_blessed(&since_parent)?;
    }
    drag::ensure_noticed(&reference, &now)
}

/// Fails if figures are better than their baselines, or have none: growth up to the baseline would not be seen.
fn ensure_blessed(since_baselines: &[Compared]) -> Result<()> {
    let better: Vec<Compared> = since_baselines.iter().filter(|it| it.has_fallen(Line::Parent)).cloned().collect();
    ensure!(
        better.is_empty(),
        "improved: {}. Run `cargo xtask bench bless` and commit the baselines: until then, growth back to the old figures is not noticed",
        named(&better)
    );
    let new: Vec<&str> = since_baselines.iter().filter(|it| it.then.is_none()).map(|it| it.name.as_str()).collect();
    ensure!(
        new.is_empty(),
        "without a baseline: {}. Run `cargo xtask bench bless` and commit the baselines",
        new.join(", ")
    );
    Ok(())
}

/// Makes the current counts the baseline, and prints the differences for the commit message.
pub(super) fn bless() -> Result<()> {
    let before = Baselines::committed().map(|baselines| baselines.figures()).unwrap_or_default();
    let now = Baselines::measure(&BenchTree::here())?;
    now.write()?;
    println!("For the commit message:\n");
    let released = Release::committed().map(|release| release.figures()).unwrap_or_default();
    print_table(&figures::compare(&before, &now.figures()), &released);
    let cumulative = grown(&figures::compare(&released, &now.figures()), Line::Release);
    if !cumulative.is_empty() {
        println!(
            "   more than 2 % above the line of the last release, so that the gate stays red: {}",
            named(&cumulative)
        );
    }
    Ok(())
}

/// Counts a tree, again where something has grown over a line.
pub(super) fn count(tree: &BenchTree, lines: &[(&Figures, Line)]) -> Result<Figures> {
    let enrolments = baselines::enrolments(tree)?;
    let figures_of = |instructions: &counts::Counts| figures::counted(instructions, &enrolments);
    let has_grown = |instructions: &counts::Counts| {
        let now = figures_of(instructions);
        let over = |(then, line): &(&Figures, Line)| {
            figures::compare(then, &now).iter().any(|it| it.kind().is_instructions() && it.has_grown(*line))
        };
        lines.iter().any(over)
    };
    let instructions = counts::once_or_until_settled(tree, has_grown)?;
    Ok(figures_of(&instructions))
}

/// The committed baselines, or what the parent counts here if the facts differ.
fn reference() -> Result<Reference> {
    let committed = Baselines::committed()?;
    let (then, here) = (&committed.facts, &CountingFacts::here());
    let is_committed = here.differences(then).is_empty();
    let figures = committed_or_counted(then, here, committed.figures(), |differences| {
        println!(
            "   the baselines come from another environment ({}): comparing with the parent commit instead",
            differences.join("; ")
        );
        measured_at(parent()?)
    })?;
    Ok(Reference { figures, is_committed })
}

/// Figures that were counted with the facts of `here` stay; others are counted again, here and now.
fn committed_or_counted(
    then: &CountingFacts,
    here: &CountingFacts,
    committed: Figures,
    count: impl FnOnce(&[String]) -> Result<Figures>,
) -> Result<Figures> {
    let differences = here.differences(then);
    if differences.is_empty() { Ok(committed) } else { count(&differences) }
}

/// The line of the release, or what its commit counts here if the facts differ.
fn released(release: &Release) -> Result<Figures> {
    let here = CountingFacts::here();
    committed_or_counted(&release.facts, &here, release.figures(), |differences| {
        println!("   the line of the release comes from another environment ({})", differences.join("; "));
        // What is counted once for these facts does not change: the line stays.
        let facts = serde_json::to_string(&here)?;
        let cache = tree::target().join(format!("release-counted/{}.json", release.commit));
        let cached = std::fs::read_to_string(&cache).ok().and_then(|text| serde_json::from_str(&text).ok());
        if let Some((_, figures)) = cached.filter(|(of, _): &(String, Figures)| *of == facts) {
            return Ok(figures);
        }
        let figures = measured_at(&release.commit)?;
        tree::write(&cache, &serde_json::to_string(&(facts, &figures))?)?;
        Ok(figures)
    })
}

/// The figures of a commit, counted here; empty where it has no benchmarks.
fn measured_at(commit: &str) -> Result<Figures> {
    if baselines::file_at(commit, "benches/benches/instructions.rs")?.is_none() {
        println!("   {commit} is not here or does not have these benchmarks: its figures are not compared");
        return Ok(Figures::new());
    }
    at_commit(commit, |tree| Ok(Baselines::measure(tree)?.figures()))
}

/// Whether the parent commit is in this repository: it may be a shallow clone.
fn has_history() -> bool {
    parent().is_ok_and(|parent| git("cat-file -e").arg(parent).output().is_ok_and(|ended| ended.status.success()))
}

fn grown(compared: &[Compared], line: Line) -> Vec<Compared> {
    compared.iter().filter(|it| it.has_grown(line)).cloned().collect()
}

/// The commits to count for the functions that moved: the parent for what grew since it, the release for what crossed its line alone. There, the parent
/// may have grown by nothing.
fn origins<'c>(
    (parent, grown): (&'c str, &[Compared]),
    (release, cumulative): (&'c str, &[Compared]),
) -> Vec<(&'c str, Vec<Compared>)> {
    let alone = cumulative.iter().filter(|it| grown.iter().all(|other| other.name != it.name)).cloned().collect();
    let origins = [(parent, grown.to_vec()), (release, alone)];
    origins.into_iter().filter(|(_, moved)| !moved.is_empty()).collect()
}

fn named(compared: &[Compared]) -> String {
    compared.iter().map(|it| format!("{} {}", it.name, change(it))).collect::<Vec<_>>().join(", ")
}

/// Prints the figures, with the change against the baseline and the line of the release.
fn print_table(compared: &[Compared], released: &Figures) {
    print!("{}", table(compared, released));
}

fn table(compared: &[Compared], released: &Figures) -> String {
    let row = |name: &str, now: &str, baseline: &str, release: &str| {
        format!("   {name:<46} {now:>12} {baseline:>10} {release:>14}\n")
    };
    let mut table = row("figure", "now", "baseline", "last release");
    let mut without_line = Vec::new();
    for it in compared {
        let since = Compared { then: released.get(&it.name).copied(), ..it.clone() };
        let release = if since.then.is_some() { change(&since) } else { "no line".to_owned() };
        table += &row(&it.name, &it.now.value.to_string(), &change(it), &release);
        if since.then.is_none() {
            without_line.push(it.name.as_str());
        }
    }
    if !without_line.is_empty() {
        let names = without_line.join(", ");
        table += &format!("   the line of the release has no figure, so that 2 % in all are not held, for: {names}\n");
    }
    table
}

/// Prints three lines: instructions, allocations and datagrams against the parent commit. Where the parent's baselines come from another environment,
/// `reference` is what the parent counts here.
fn print_lines(reference: &Figures, now: &Figures) -> Result<()> {
    let parent = if has_history() { Baselines::of_commit(parent()?)? } else { None };
    let comparable = parent.filter(|parent| CountingFacts::here().differences(&parent.facts).is_empty());
    let then = comparable.map_or_else(|| reference.clone(), |parent| parent.figures());
    for line in lines(&figures::compare(&then, now)) {
        println!("   {line}");
    }
    Ok(())
}

fn lines(compared: &[Compared]) -> [String; 3] {
    let line = |what: &str, kinds: &[FigureKind]| {
        let of_kind: Vec<&Compared> = compared.iter().filter(|it| kinds.contains(&it.kind())).collect();
        if of_kind.iter().all(|it| it.then.is_none()) {
            return format!("{what} against the parent: not compared, its counts are not known here");
        }
        let moved = of_kind.iter().filter(|it| it.then.is_some() && it.percent() != 0.0).count();
        let most = of_kind.iter().max_by(|one, other| one.percent().abs().total_cmp(&other.percent().abs()));
        let most = most.filter(|it| it.percent() != 0.0);
        let most = most.map_or("none moved".to_owned(), |it| format!("{moved} moved, most {} {}", it.name, change(it)));
        let case = SHOWN_CASE.split_once('.').map_or("", |(_, case)| case);
        let shown = of_kind
            .iter()
            .filter(|it| it.name.ends_with(SHOWN_CASE) || { !it.kind().is_instructions() && it.name.ends_with(case) });
        let shown: Vec<String> = shown.map(|it| format!("{} {} ({})", it.name, it.now.value, change(it))).collect();
        format!("{what} against the parent: {most}; {}", shown.join(", "))
    };
    [
        line("instructions", &[FigureKind::Instructions, FigureKind::OutsideCryptography]),
        line("allocations", &[FigureKind::Allocations]),
        line("datagrams", &[FigureKind::Datagrams, FigureKind::Bytes]),
    ]
}

pub(super) fn change(it: &Compared) -> String {
    match it.then {
        None => "new".to_owned(),
        Some(_) if it.kind().is_instructions() => format!("{:+.2} %", it.percent()),
        Some(then) => format!("{:+}", it.now.value - then.value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures::Figure;

    #[test]
    fn where_the_facts_of_the_machine_differ_the_parent_is_counted_in_the_same_run() {
        let of = |value| Figures::from([("instructions/x".to_owned(), Figure { value, noise: 0.0 })]);
        let then = CountingFacts {
            valgrind: "valgrind-3.19.0".to_owned(),
            rustc: "1.95".to_owned(),
            libc: "2.36".to_owned(),
            cpu_features: "aes avx".to_owned(),
        };
        let chosen = |here: &CountingFacts| {
            let mut counted = Vec::new();
            let chosen = committed_or_counted(&then, here, of(100.0), |differences| {
                counted.extend_from_slice(differences);
                Ok(of(103.0))
            });
            (chosen.unwrap(), counted)
        };
        let (same, counted) = chosen(&then.clone());
        assert!(same == of(100.0) && counted.is_empty(), "nothing is counted twice where the baseline holds");
        for here in [
            CountingFacts { valgrind: "valgrind-3.22.0".to_owned(), ..then.clone() },
            CountingFacts { rustc: "1.96".to_owned(), ..then.clone() },
            CountingFacts { libc: "2.39".to_owned(), ..then.clone() },
            CountingFacts { cpu_features: "aes".to_owned(), ..then.clone() },
        ] {
            let (parent, counted) = chosen(&here);
            assert!(parent == of(103.0) && counted.len() == 1, "{here:?}: {counted:?}");
            // Three per cent more than the baseline, and nothing more than the parent here: the gate is green for it.
            let now = of(103.1);
            assert!(grown(&figures::compare(&parent, &now), Line::Parent).is_empty());
            assert_eq!(grown(&figures::compare(&of(100.0), &now), Line::Parent).len(), 1);
        }
        let fails =
            committed_or_counted(&then, &CountingFacts { rustc: "1.96".to_owned(), ..then.clone() }, of(100.0), |_| {
                bail!("the parent cannot be built")
            });
        assert!(fails.is_err(), "a parent that cannot be counted is not replaced by figures of another machine");
    }

    #[test]
    fn the_table_says_which_figures_the_line_of_the_release_does_not_hold() {
        let of = |names: &[&str]| -> Figures {
            names.iter().map(|name| ((*name).to_owned(), Figure { value: 1000.0, noise: 0.0 })).collect()
        };
        let now = of(&["instructions/new", "instructions/x"]);
        let shown = table(&figures::compare(&now, &now), &of(&["instructions/x"]));
        let row = |name: &str| shown.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_default();
        assert!(row("instructions/new ").ends_with("no line"), "{shown}");
        assert!(row("instructions/x ").ends_with("+0.00 %"), "{shown}");
        assert!(shown.lines().last().is_some_and(|line| line.ends_with("not held, for: instructions/new")), "{shown}");
        assert!(!table(&figures::compare(&now, &now), &now).contains("not held"));
    }

    #[test]
    fn an_improvement_that_nobody_blessed_fails() {
        let of = |value| Figures::from([("instructions/x".to_owned(), Figure { value, noise: 0.0 })]);
        let blessed = |baseline: &Figures, now| ensure_blessed(&figures::compare(baseline, &of(now)));
        assert!(blessed(&of(1000.0), 1000.0).is_ok() && blessed(&of(1000.0), 998.0).is_ok(), "within what is not seen");
        let said = blessed(&of(1000.0), 970.0).unwrap_err().to_string();
        assert!(said.starts_with("improved: instructions/x -3.00 %. Run `cargo xtask bench bless`"), "{said}");
        let said = blessed(&Figures::new(), 1000.0).unwrap_err().to_string();
        assert!(said.starts_with("without a baseline: instructions/x"), "{said}");
    }

    #[test]
    fn check_says_in_three_lines_what_moved() {
        let figure = |value| Figure { value, noise: 0.0 };
        let of = |instructions, up| {
            Figures::from([
                (format!("instructions/{SHOWN_CASE}"), figure(instructions)),
                ("allocations/server.ccm8_512".to_owned(), figure(15.0)),
                ("datagrams/up.ccm8_512".to_owned(), figure(up)),
            ])
        };
        let [instructions, allocations, datagrams] = lines(&figures::compare(&of(1000.0, 7.0), &of(1001.0, 8.0)));
        assert!(instructions.starts_with("instructions against the parent: 1 moved, most"), "{instructions}");
        assert!(instructions.contains("1001 (+0.10 %)"), "{instructions}");
        assert!(allocations.contains("none moved; allocations/server.ccm8_512 15 (+0)"), "{allocations}");
        assert!(datagrams.contains("datagrams/up.ccm8_512 +1"), "{datagrams}");
    }

    #[test]
    fn what_crossed_the_line_of_the_release_alone_is_counted_against_the_release() {
        let it = |name: &str| Compared { name: name.to_owned(), then: None, now: Figure::default() };
        let (both, slow) = (it("instructions/both"), it("instructions/slow"));
        let origins = |grown: &[Compared], cumulative: &[Compared]| {
            let origins = origins(("HEAD^", grown), ("c0ffee", cumulative));
            origins
                .into_iter()
                .map(|(commit, moved)| (commit.to_owned(), moved.into_iter().map(|it| it.name).collect()))
                .collect::<Vec<(String, Vec<String>)>>()
        };
        let of = |commit: &str, name: &str| (commit.to_owned(), vec![name.to_owned()]);
        assert_eq!(origins(&[], std::slice::from_ref(&slow)), [of("c0ffee", "instructions/slow")]);
        let expected = [of("HEAD^", "instructions/both"), of("c0ffee", "instructions/slow")];
        assert_eq!(origins(std::slice::from_ref(&both), &[both.clone(), slow]), expected);
        assert!(origins(&[], &[]).is_empty());
    }

    #[test]
    fn a_parent_without_counts_is_not_said_to_be_equal() {
        let now = Figures::from([("datagrams/up.ccm8_512".to_owned(), Figure { value: 7.0, noise: 0.0 })]);
        let [_, _, datagrams] = lines(&figures::compare(&Figures::new(), &now));
        assert!(datagrams.ends_with("not compared, its counts are not known here"), "{datagrams}");
    }
}
