//! `turnkit chat`

use std::collections::VecDeque;
use std::io::{self, Read as _};
use std::mem;
use std::time::Duration;

use clap::Args;
use clap::error::ErrorKind;
use futures_util::future::OptionFuture;
use turnkit_client::{BuildError, Client, Error, Message, NewTurn, Turn, Update};
use turnkit_wire::Event;
use turnkit_wire::write::FinishReason;
use uuid::Uuid;

use super::drawing::{Drawing, cut_by};
use super::questions::{Act, Answers, Questions};
use super::signals::Signals;
use super::steering::{News, Steering};
use super::terminal::{Look, Screen, Written, harmless, harmless_json, in_line};
use super::{End, Misuse};

/// Send a message to a server and stream the answer.
///
/// The answer goes to standard output; reasoning, tool calls and what happens to the connection go to standard error. On a terminal
/// whatever could steer it is spelt out; where standard output is none, it gets the answer as it is and one newline. A connection
/// that drops comes back by itself, without a word missing or doubled. Ctrl-C stops the turn, a second one leaves.
///
/// Where an agent asks, the question is put here and answered on standard input, if that is a terminal, unless somebody answers it
/// elsewhere before. Where nobody can be asked, it goes on waiting for an answer from elsewhere, and this ends.
///
/// A line that is typed while the turn runs goes into it, where its agent takes that. Otherwise, and where it comes too late, it is a turn
/// of its own behind this one, and its answer follows.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    /// The message; `-` reads it from standard input.
    #[arg(required_unless_present_any = ["history", "watch", "print_config"])]
    message: Option<String>,
    /// URL of the server.
    #[arg(
        long,
        value_name = "URL",
        env = "TURNKIT_SERVER",
        default_value = "http://127.0.0.1:8787"
    )]
    server: String,
    /// Bearer token, where the server's users have some. Better set by the environment: other users can see a command line.
    #[arg(long, value_name = "TOKEN", env = "TURNKIT_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Agent that shall answer. Without it, the server's first one.
    #[arg(long, value_name = "NAME", env = "TURNKIT_CHAT_AGENT")]
    agent: Option<String>,
    /// Session to go on with. Without it a new one begins.
    #[arg(long, value_name = "ID", env = "TURNKIT_SESSION")]
    session: Option<String>,
    /// Print the turn's events, or the messages of --history, as NDJSON instead.
    #[arg(long, env = "TURNKIT_JSON")]
    json: bool,
    #[command(flatten)]
    answers: Answers,
    /// Print what was said in --session, and send nothing.
    #[arg(long, env = "TURNKIT_HISTORY", requires = "session", conflicts_with = "message")]
    history: bool,
    /// Show what is said in --session from now on, by whoever says it and wherever, and send nothing. Ctrl-C leaves, and stops no turn.
    #[arg(
        long,
        env = "TURNKIT_WATCH",
        requires = "session",
        conflicts_with_all = ["message", "history"]
    )]
    watch: bool,
}

const EXAMPLES: &str = "\
Examples:
  turnkit chat 'What is a substrate?'
  turnkit chat --session 01989f6e-7c1c-7a0e-b5f0-0d0a9e4c3b21 'And then?'
  git diff | turnkit chat -
  turnkit chat --json hello | jq .type
  turnkit chat --history --session 01989f6e-7c1c-7a0e-b5f0-0d0a9e4c3b21
  turnkit chat --watch --session 01989f6e-7c1c-7a0e-b5f0-0d0a9e4c3b21

Exit codes: 0 answered; 1 failed; 2 wrong usage; 3 the agent asks and nobody can be
asked here (no terminal, and neither --yes nor --no); 130 stopped by Ctrl-C;
141 nobody reads the output any more.";

/// Bytes of a message that are read from standard input.
const MAX_MESSAGE: u64 = 512 * 1024;

#[derive(Debug, thiserror::Error)]
enum InputError {
    #[error("read the message from standard input")]
    Unreadable(#[from] io::Error),
    #[error("read the message from standard input: it is over {MAX_MESSAGE} bytes")]
    TooLong,
}

pub(super) async fn run(options: Options) -> Result<End, anyhow::Error> {
    let client = client(&options.server, options.token.as_deref())?;
    match (options.message, options.session) {
        (Some(message), session) => {
            let message = if message == "-" { standard_input()? } else { message };
            let questions = Questions::new(&options.answers, !options.json);
            send(client, session, message, options.agent, options.json, questions).await
        }
        (None, Some(session)) if options.watch => watch(&client, &session, options.json).await,
        (None, Some(session)) => history(&client, &session, options.json).await,
        (None, None) => {
            let kind = ErrorKind::MissingRequiredArgument;
            Err(Misuse::new(kind, "there is nothing to do without MESSAGE or --session ID").into())
        }
    }
}

fn client(server: &str, token: Option<&str>) -> Result<Client, BuildError> {
    let client = Client::builder(server);
    token.into_iter().fold(client, turnkit_client::ClientBuilder::bearer_token).build()
}

async fn send(
    client: Client,
    session: Option<String>,
    message: String,
    agent: Option<String>,
    is_json: bool,
    mut questions: Questions,
) -> Result<End, anyhow::Error> {
    let is_new = session.is_none();
    let session = match session {
        Some(session) => session,
        None => client.create_session().await?,
    };
    let new = NewTurn::new(Uuid::new_v4().to_string(), message);
    let new = agent.iter().fold(new, NewTurn::agent);
    let mut view = View::new(is_json);
    let mut steering = Steering::new(client.clone(), session.clone(), agent);
    let mut end =
        follow(client.send(&session, &new)?, &mut view, &mut questions, &mut steering).await?;
    // Who has stopped a turn has stopped those behind it.
    while matches!(end, End::Done | End::Failed)
        && let Some((turn, message)) = steering.next()
    {
        view = View::new(is_json);
        view.note(format_args!("> {message}"))?;
        questions.begin();
        end =
            follow(client.send(&session, &turn)?, &mut view, &mut questions, &mut steering).await?;
    }
    if is_new {
        view.note(format_args!("session {session}"))?;
    }
    Ok(end)
}

/// Prints what was said, the oldest first.
async fn history(client: &Client, session: &str, is_json: bool) -> Result<End, anyhow::Error> {
    let mut screen = Screen::stdout();
    for message in client.all_messages(session).await? {
        if is_json {
            screen.line(harmless_json(&serde_json::to_string(&message)?))?;
        } else {
            show_message(&mut screen, &message)?;
        }
    }
    Ok(End::Done)
}

fn show_question(screen: &mut Screen<io::Stdout>, message: &str) -> Written {
    let quoted = message.replace('\n', "\n> ");
    let question = screen.paint(Look::Bold, format_args!("> {quoted}")).to_string();
    screen.line(question)
}

fn show_message(screen: &mut Screen<io::Stdout>, message: &Message) -> Written {
    if message.role == "user" {
        return show_question(screen, &message.text);
    }
    screen.line(harmless(&message.text))?;
    let reason = message.finish_reason.as_deref().map(FinishReason::parse);
    if let Some(cut) = reason.and_then(cut_by) {
        let cut = screen.paint(Look::Dim, format_args!("! {cut}")).to_string();
        screen.line(cut)?;
    }
    if message.status != "complete" {
        let status = format!("({})", in_line(&message.status));
        let status = screen.paint(Look::Red, status).to_string();
        screen.line(status)?;
    }
    screen.line("")
}

/// Shows each turn of a session from the one that is open now on, to its end and one after the other, until the session is deleted or the
/// user leaves.
async fn watch(client: &Client, session: &str, is_json: bool) -> Result<End, anyhow::Error> {
    let mut signals = Signals::listen()?;
    let state = client.session(session, None).await?;
    let mut feed = client.feed(Some(session), state.feed.as_deref())?;
    let asked = |turn_id: &str| {
        let said =
            state.messages.iter().find(|said| said.turn_id == turn_id && said.role == "user");
        said.map(|said| said.text.clone()).unwrap_or_default()
    };
    // What was said, and what is answered to it.
    let mut waiting: VecDeque<_> =
        state.turns.iter().map(|open| (open.turn_id.clone(), asked(&open.turn_id))).collect();
    let mut shown: Option<(Turn, View)> = None;
    let mut is_deleted = false;
    loop {
        if shown.is_none()
            && let Some((turn_id, message)) = waiting.pop_front()
        {
            if !is_json {
                show_question(&mut Screen::stdout(), &message)?;
            }
            shown = Some((client.follow(session, &turn_id, 0)?, View::new(is_json)));
        }
        if is_deleted && shown.is_none() {
            View::new(is_json).note("the session was deleted")?;
            return Ok(End::Done);
        }
        tokio::select! {
            Some(update) = OptionFuture::from(shown.as_mut().map(|(turn, _)| turn.next())) => {
                let end = match (update, &mut shown) {
                    (Ok(Some(update)), Some((_, view))) => view.show(update)?,
                    (Ok(_), _) => Some(End::Done),
                    // The turn can't be read any more, which is no reason to miss the next one.
                    (Err(error), Some((_, view))) => {
                        view.note(format_args!("{error}"))?;
                        Some(End::Failed)
                    }
                    (Err(error), None) => return Err(error.into()),
                };
                if end.is_some() {
                    shown = None;
                }
            }
            entry = feed.next(), if !is_deleted && waiting.len() < MAX_WAITING => {
                let Some(entry) = entry? else {
                    is_deleted = true;
                    continue;
                };
                if is_json {
                    Screen::stdout().line(harmless_json(entry.event.as_json()))?;
                }
                if let ("turn.accepted", Some(turn_id)) = (entry.event.kind(), entry.turn_id) {
                    waiting.push_back((turn_id, entry.message.unwrap_or_default()));
                }
            }
            () = signals.next() => return Ok(End::Interrupted),
        }
    }
}

/// Turns that are to be shown behind the one that is; the feed keeps the others.
const MAX_WAITING: usize = 64;

fn standard_input() -> Result<String, InputError> {
    let mut message = String::new();
    io::stdin().take(MAX_MESSAGE + 1).read_to_string(&mut message)?;
    if message.len() as u64 > MAX_MESSAGE {
        return Err(InputError::TooLong);
    }
    Ok(message)
}

/// Reads the turn to its end. The first Ctrl-C stops it, the second one leaves it, also while the first one is under way.
async fn follow(
    mut turn: Turn,
    view: &mut View,
    questions: &mut Questions,
    steering: &mut Steering,
) -> Result<End, anyhow::Error> {
    let mut signals = Signals::listen()?;
    let (mut stopping, mut answering) = (OptionFuture::from(None), OptionFuture::from(None));
    let mut is_stopping = false;
    loop {
        match questions.next(&mut view.drawing)? {
            Some(Act::Answer(id, answer)) => {
                answering = OptionFuture::from(Some(Box::pin(turn.answer(&id, &answer))));
            }
            Some(Act::Leave) => return Ok(End::Unanswered),
            None => {}
        }
        if questions.are_there() {
            steering.ask();
        }
        questions.typed_before().for_each(|line| steering.say(line));
        steering.send(&turn);
        tokio::select! {
            update = turn.next() => {
                if let Some(update) = &update.as_ref().ok().and_then(Option::as_ref) {
                    questions.see(update);
                    steering.see(update);
                }
                // The last one is an end, and after that nothing is asked for.
                let end = update?.map_or(Ok(Some(End::Failed)), |update| view.show(update))?;
                if let Some(end) = end {
                    // What is on its way is told whether it came in time.
                    if let (false, Some(told)) = (is_stopping, steering.told().await) {
                        view.note(told)?;
                    }
                    return Ok(if is_stopping { End::Interrupted } else { end });
                }
            }
            news = steering.news() => match news {
                News::Takes(takes) => questions.takes_answers(takes.answers),
                News::Told(told) => view.note(told)?,
            },
            Some(told) = &mut answering => {
                answering = OptionFuture::from(None);
                match told {
                    Ok(_) => questions.answered(),
                    Err(Error::Refused(refusal)) if matches!(refusal.status(), 404 | 409 | 410 | 422) => {
                        questions.refused(&refusal, &mut view.drawing)?;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            line = questions.line() => {
                questions.take(line, &mut view.drawing)?.into_iter().for_each(|line| steering.say(line));
            }
            Some(stopped) = &mut stopping => {
                stopping = OptionFuture::from(None);
                stopped?;
            }
            () = signals.next() => {
                if is_stopping {
                    return Ok(End::Interrupted);
                }
                is_stopping = true;
                view.note("stopping")?;
                stopping = OptionFuture::from(Some(Box::pin(turn.cancel())));
            }
        }
    }
}

/// What the terminal shows of a turn.
struct View {
    is_json: bool,
    drawing: Drawing,
    /// Whether it was told that the connection is lost: once, however often it takes.
    is_lost: bool,
}

impl View {
    fn new(is_json: bool) -> View {
        View { is_json, drawing: Drawing::new(), is_lost: false }
    }

    /// Shows one update; gives the end where it is one.
    fn show(&mut self, update: Update) -> Written<Option<End>> {
        match update {
            Update::Event { event, .. } => {
                self.is_lost = false;
                self.event(&event)?;
            }
            Update::Disconnected { error: Error::Failed(failure), .. } => {
                tracing::debug!(%failure, "the attempt failed");
                self.drawing.start_anew()?;
                self.note("that attempt failed, the answer follows anew")?;
            }
            Update::Disconnected { error, cursor, wait } => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                    "the connection was lost"
                );
                if !mem::replace(&mut self.is_lost, true) {
                    self.lost(&error, cursor, wait)?;
                }
            }
            Update::Completed { line, .. } => {
                self.event(&line)?;
                return Ok(Some(End::Done));
            }
            Update::Failed { error, line, .. } => {
                error.iter().chain([&line]).try_for_each(|line| self.event(line))?;
                return Ok(Some(End::Failed));
            }
            _ => {}
        }
        Ok(None)
    }

    fn lost(&mut self, error: &Error, cursor: u64, wait: Duration) -> Written {
        match error {
            Error::Refused(refusal) => self.note(format_args!(
                "the server says: {}; trying again in {} s",
                refusal.message(),
                wait.as_secs().max(1)
            )),
            _ => {
                self.note(format_args!("connection lost after {cursor} events, taking it up again"))
            }
        }
    }

    fn event(&mut self, event: &Event) -> Written {
        if self.is_json {
            return Screen::stdout().line(harmless_json(event.as_json()));
        }
        self.drawing.event(event)
    }

    fn note(&mut self, text: impl std::fmt::Display) -> Written {
        self.drawing.line_beside(Look::Dim, &text.to_string())
    }
}
