use alloc::{borrow::Cow, format, string::String, vec::Vec};
use core::cmp::Ordering;

use super::{Malformed, Misfit, number};
use crate::value::Value;

/// The shape of an answer's data: a subset of JSON Schema, an object whose members are strings, numbers, booleans or one of
/// some values (PROTOCOL 1.1).
///
/// What it does not check it refuses, so an answer that passes is one that the agent can rely on. It is flat, so neither reading
/// it nor checking by it recurses.
#[derive(Debug)]
pub struct Schema<'a> {
    properties: Vec<Property<'a>>,
    /// `"additionalProperties":false`.
    is_closed: bool,
}

/// The longest schema, in bytes.
const MAX_BYTES: usize = 64 * 1024;

/// As many as a word has bits, which remember those that an answer has.
const MAX_PROPERTIES: usize = u64::BITS as usize;

const MAX_VALUES: usize = 256;

#[derive(Debug)]
struct Property<'a> {
    name: Cow<'a, str>,
    is_required: bool,
    of: Option<Type>,
    /// The values of its `enum`.
    values: Option<Vec<Value<'a>>>,
    min_length: Option<u64>,
    max_length: Option<u64>,
    minimum: Option<f64>,
    maximum: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    String,
    Number,
    Integer,
    Boolean,
}

impl<'a> Schema<'a> {
    /// Reads a schema.
    ///
    /// # Errors
    ///
    /// What PROTOCOL 1.1 refuses, with its place.
    pub fn parse(schema: Value<'a>) -> Result<Self, Malformed> {
        let here = "data.schema";
        if schema.json().len() > MAX_BYTES {
            return Err(Malformed::new(here, "must be at most 64 KiB"));
        }
        if schema.get("type").and_then(Value::string).is_none_or(|kind| !kind.is("object")) {
            return Err(Malformed::new("data.schema.type", "must be \"object\""));
        }
        let mut read = Self { properties: Vec::new(), is_closed: false };
        let (mut required, mut wrong) = (None, None);
        schema.members(|key, value| match &*key.to_str() {
            "properties" => wrong = read.read_properties(value).err().or(wrong.take()),
            "required" => required = Some(value),
            "additionalProperties" => match value.json() {
                b"true" => read.is_closed = false,
                b"false" => read.is_closed = true,
                _ => {
                    let place = "data.schema.additionalProperties";
                    wrong = Some(Malformed::new(place, "must be true or false"));
                }
            },
            "type" => {}
            other if is_annotation(other) => {}
            other => wrong = Some(unknown(here, other)),
        });
        match (wrong, required) {
            (Some(wrong), _) => Err(wrong),
            (None, None) => Ok(read),
            (None, Some(required)) => read.require(required),
        }
    }

    fn read_properties(&mut self, properties: Value<'a>) -> Result<(), Malformed> {
        let here = "data.schema.properties";
        if !properties.is_object() {
            return Err(Malformed::new(here, "must be an object"));
        }
        let (mut count, mut wrong) = (0, None);
        properties.members(|name, value| {
            count += 1;
            if count > MAX_PROPERTIES || wrong.is_some() {
                return;
            }
            let name = name.to_str();
            if self.properties.iter().any(|known| known.name == name) {
                wrong = Some(Malformed::new(here, "must have no name twice"));
                return;
            }
            match Property::parse(&name, value) {
                Ok(property) => self.properties.push(property),
                Err(error) => wrong = Some(error),
            }
        });
        if count > MAX_PROPERTIES {
            wrong = Some(Malformed::new(here, "must be at most 64"));
        }
        wrong.map_or(Ok(()), Err)
    }

    fn require(mut self, required: Value<'a>) -> Result<Self, Malformed> {
        let mut is_well_formed = required.is_array();
        required.items(|name| {
            let property = name.string().and_then(|name| {
                self.properties.iter_mut().find(|property| name.is(&property.name))
            });
            match property {
                Some(property) => property.is_required = true,
                None => is_well_formed = false,
            }
        });
        let malformed = || Malformed::new("data.schema.required", "must be names of properties");
        if is_well_formed { Ok(self) } else { Err(malformed()) }
    }

    /// Whether an answer's data fits. Of a member that is there twice, each has to.
    ///
    /// # Errors
    ///
    /// The first misfit.
    pub fn check(&self, data: Value<'_>) -> Result<(), Misfit> {
        if !data.is_object() {
            return Err(Misfit::new("data", "be an object"));
        }
        let (mut seen, mut misfit) = (0_u64, None);
        data.members(|key, value| {
            if misfit.is_some() {
                return;
            }
            let known = self.properties.iter().position(|property| key.is(&property.name));
            match known {
                Some(at) => {
                    seen |= 1 << at;
                    misfit = self.properties[at].check(value).err();
                }
                None if self.is_closed => {
                    misfit = Some(Misfit::new("data", "have no members but those of the schema"));
                }
                None => {}
            }
        });
        let missing =
            |(at, property): &(usize, &Property<'_>)| property.is_required && seen & (1 << at) == 0;
        let first = self.properties.iter().enumerate().find(missing);
        match (misfit, first) {
            (Some(misfit), _) => Err(misfit),
            (None, Some((_, property))) => Err(property.misfit("be there")),
            (None, None) => Ok(()),
        }
    }
}

impl<'a> Property<'a> {
    fn parse(name: &Cow<'a, str>, schema: Value<'a>) -> Result<Self, Malformed> {
        let here = || format!("data.schema.properties.{name}");
        if !schema.is_object() {
            return Err(Malformed::new(here(), "must be an object"));
        }
        let mut read = Self {
            name: name.clone(),
            is_required: false,
            of: None,
            values: None,
            min_length: None,
            max_length: None,
            minimum: None,
            maximum: None,
        };
        let mut wrong = None;
        schema.members(|key, value| {
            let key = key.to_str();
            let is_well_formed = match &*key {
                "type" => {
                    read.of = value.string().and_then(|name| Type::parse(&name.to_str()));
                    read.of.is_some()
                }
                "enum" => {
                    read.values = values(value);
                    read.values.is_some()
                }
                "minLength" => {
                    read.min_length = length(value);
                    read.min_length.is_some()
                }
                "maxLength" => {
                    read.max_length = length(value);
                    read.max_length.is_some()
                }
                "minimum" => {
                    read.minimum = number(value);
                    read.minimum.is_some()
                }
                "maximum" => {
                    read.maximum = number(value);
                    read.maximum.is_some()
                }
                other if is_annotation(other) => true,
                other => {
                    wrong = Some(unknown(&here(), other));
                    return;
                }
            };
            if !is_well_formed {
                wrong = Some(Malformed::new(
                    format!("{}.{key}", here()),
                    "must be what its keyword says",
                ));
            }
        });
        if wrong.is_none() && read.of.is_none() && read.values.is_none() {
            wrong = Some(Malformed::new(here(), "must have a type or an enum"));
        }
        wrong.map_or(Ok(read), Err)
    }

    fn check(&self, value: Value<'_>) -> Result<(), Misfit> {
        let (text, number) = (value.string(), number(value));
        match self.of {
            Some(Type::String) if text.is_none() => return Err(self.misfit("be a string")),
            Some(Type::Number) if number.is_none() => return Err(self.misfit("be a number")),
            Some(Type::Integer) if !number.is_some_and(is_whole) => {
                return Err(self.misfit("be a whole number"));
            }
            Some(Type::Boolean) if !matches!(value.json(), b"true" | b"false") => {
                return Err(self.misfit("be true or false"));
            }
            _ => {}
        }
        if let Some(values) = &self.values
            && !values.iter().any(|known| is_equal(*known, value))
        {
            return Err(self.misfit("be one of the values of the schema"));
        }
        if let Some(text) = text {
            let length = text.to_str().chars().count() as u64;
            if let Some(least) = self.min_length.filter(|least| length < *least) {
                return Err(self.misfit(format!("have at least {least} characters")));
            }
            if let Some(most) = self.max_length.filter(|most| length > *most) {
                return Err(self.misfit(format!("have at most {most} characters")));
            }
        }
        if let Some(number) = number {
            if let Some(least) = self.minimum.filter(|least| number < *least) {
                return Err(self.misfit(format!("be at least {least}")));
            }
            if let Some(most) = self.maximum.filter(|most| number > *most) {
                return Err(self.misfit(format!("be at most {most}")));
            }
        }
        Ok(())
    }

    fn misfit(&self, must: impl Into<String>) -> Misfit {
        Misfit::new(format!("data.{}", self.name), must)
    }
}

impl Type {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "string" => Self::String,
            "number" => Self::Number,
            "integer" => Self::Integer,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }
}

/// What is for people, and checks nothing.
fn is_annotation(keyword: &str) -> bool {
    matches!(
        keyword,
        "title"
            | "description"
            | "default"
            | "examples"
            | "format"
            | "enumNames"
            | "$schema"
            | "$comment"
    )
}

fn unknown(place: &str, keyword: &str) -> Malformed {
    Malformed::new(format!("{place}.{keyword}"), "must not be there: it would not be checked")
}

/// The values of an `enum`: scalars, at least one.
fn values(list: Value<'_>) -> Option<Vec<Value<'_>>> {
    let (mut values, mut are_scalars) = (Vec::new(), list.is_array());
    list.items(|value| {
        are_scalars &= !value.is_object() && !value.is_array();
        if values.len() <= MAX_VALUES {
            values.push(value);
        }
    });
    (are_scalars && (1..=MAX_VALUES).contains(&values.len())).then_some(values)
}

fn length(value: Value<'_>) -> Option<u64> {
    value.json().first()?.is_ascii_digit().then(|| value.whole_number())?
}

fn is_whole(number: f64) -> bool {
    is_same(number % 1.0, 0.0)
}

fn is_same(one: f64, other: f64) -> bool {
    one.partial_cmp(&other) == Some(Ordering::Equal)
}

/// Whether two scalars are equal as JSON.
fn is_equal(one: Value<'_>, other: Value<'_>) -> bool {
    match (one.string(), other.string()) {
        (Some(one), Some(other)) => one.raw() == other.raw() || one.to_str() == other.to_str(),
        (None, None) => {
            one.json() == other.json()
                || number(one).zip(number(other)).is_some_and(|(one, other)| is_same(one, other))
        }
        _ => false,
    }
}
