//! What goes into statements, each value with its type, so that nobody asks the server for types.

use std::error::Error;
use std::time::SystemTime;

use tokio_postgres::Row;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use turnkit_id::ExecutionId;

use super::faults::Fault;
use crate::{SessionId, TurnState};

/// A parameter of a statement.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Text(Option<&'a str>),
    Texts(Vec<Option<&'a str>>),
    Int(Option<i64>),
    Flag(bool),
    Bytes(Option<&'a [u8]>),
    Time(Option<SystemTime>),
}

impl Value<'_> {
    pub(super) fn kind(&self) -> Type {
        match self {
            Value::Text(_) => Type::TEXT,
            Value::Texts(_) => Type::TEXT_ARRAY,
            Value::Int(_) => Type::INT8,
            Value::Flag(_) => Type::BOOL,
            Value::Bytes(_) => Type::BYTEA,
            Value::Time(_) => Type::TIMESTAMPTZ,
        }
    }
}

impl ToSql for Value<'_> {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Value::Text(text) => text.map(Kept).to_sql(kind, out),
            Value::Texts(texts) => {
                texts.iter().map(|text| text.map(Kept)).collect::<Vec<_>>().to_sql(kind, out)
            }
            Value::Int(number) => number.to_sql(kind, out),
            Value::Flag(flag) => flag.to_sql(kind, out),
            Value::Bytes(bytes) => bytes.to_sql(kind, out),
            Value::Time(time) => time.to_sql(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Value<'a> {
        Value::Text(Some(text))
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Value<'a> {
        Value::Text(Some(text))
    }
}

impl<'a> From<&'a Option<String>> for Value<'a> {
    fn from(text: &'a Option<String>) -> Value<'a> {
        Value::Text(text.as_deref())
    }
}

impl<'a> From<&'a SessionId> for Value<'a> {
    fn from(id: &'a SessionId) -> Value<'a> {
        Value::Text(Some(id.as_str()))
    }
}

impl<'a> From<&'a ExecutionId> for Value<'a> {
    fn from(id: &'a ExecutionId) -> Value<'a> {
        Value::Text(Some(id.as_str()))
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Value::Int(Some(number))
    }
}

/// What is beyond PostgreSQL's integers is no number of anything that it keeps.
impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Value::Int(Some(i64::try_from(number).unwrap_or(i64::MAX)))
    }
}

impl From<usize> for Value<'_> {
    fn from(number: usize) -> Self {
        Value::Int(Some(i64::try_from(number).unwrap_or(i64::MAX)))
    }
}

impl From<Option<u64>> for Value<'_> {
    fn from(number: Option<u64>) -> Self {
        number.map_or(Value::Int(None), Value::from)
    }
}

impl From<bool> for Value<'_> {
    fn from(flag: bool) -> Self {
        Value::Flag(flag)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Value<'a> {
    fn from(bytes: &'a [u8; N]) -> Value<'a> {
        Value::Bytes(Some(bytes))
    }
}

impl<'a, const N: usize> From<&'a Option<[u8; N]>> for Value<'a> {
    fn from(bytes: &'a Option<[u8; N]>) -> Value<'a> {
        Value::Bytes(bytes.as_ref().map(<[u8; N]>::as_slice))
    }
}

impl From<SystemTime> for Value<'_> {
    fn from(time: SystemTime) -> Self {
        Value::Time(Some(time))
    }
}

impl From<Option<SystemTime>> for Value<'_> {
    fn from(time: Option<SystemTime>) -> Self {
        Value::Time(time)
    }
}

/// PostgreSQL's text cannot hold NUL, and what people and agents say can: NUL is kept as this character and `0`, and the character
/// itself, which stands for nothing in Unicode, as it and `1`.
const MARK: char = '\u{10FFFF}';

#[derive(Debug)]
struct Kept<'a>(&'a str);

impl ToSql for Kept<'_> {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        if !self.0.contains(['\0', MARK]) {
            return self.0.to_sql(kind, out);
        }
        let mut kept = String::with_capacity(self.0.len() + 16);
        for character in self.0.chars() {
            match character {
                '\0' => kept.extend([MARK, '0']),
                MARK => kept.extend([MARK, '1']),
                other => kept.push(other),
            }
        }
        kept.to_sql(kind, out)
    }

    fn accepts(kind: &Type) -> bool {
        <&str as ToSql>::accepts(kind)
    }

    to_sql_checked!();
}

/// Text as it was before it was kept.
struct Said(String);

impl<'a> FromSql<'a> for Said {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Said, Box<dyn Error + Sync + Send>> {
        let text = String::from_sql(kind, raw)?;
        if !text.contains(MARK) {
            return Ok(Said(text));
        }
        let mut said = String::with_capacity(text.len());
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            match character {
                MARK if characters.next() == Some('0') => said.push('\0'),
                other => said.push(other),
            }
        }
        Ok(Said(said))
    }

    fn accepts(kind: &Type) -> bool {
        <String as FromSql<'_>>::accepts(kind)
    }
}

pub(super) fn text(row: &Row, column: usize) -> Result<String, Fault> {
    Ok(row.try_get::<_, Said>(column)?.0)
}

pub(super) fn optional_text(row: &Row, column: usize) -> Result<Option<String>, Fault> {
    Ok(row.try_get::<_, Option<Said>>(column)?.map(|said| said.0))
}

/// PostgreSQL's integers are signed; what stands here never is negative.
pub(super) fn unsigned(row: &Row, column: usize) -> Result<u64, Fault> {
    let number = row.try_get::<_, i64>(column)?;
    u64::try_from(number).map_err(|error| Fault::broken(error.to_string()))
}

pub(super) fn optional_unsigned(row: &Row, column: usize) -> Result<Option<u64>, Fault> {
    match row.try_get::<_, Option<i64>>(column)? {
        None => Ok(None),
        Some(_) => unsigned(row, column).map(Some),
    }
}

pub(super) fn digest(row: &Row, column: usize) -> Result<Option<[u8; 32]>, Fault> {
    let bytes = row.try_get::<_, Option<&[u8]>>(column)?;
    let digest = bytes.map(<[u8; 32]>::try_from).transpose();
    digest.map_err(|error| Fault::broken(error.to_string()))
}

pub(super) fn execution_id(row: &Row, column: usize) -> Result<ExecutionId, Fault> {
    ExecutionId::parse(&text(row, column)?).map_err(|error| Fault::broken(error.to_string()))
}

pub(super) fn state(row: &Row, column: usize) -> Result<TurnState, Fault> {
    let name = text(row, column)?;
    TurnState::parse(&name).ok_or_else(|| Fault::broken(format!("a turn in the state {name:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_comes_back_as_it_was() {
        for said in ["", "plain", "a\0b", "\0", "\u{10FFFF}0", "\u{10FFFF}\0\u{10FFFF}1\u{FFFD}"] {
            let mut raw = BytesMut::new();
            assert!(matches!(Kept(said).to_sql(&Type::TEXT, &mut raw), Ok(IsNull::No)));
            assert!(!raw.contains(&0), "PostgreSQL refuses it: {said:?}");
            assert_eq!(Said::from_sql(&Type::TEXT, &raw).unwrap().0, said);
        }
    }
}
