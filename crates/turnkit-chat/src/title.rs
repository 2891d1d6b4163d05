//! What a session is called until its user names it.

/// Characters of a title that is made of a message.
const MADE: usize = 80;
/// Characters of any title (PROTOCOL 4.2).
pub(crate) const MAX: usize = 200;

/// The first words of a message, without its markdown, on one line: at most 80 characters, and no word cut where it need not be. The
/// default of [`Hooks::title`](crate::Hooks::title).
///
/// ```
/// use turnkit_chat::first_words;
///
/// assert_eq!(first_words("## **Why** is [the sky](https://sky.example) `blue`?\n\nI wonder."), "Why is the sky blue? I wonder.");
/// ```
#[must_use]
pub fn first_words(message: &str) -> String {
    let lines = message.lines().map(str::trim);
    // A fence says how code is set, and a rule nothing.
    let lines = lines.filter(|line| {
        !line.starts_with("```")
            && !line.starts_with("~~~")
            && line.chars().any(char::is_alphanumeric)
    });
    let mut plain = String::new();
    for line in lines {
        plain.push_str(&without_marks(line));
        plain.push(' ');
        // Of a long message the beginning is enough.
        if plain.len() > 16 * MADE {
            break;
        }
    }
    if plain.trim().is_empty() {
        message.clone_into(&mut plain);
    }
    on_one_line(&plain, MADE)
}

/// What a hook gave, as a title can be; `None` where nothing of it is left.
pub(crate) fn bounded(title: &str) -> Option<String> {
    Some(on_one_line(title, MAX)).filter(|title| !title.is_empty())
}

/// One space between words, nothing that moves a cursor or turns text around, and so many characters at most.
fn on_one_line(text: &str, max: usize) -> String {
    let is_unseen = |char: char| {
        char.is_control()
            || matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
    };
    let mut line = String::new();
    for word in text
        .split(|char: char| char.is_whitespace() || is_unseen(char))
        .filter(|word| !word.is_empty())
    {
        let length = line.chars().count();
        let space = usize::from(length > 0);
        if length + space + word.chars().count() <= max {
            line.extend((space > 0).then_some(' '));
            line.push_str(word);
            continue;
        }
        if length == 0 {
            line.extend(whole_characters(word, max - 1));
        } else if length == max {
            line = match line.rsplit_once(' ') {
                Some((words, _)) => words.to_owned(),
                None => whole_characters(&line, max - 1).collect(),
            };
        }
        line.push('…');
        break;
    }
    line
}

/// The beginning of a word without the half of what is seen as one character: a mark belongs to the letter before it, and what is joined
/// stays together.
fn whole_characters(word: &str, max: usize) -> impl Iterator<Item = char> {
    let chars: Vec<char> = word.chars().take(max + 1).collect();
    let joins = |char: char| matches!(char, '\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{300}'..='\u{36f}' | '\u{20d0}'..='\u{20ff}' | '\u{1f3fb}'..='\u{1f3ff}' | '\u{e0020}'..='\u{e007f}');
    let mut end = chars.len().min(max);
    while end > 1 && chars.get(end).is_some_and(|next| joins(*next) || chars[end - 1] == '\u{200d}')
    {
        end -= 1;
    }
    chars.into_iter().take(end)
}

/// A line without the marks of markdown: what begins it, emphasis, code, and all of a link but its text.
fn without_marks(line: &str) -> String {
    let mut rest = line;
    loop {
        let begun = rest.trim_start_matches(['#', '>']).trim_start();
        let begun = ["- ", "* ", "+ ", "[ ] ", "[x] "]
            .iter()
            .find_map(|mark| begun.strip_prefix(mark))
            .unwrap_or(begun)
            .trim_start();
        if begun.len() == rest.len() {
            break;
        }
        rest = begun;
    }
    let mut plain = String::with_capacity(rest.len());
    while let Some(at) = rest.find(['*', '_', '`', '~', '[', '!', '\\']) {
        let (before, mark) = rest.split_at(at);
        plain.push_str(before);
        let after = &mark[1..];
        let in_word = |text: &str| text.chars().next().is_some_and(char::is_alphanumeric);
        rest = match mark.as_bytes()[0] {
            b'[' => {
                if let Some((text, after)) = link(mark) {
                    plain.push_str(&without_marks(text));
                    after
                } else {
                    plain.push('[');
                    after
                }
            }
            b'!' if link(after).is_some() => after,
            b'\\' if after.starts_with(|char: char| char.is_ascii_punctuation()) => {
                plain.push_str(&after[..1]);
                &after[1..]
            }
            b'~' if after.starts_with('~') => &after[1..],
            // `snake_case`, `a*b` and `a * b` are no emphasis.
            b'_' | b'*'
                if (plain.ends_with(char::is_alphanumeric) && in_word(after))
                    || (plain.is_empty() || plain.ends_with(' ')) && after.starts_with(' ') =>
            {
                plain.push_str(&mark[..1]);
                after
            }
            b'!' | b'\\' | b'~' => {
                plain.push_str(&mark[..1]);
                after
            }
            _ => after,
        };
    }
    plain.push_str(rest);
    plain
}

/// The text of the link that a text begins with, and what follows the link.
fn link(text: &str) -> Option<(&str, &str)> {
    let (text, after) = text.strip_prefix('[')?.split_once("](")?;
    let (address, after) = after.split_once(')')?;
    (!text.contains('[') && !address.contains(char::is_whitespace)).then_some((text, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_the_first_words_without_markdown() {
        for (message, title) in [
            ("hello", "hello"),
            ("  # What  is\n\n> - [ ] this?\n", "What is this?"),
            ("**Bold**, _slanted_, ~~gone~~ and `code_like`", "Bold, slanted, gone and code_like"),
            ("snake_case, 2*3*4, ~/file, a * b, a ~ b", "snake_case, 2*3*4, ~/file, a * b, a ~ b"),
            (
                "![a picture](x.png) of [**this**](https://e.example) [not] (one)",
                "a picture of this [not] (one)",
            ),
            ("```rust\nfn main() {}\n```\nWhy?", "fn main() {} Why?"),
            ("---\n***\nafter a rule!", "after a rule!"),
            (r"\*stars\* \\ and C:\dir", r"*stars* \ and C:\dir"),
            ("```", "```"),
            ("?!", "?!"),
            ("a\u{7}b\u{1b}[31mc \u{202e}evil\u{2066}", "a b [31mc evil"),
        ] {
            assert_eq!(first_words(message), title, "{message:?}");
        }
    }

    #[test]
    fn a_title_is_bounded_and_cuts_between_words_or_whole_characters() {
        let words = "word ".repeat(50);
        let title = first_words(&words);
        assert_eq!(title, format!("{}…", ["word"; 16].join(" ")));
        let exact = "x".repeat(80);
        assert_eq!(first_words(&exact), exact);
        assert_eq!(first_words(&"x".repeat(81)), format!("{}…", "x".repeat(79)));
        let family = "👩\u{200d}👩\u{200d}👧";
        let title = first_words(&format!("{}{family}", "x".repeat(77)));
        assert_eq!(title, format!("{}…", "x".repeat(77)));
        let accents = "e\u{301}".repeat(60);
        assert_eq!(first_words(&accents), format!("{}…", "e\u{301}".repeat(39)));
        assert!(first_words(&"\u{1F980}".repeat(100_000)).chars().count() <= 80);
        assert_eq!(bounded(" \n\u{7} "), None);
        assert_eq!(bounded(&"y ".repeat(300)).map(|title| title.chars().count()), Some(200));
    }
}
