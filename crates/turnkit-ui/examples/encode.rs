//! The lines of a turn on standard input, its chunks on standard output: what a client of the AI SDK or of AG-UI reads.
//!
//! ```text
//! encode ai-sdk 7 MESSAGE-ID TURN-ID [AFTER]      chunks for that version of the package `ai`
//! encode ag-ui THREAD-ID RUN-ID PREFIX [AFTER]    events of AG-UI 1.0
//! encode ag-ui-ndjson THREAD-ID RUN-ID PREFIX [AFTER]    the same in lines
//! encode ui-message 7 MESSAGE-ID TURN-ID          the message at rest
//! encode ag-ui-messages THREAD-ID RUN-ID PREFIX   the messages at rest
//! encode tanstack-messages THREAD-ID RUN-ID PREFIX   the same, as TanStack AI has them
//! ```
//!
//! Where the lines are cut, so are the chunks, and the exit code is 1.

use std::{
    error::Error,
    io::{Read, Write},
};

use http_body::Body;
use http_body_util::{BodyExt, Full};
use turnkit_ui::{
    AgUi, AiSdk, Encoded, Encoder, Version, ag_ui_messages, tanstack_messages, ui_message,
};
use turnkit_wire::{Bytes, Event, ndjson::Decoder};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut lines = Vec::new();
    std::io::stdin().read_to_end(&mut lines)?;
    let [what, first, second, third, after @ ..] = &*arguments else {
        return Err("encode: what, and three ids".into());
    };
    let after = after.first().map_or(Ok(0), |after| after.parse())?;
    let ai_sdk = || {
        let version = Version::parse(first).ok_or("encode: a version is 5, 6 or 7")?;
        Ok::<_, &str>(AiSdk::new(second).turn_id(third).version(version))
    };
    let ag_ui = || AgUi::new(first, second, third);
    let mut out = std::io::stdout().lock();
    match *what {
        "ai-sdk" => chunks(lines, ai_sdk()?, after, &mut out),
        "ag-ui" => chunks(lines, ag_ui(), after, &mut out),
        "ag-ui-ndjson" => {
            let body = Encoded::new(Full::new(Bytes::from(lines)), ag_ui()).ndjson();
            write(body.after(after), &mut out)
        }
        "ui-message" => Ok(writeln!(out, "{}", ui_message(ai_sdk()?, &events(lines)?))?),
        "ag-ui-messages" => {
            let messages = ag_ui_messages(ag_ui(), &events(lines)?);
            Ok(writeln!(out, "[{}]", messages.join(","))?)
        }
        "tanstack-messages" => {
            let messages = tanstack_messages(ag_ui(), &events(lines)?);
            Ok(writeln!(out, "[{}]", messages.join(","))?)
        }
        _ => Err(
            "encode: ai-sdk, ag-ui, ag-ui-ndjson, ui-message, ag-ui-messages or tanstack-messages"
                .into(),
        ),
    }
}

fn chunks(
    lines: Vec<u8>,
    encoder: impl Encoder + Unpin,
    after: u64,
    out: &mut impl Write,
) -> Result<(), Box<dyn Error>> {
    write(Encoded::new(Full::new(Bytes::from(lines)), encoder).after(after), out)
}

fn write<E: Encoder + Unpin>(
    mut body: Encoded<Full<Bytes>, E>,
    out: &mut impl Write,
) -> Result<(), Box<dyn Error>> {
    while !body.is_end_stream() {
        let Some(frame) = futures::executor::block_on(body.frame()) else { break };
        if let Ok(data) = frame?.into_data() {
            out.write_all(&data)?;
        }
    }
    Ok(())
}

fn events(lines: Vec<u8>) -> Result<Vec<Event>, Box<dyn Error>> {
    let mut decoder = Decoder::new();
    decoder.push(lines.into());
    let mut events = Vec::new();
    while let Some(event) = decoder.next_event() {
        events.push(event?);
    }
    Ok(events)
}
