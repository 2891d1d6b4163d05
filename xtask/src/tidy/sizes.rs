//! Sizes of files and functions, and how much of a file is plain comments.

use super::Source;
use super::sources::functions;

const FILE_LINES: usize = 430;
const FUNCTION_LINES: usize = 60;
const MEDIAN: usize = 6;
const PERCENTILE_95: usize = 25;
const COMMENT_PERCENT: usize = 4;
const LINE_WIDTH: usize = 130;

pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let mut findings: Vec<String> = sources.iter().flat_map(check_file).collect();
    let sizes = sorted_sizes(sources);
    for (what, at, limit) in [("median", 50, MEDIAN), ("95th percentile", 95, PERCENTILE_95)] {
        let size = percentile(&sizes, at);
        if size > limit {
            findings.push(format!("functions: {what} is {size} lines, the limit is {limit}"));
        }
    }
    findings.extend(check_comments(sources));
    findings
}

/// The figures that were checked, in words.
pub(super) fn summary(sources: &[Source]) -> String {
    let sizes = sorted_sizes(sources);
    format!(
        "{} functions (median {}, 95 % up to {}, longest {} lines), {} % plain comments",
        sizes.len(),
        percentile(&sizes, 50),
        percentile(&sizes, 95),
        percentile(&sizes, 100),
        comment_percent(sources)
    )
}

fn check_file(source: &Source) -> Vec<String> {
    let path = source.path.display();
    let mut findings = Vec::new();
    if source.lines > FILE_LINES {
        findings.push(format!(
            "{path}: {} lines without tests, the limit is {FILE_LINES}",
            source.lines
        ));
    }
    for function in functions(source).iter().filter(|function| function.lines > FUNCTION_LINES) {
        let (line, name, lines) = (function.line, &function.name, function.lines);
        findings.push(format!(
            "{path}:{line}: `{name}` has {lines} lines, the limit is {FUNCTION_LINES}"
        ));
    }
    for (number, line) in
        (1..).zip(source.text.lines()).filter(|(_, line)| line.chars().count() > LINE_WIDTH)
    {
        let width = line.chars().count();
        findings.push(format!("{path}:{number}: {width} characters, the limit is {LINE_WIDTH}"));
    }
    findings
}

fn check_comments(sources: &[Source]) -> Option<String> {
    let percent = comment_percent(sources);
    (percent > COMMENT_PERCENT).then(|| {
        format!("plain comments are {percent} % of the lines, the limit is {COMMENT_PERCENT} %: say why, not what")
    })
}

fn comment_percent(sources: &[Source]) -> usize {
    let lines: usize = sources.iter().map(|source| source.lines).sum();
    let comments: usize = sources.iter().map(comment_lines).sum();
    comments * 100 / lines.max(1)
}

fn comment_lines(source: &Source) -> usize {
    let code = source.text.lines().take(source.lines).map(str::trim_start);
    code.filter(|line| {
        line.starts_with("//") && !line.starts_with("///") && !line.starts_with("//!")
    })
    .count()
}

fn sorted_sizes(sources: &[Source]) -> Vec<usize> {
    let mut sizes: Vec<_> =
        sources.iter().flat_map(functions).map(|function| function.lines).collect();
    sizes.sort_unstable();
    sizes
}

fn percentile(sorted: &[usize], percent: usize) -> usize {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * percent / 100).copied().unwrap_or(0)
}
