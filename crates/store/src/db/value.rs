//! The five types of value that both engines share, and what Rust types they carry.

use bastide_core::{CollectionId, NamespaceId, Oid, RepoId, Sha256, Timestamp, TokenId, XetHash, id::RowId};
use bytes::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use crate::StoreError;

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Int(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

impl Value {
    const fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Int(_) => "an integer",
            Self::Real(_) => "a real number",
            Self::Text(_) => "text",
            Self::Blob(_) => "bytes",
        }
    }
}

/// Builds the parameters of a statement: `values![id, name, None::<i64>]`.
#[macro_export]
macro_rules! values {
    ($($value:expr),* $(,)?) => { &[$($crate::db::Value::from($value)),*] };
}

macro_rules! from_rust {
    ($($type:ty => |$value:ident| $make:expr),+ $(,)?) => {
        $(impl From<$type> for Value {
            fn from($value: $type) -> Self { $make }
        })+
    };
}

from_rust! {
    i64 => |value| Self::Int(value),
    u32 => |value| Self::Int(value.into()),
    // Sizes and counts: nothing that we hold is near 2^63.
    u64 => |value| Self::Int(i64::try_from(value).unwrap_or(i64::MAX)),
    usize => |value| Self::Int(i64::try_from(value).unwrap_or(i64::MAX)),
    bool => |value| Self::Int(value.into()),
    f64 => |value| Self::Real(value),
    &str => |value| Self::Text(value.to_owned()),
    String => |value| Self::Text(value),
    &String => |value| Self::Text(value.clone()),
    Vec<u8> => |value| Self::Blob(value),
    &[u8] => |value| Self::Blob(value.to_vec()),
    Oid => |value| Self::Blob(value.as_bytes().to_vec()),
    Sha256 => |value| Self::Blob(value.as_bytes().to_vec()),
    XetHash => |value| Self::Blob(value.as_bytes().to_vec()),
    [u8; 32] => |value| Self::Blob(value.to_vec()),
    RepoId => |value| Self::Int(value.as_i64()),
    NamespaceId => |value| Self::Int(value.as_i64()),
    TokenId => |value| Self::Int(value.as_i64()),
    CollectionId => |value| Self::Int(value.as_i64()),
    RowId => |value| Self::Int(value.as_i64()),
    Timestamp => |value| Self::Int(value.as_millis()),
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// One row of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Row(pub(crate) Vec<Value>);

impl Row {
    pub fn get<T: FromValue>(&self, column: usize) -> Result<T, StoreError> {
        let value = self.0.get(column).unwrap_or(&Value::Null);
        T::from_value(value).ok_or(StoreError::Column { column, wanted: T::WANTED, found: value.type_name() })
    }
}

pub trait FromValue: Sized {
    const WANTED: &'static str;
    fn from_value(value: &Value) -> Option<Self>;
}

macro_rules! to_rust {
    ($($type:ty, $wanted:literal, $pattern:pat => $make:expr);+ $(;)?) => {
        $(impl FromValue for $type {
            const WANTED: &'static str = $wanted;
            fn from_value(value: &Value) -> Option<Self> {
                match value { $pattern => $make, _ => None }
            }
        })+
    };
}

to_rust! {
    i64, "an integer", Value::Int(value) => Some(*value);
    u64, "a count", Value::Int(value) => u64::try_from(*value).ok();
    u32, "a count", Value::Int(value) => u32::try_from(*value).ok();
    bool, "a truth value", Value::Int(value) => Some(*value != 0);
    f64, "a real number", Value::Real(value) => Some(*value);
    String, "text", Value::Text(value) => Some(value.clone());
    Vec<u8>, "bytes", Value::Blob(value) => Some(value.clone());
    Oid, "a git object id", Value::Blob(value) => Self::from_slice(value).ok();
    Sha256, "a SHA-256", Value::Blob(value) => Self::from_slice(value).ok();
    XetHash, "a Xet hash", Value::Blob(value) => Self::from_slice(value).ok();
    [u8; 32], "32 bytes", Value::Blob(value) => value.as_slice().try_into().ok();
    RepoId, "a repository id", Value::Int(value) => Some(Self::from_i64(*value));
    NamespaceId, "a namespace id", Value::Int(value) => Some(Self::from_i64(*value));
    TokenId, "a token id", Value::Int(value) => Some(Self::from_i64(*value));
    CollectionId, "a collection id", Value::Int(value) => Some(Self::from_i64(*value));
    RowId, "an id", Value::Int(value) => Some(Self::from_i64(*value));
    Timestamp, "a time", Value::Int(value) => Some(Self::from_millis(*value));
}

impl<T: FromValue> FromValue for Option<T> {
    const WANTED: &'static str = T::WANTED;
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            other => T::from_value(other).map(Some),
        }
    }
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        use rusqlite::types::{ToSqlOutput, ValueRef};
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(value) => ValueRef::Integer(*value),
            Self::Real(value) => ValueRef::Real(*value),
            Self::Text(value) => ValueRef::Text(value.as_bytes()),
            Self::Blob(value) => ValueRef::Blob(value),
        }))
    }
}

impl ToSql for Value {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(value) if *ty == Type::FLOAT8 => {
                #[expect(clippy::cast_precision_loss, reason = "the column is a real number")]
                let real = *value as f64;
                real.to_sql(ty, out)
            }
            Self::Int(value) => value.to_sql(ty, out),
            Self::Real(value) => value.to_sql(ty, out),
            Self::Text(value) => value.to_sql(ty, out),
            Self::Blob(value) => value.as_slice().to_sql(ty, out),
        }
    }

    // The statements are ours and a test prepares each: a wrong type is the server's error.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
